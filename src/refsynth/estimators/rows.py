"""Converts the arguments of `fit` to the rows of a data file, and the settings to the tree of a task.yaml."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from refsynth.core.errors import ArgumentError, ConfigError, nearest
from refsynth.core.kinds import KindName
from refsynth.core.types import Array, FloatArray
from refsynth.data.arguments import names_of
from refsynth.data.source import ROW_LIMIT

OWN = {"pool", "test", "none"}
"""The keys that `settings` may have under `data`; the rows themselves are arguments of `fit`."""

SEEDS = 2**31
"""Seeds are integers below this."""

RandomState = int | np.random.Generator | np.random.RandomState | None
"""What `random_state` takes, as in scikit-learn."""


class FitRows(NamedTuple):
    """The arguments of a fit as rows.

    Attributes:
        records: rows as a data file has them [N].
        labels: the labels of each row, as the caller wrote them [N].
        form: the form of y, which predictions get too.
        classes: the K labels if y is a matrix, else None.
    """

    records: list[dict[str, Any]]
    labels: Sequence[Sequence[Any]]
    form: str = ""
    classes: Array | None = None


def weighed(records: Sequence[Mapping[str, Any]], weights: FloatArray | None) -> list[dict[str, Any]]:
    """Return each distinct row once, with the total weight of its copies and its first place in X as its id.

    A run reads each text once, so a row that occurs twice becomes one row of weight 2, and a row of weight 0 is left out. Rows
    are sorted: the same rows in another order, or repeated instead of weighted, give the same model.

    Raises:
        ArgumentError: a row is longer than a data file may have it.
    """
    total: defaultdict[str, float] = defaultdict(float)
    first: dict[str, int] = {}
    numbers: list[float] = [1] * len(records) if weights is None else weights.tolist()
    for place, (record, weight) in enumerate(zip(records, numbers, strict=True)):
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


def tree_of(task: KindName, settings: Mapping[str, Any] | None, drafts: int | None, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of a task.yaml without its labels and seed.

    Args:
        task: the task kind.
        settings: further keys from the caller.
        drafts: number of drafts to request; None for the default.
        data: the file of the rows, and its columns.

    Raises:
        ArgumentError: the settings are not a mapping.
        ConfigError: the settings have a key that another argument sets.
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


def meanings_of(labels: Mapping[Any, str] | None, names: Sequence[str]) -> dict[str, str]:
    """Return the meaning of each label; by default its name, with spaces for underscores.

    Raises:
        ArgumentError: the meanings are not a mapping, or have a label that is not in y.
    """
    if not isinstance(labels or {}, Mapping):
        raise ArgumentError(f"labels: found {type(labels).__name__}", expected="each label with what it means, a dict")
    meanings = dict(zip(names_of(list(labels or ())), (labels or {}).values(), strict=True))
    for name in meanings:
        if name not in names:
            known = f"labels there: {', '.join(names)}"
            raise ArgumentError(f"labels: '{name}' is not in y", known=known, remedy=nearest(name, names))
    return {name: meanings.get(name, name.replace("_", " ")) for name in names}


def seed_of(random_state: RandomState) -> int:
    """Return the seed of a run: the integer itself, or one drawn from the generator, so that two fits differ.

    Raises:
        ArgumentError: the value is neither, or the integer is out of bounds.
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
