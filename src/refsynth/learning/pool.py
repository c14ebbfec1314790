"""The unlabeled texts of a task: clean, without duplicates, and without the texts of labeled rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refsynth.core.files import read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.core.run import RunFolder
from refsynth.core.sections import ContractConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.data.row_reader import Spans
from refsynth.data.rows import Row, iter_rows, readable
from refsynth.data.text import normalize
from refsynth.learning.outside import NOTHING, Outside
from refsynth.learning.rows import Rows, file_key
from refsynth.learning.selftrain import UnlabeledText

MOST_RESERVED = 4_000
"""The most texts that are reserved: more would tighten a certificate only a little."""

LARGEST = 20_000
"""The most texts of a pool that are used; a larger pool is sampled at random."""


@dataclass(frozen=True)
class Pool:
    """The unlabeled texts of a task.

    Attributes:
        texts: texts to learn from.
        reserved: texts that no model learns from; tiers are compared on them. Empty unless the task has tiers.
        rows: number of rows in the file.
        unreadable: number of rows that cannot be read.
    """

    texts: tuple[UnlabeledText, ...] = ()
    reserved: tuple[UnlabeledText, ...] = ()
    rows: int = 0
    unreadable: int = 0

    def without(self, ids: Collection[str]) -> Pool:
        """Return the pool without some texts. The others keep their place: no reserved text moves to the texts to learn from."""
        texts, reserved = (tuple(row for row in part if row.id not in ids) for part in (self.texts, self.reserved))
        return replace(self, texts=texts, reserved=reserved)


def reserve_half(texts: Sequence[UnlabeledText], *, seed: int) -> tuple[tuple[UnlabeledText, ...], tuple[UnlabeledText, ...]]:
    """Reserve half of the texts, drawn at random, and return the texts to learn from and the reserved ones."""
    order = np.random.default_rng(seed).permutation(len(texts))
    reserved = set(order[: min(len(texts) // 2, MOST_RESERVED)].tolist())
    return (
        tuple(text for place, text in enumerate(texts) if place not in reserved),
        tuple(text for place, text in enumerate(texts) if place in reserved),
    )


def draw(rows: list[Row], *, seed: int) -> list[Row]:
    """Return the rows, or `LARGEST` of them drawn at random and in their order."""
    if len(rows) <= LARGEST:
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))[:LARGEST]
    return [rows[place] for place in np.sort(drawn)]


def read_pool(task: Task, rows: Rows, folder: RunFolder, outside: Outside = NOTHING) -> Pool:
    """Return the texts of `data.pool` that are neither labeled rows nor texts of `outside`; an empty pool if nothing uses it.

    Raises:
        DataError: the file cannot be read, or none of its rows can.
    """
    config = task.config
    path, data = config.data.pool, config.data
    has_small_forms = config.compress.tiers != "one" or config.contract != ContractConfig()
    for_models = rows.examples and (config.selftrain.per_class or has_small_forms or "distilled" in config.learners)
    for_texts = config.pretrain.encoder or config.pretrain.reference or "topics" in config.synthesis.ways
    if path is None or not (for_models or for_texts):
        return Pool()
    file = path

    def make(out: Path) -> None:
        known = {*(normalize(example.text) for example in rows.examples), *outside.known}
        spans: Spans = "ignored" if rows.kind.words else "none"
        found = list(iter_rows(file, columns=data.columns, **data.written, spans=spans))
        usable = readable(file, found, remedy="correct data.pool or data.columns in task.yaml")
        fresh: dict[str, Row] = {}
        for row in usable:
            if (text := normalize(row.text)) not in known:
                fresh.setdefault(text, row)
        drawn = draw(list(fresh.values()), seed=derive_seed(config.seed, "pool"))
        write_jsonl(out / "texts.jsonl", [{"id": f"pool-{row.number}", "text": row.text} for row in drawn])
        write_json(out / "facts.json", {"rows": len(found), "unreadable": len(found) - len(usable)})

    extra = {"data.pool": file_key(path), "none": outside.key}
    done = folder.step(STEPS["pool"], make, config=settings_of(config), extra=extra)
    texts = tuple(UnlabeledText(**record) for record in read_jsonl(done / "texts.jsonl"))
    facts = read_json(done / "facts.json")
    reserved: tuple[UnlabeledText, ...] = ()
    if config.compress.tiers != "one":
        texts, reserved = reserve_half(texts, seed=derive_seed(config.seed, "aside"))
    return Pool(texts, reserved, facts["rows"], facts["unreadable"])
