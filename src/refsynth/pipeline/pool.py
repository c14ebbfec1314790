"""The unlabelled texts of a task: cleaned, each one once, none that is a real row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.annotate.selftrain import Unlabelled
from refsynth.core.run import RunFolder, derive_seed, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.sections import ContractConfig
from refsynth.data.judge import Spans
from refsynth.data.rows import Row, iter_rows, readable
from refsynth.data.text import normalise
from refsynth.pipeline.outside import NOTHING, Outside
from refsynth.pipeline.relevant import settings_of
from refsynth.pipeline.rows import Rows, file_key
from refsynth.pipeline.stepspecs import STEPS
from refsynth.task import Task

ASIDE = 4_000
"""Texts that are set aside, at most: more certify little that these do not."""

LARGEST = 20_000
"""Texts of a pool that are looked at; of a larger one so many are drawn at random."""


class TextPool(NamedTuple):
    """The texts, how many rows the file has, and how many of these cannot be read."""

    texts: tuple[Unlabelled, ...]
    rows: int
    unreadable: int = 0


class Parted(NamedTuple):
    """A pool in two: what may be learnt from, and what is set aside for measuring."""

    learnt: tuple[Unlabelled, ...]
    aside: tuple[Unlabelled, ...]


def part(texts: Sequence[Unlabelled], *, seed: int) -> Parted:
    """Set half of the texts aside, drawn at random: what was not learnt from is then drawn like all that is to come."""
    order = np.random.default_rng(seed).permutation(len(texts))
    aside = set(order[: min(len(texts) // 2, ASIDE)].tolist())
    both = [tuple(text for place, text in enumerate(texts) if (place in aside) is out) for out in (False, True)]
    return Parted(*both)


def parted_pool(task: Task, pool: TextPool, *, forget: Sequence[str]) -> Parted:
    """Return what of a pool may be learnt from, and what is set aside to compare tiers; ids in `forget` are left out of both.

    What is left out changes nothing for the others: a text that was set aside would otherwise be learnt from unseen.
    """
    parts = Parted(pool.texts, ())
    if task.config.compress.tiers != "one":
        parts = part(pool.texts, seed=derive_seed(task.config.seed, "aside"))
    return Parted(*(tuple(row for row in texts if row.id not in forget) for texts in parts))


def draw(rows: list[Row], *, seed: int) -> list[Row]:
    """Return the rows, of too many as many as are looked at."""
    if len(rows) <= LARGEST:
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))[:LARGEST]
    return [rows[place] for place in np.sort(drawn)]


def read_pool(task: Task, rows: Rows, folder: RunFolder, outside: Outside = NOTHING) -> TextPool:
    """Return the texts of `data.pool` that are no real row and not `outside` all labels; nothing without a use for them.

    Raises:
        DataError: the file cannot be read, or has rows and not one that can.
    """
    path, data = task.config.data.pool, task.config.data
    config = task.config
    smaller = config.compress.tiers != "one" or config.contract != ContractConfig()
    labelled = rows.examples and (config.selftrain.per_class or smaller or "distilled" in config.learners)
    plainly = config.pretrain.encoder or config.pretrain.reference or "topics" in config.synthesis.ways
    if path is None or not (labelled or plainly):
        return TextPool((), 0)
    file = path

    def make(out: Path) -> None:
        known = {*(normalise(example.text) for example in rows.examples), *outside.known}
        spans: Spans = "ignored" if rows.kind.spans else "none"
        found = list(iter_rows(file, columns=data.columns, **data.written, spans=spans))
        usable = readable(file, found, remedy="correct data.pool or data.columns in task.yaml")
        fresh: dict[str, Row] = {}
        for row in usable:
            if (same := normalise(row.text)) not in known:
                fresh.setdefault(same, row)
        some = draw(list(fresh.values()), seed=derive_seed(task.config.seed, "pool"))
        write_jsonl(out / "texts.jsonl", [{"id": f"pool-{row.number}", "text": row.text} for row in some])
        write_json(out / "facts.json", {"rows": len(found), "unreadable": len(found) - len(usable)})

    extra = {"data.pool": file_key(path), "none": outside.key}
    done = folder.step(STEPS["pool"], make, config=settings_of(config), extra=extra)
    texts = tuple(Unlabelled(**record) for record in read_jsonl(done / "texts.jsonl"))
    facts = read_json(done / "facts.json")
    return TextPool(texts, facts["rows"], facts["unreadable"])
