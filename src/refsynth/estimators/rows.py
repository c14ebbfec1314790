"""What `fit` is given as the rows of a data file, and its settings as the tree of a task.yaml."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from refsynth.core.errors import ArgumentError, ConfigError, nearest
from refsynth.core.kinds import KindName
from refsynth.core.types import Array, FloatArray
from refsynth.data.arguments import names_of
from refsynth.data.source import ROW_LIMIT

OWN = {"pool", "test", "none"}
"""What `settings` may name under `data`; the rows are those that `fit` is given."""

SEEDS = 2**31
"""A seed is a whole number below this."""

RandomState = int | np.random.Generator | np.random.RandomState | None
"""Where randomness begins, as scikit-learn has it."""


class FitRows(NamedTuple):
    """What a fit is given.

    `records` are rows as a data file has them [N], `labels` what is said of each, as the caller writes it [N]. `form` is how
    answers go back, and `classes` are the K labels where the columns of y name them.
    """

    records: list[dict[str, Any]]
    labels: Sequence[Sequence[Any]]
    form: str = ""
    classes: Array | None = None


def weighed(records: Sequence[Mapping[str, Any]], weights: FloatArray | None) -> list[dict[str, Any]]:
    """Return each row once, with what all copies of it weigh together, and its place in X as its id.

    A run reads a text once however often it is there; so a row that is there twice is one of weight 2, and a row of weight 0
    is none. Rows are sorted: the same rows in another order, or repeated in place of weighed, give the same model.

    Raises:
        ArgumentError: a row is longer than a data file may have it.
    """
    total: defaultdict[str, float] = defaultdict(float)
    first: dict[str, int] = {}
    for place, (record, weight) in enumerate(zip(records, _ones(records, weights), strict=True)):
        line = json.dumps(record, ensure_ascii=False)
        if len(line) > ROW_LIMIT:
            raise ArgumentError(f"X[{place}]: found {len(line):,} characters", expected=f"at most {ROW_LIMIT:,} in a row")
        if weight:
            total[line] += weight
            first.setdefault(line, place)
    rows = [({**json.loads(line), "id": first[line]}, weight) for line, weight in sorted(total.items())]
    if all(weight == 1 for _, weight in rows):
        return [record for record, _ in rows]
    return [{**record, "weight": weight} for record, weight in rows]


def _ones(records: Sequence[Any], weights: FloatArray | None) -> list[float]:
    return [1] * len(records) if weights is None else weights.tolist()


def tree_of(task: KindName, settings: Mapping[str, Any] | None, drafts: int | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a task.yaml but for its labels and its seed.

    Args:
        task: the kind of task.
        settings: what the caller sets beside.
        drafts: how many are asked for, where that is said.
        data: the file of the rows, and its columns.

    Raises:
        ArgumentError: the settings are no mapping.
        ConfigError: they name what is not theirs.
    """
    if not isinstance(settings or {}, Mapping):
        raise ArgumentError(f"settings: found {type(settings).__name__}", expected="keys of task.yaml, a dict")
    tree = dict(settings or {})
    own = tree.pop("data", None) or {}
    if not isinstance(own, Mapping):
        raise ArgumentError(f"settings: found {type(own).__name__} under data", expected="keys of task.yaml, a dict")
    if taken := sorted({"task", "labels", "seed"} & set(tree) | {f"data.{key}" for key in set(own) - OWN}):
        raise ConfigError(f"settings: found {', '.join(taken)}", expected="keys that neither fit nor another parameter gives")
    if drafts is not None:
        tree["synthesis"] = {**(tree.get("synthesis") or {}), "drafts": drafts}
    return {**tree, "task": task, "data": {**own, **data}}


def meanings_of(told: Mapping[Any, str] | None, names: Sequence[str]) -> dict[str, str]:
    """Return each label with what it means; its name in words where that is not told.

    Raises:
        ArgumentError: what is told is no mapping, or is about a label that is not in y.
    """
    if not isinstance(told or {}, Mapping):
        raise ArgumentError(f"labels: found {type(told).__name__}", expected="each label with what it means, a dict")
    meant = dict(zip(names_of(list(told or ())), (told or {}).values(), strict=True))
    for name in meant:
        if name not in names:
            known = f"labels there: {', '.join(names)}"
            raise ArgumentError(f"labels: '{name}' is not in y", known=known, remedy=nearest(name, names))
    return {name: meant.get(name, name.replace("_", " ")) for name in names}


def seed_of(random_state: RandomState) -> int:
    """Return the seed of a run: a number is one, and a generator is asked for one, so that two fits differ.

    Raises:
        ArgumentError: it is neither, or the number is out of bounds.
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(SEEDS))
    if random_state is None or isinstance(random_state, np.random.RandomState):
        return int(check_random_state(random_state).randint(SEEDS - 1))
    if isinstance(random_state, (int, np.integer)) and 0 <= random_state < SEEDS:
        return int(random_state)
    found = repr(random_state)[:40] if isinstance(random_state, (int, float, str)) else type(random_state).__name__
    expected = f"a whole number from 0 to {SEEDS - 1:,}, a Generator or RandomState of numpy, or None"
    raise ArgumentError(f"random_state: found {found}", expected=expected)


def file_of(folder: Path) -> Path:
    """Return where a run folder holds the rows of a fit."""
    return folder / "rows.jsonl"
