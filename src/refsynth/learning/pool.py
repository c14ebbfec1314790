"""The unlabelled texts of a task: cleaned, each one once, none that is a real row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from refsynth.core.run import RunFolder, derive_seed, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.sections import ContractConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.data.judge import Spans
from refsynth.data.rows import Row, iter_rows, readable
from refsynth.data.text import normalize
from refsynth.learning.outside import NOTHING, Outside
from refsynth.learning.rows import Rows, file_key
from refsynth.learning.selftrain import Unlabelled

ASIDE = 4_000
"""Texts that are set aside, at most: more certify little that these do not."""

LARGEST = 20_000
"""Texts of a pool that are looked at; of a larger one so many are drawn at random."""


@dataclass(frozen=True)
class Pool:
    """The unlabelled texts of a task that are no real rows.

    Attributes:
        texts: what may be learned from.
        aside: what nothing learns from: tiers are compared on it. Empty unless there are tiers.
        rows: of the file.
        unreadable: how many of these cannot be read.
    """

    texts: tuple[Unlabelled, ...] = ()
    aside: tuple[Unlabelled, ...] = ()
    rows: int = 0
    unreadable: int = 0

    def without(self, ids: Collection[str]) -> Pool:
        """Return it without some texts.

        What is left out changes nothing for the others: a text that was set aside would otherwise be learned from unseen.
        """
        texts, aside = (tuple(row for row in some if row.id not in ids) for some in (self.texts, self.aside))
        return replace(self, texts=texts, aside=aside)


def part(texts: Sequence[Unlabelled], *, seed: int) -> tuple[tuple[Unlabelled, ...], tuple[Unlabelled, ...]]:
    """Set half of the texts aside, drawn at random, and return what is left and that half.

    What was not learned from is then drawn like all that is to come.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    aside = set(order[: min(len(texts) // 2, ASIDE)].tolist())
    left, out = (tuple(text for place, text in enumerate(texts) if (place in aside) is wanted) for wanted in (False, True))
    return left, out


def draw(rows: list[Row], *, seed: int) -> list[Row]:
    """Return the rows, of too many as many as are looked at."""
    if len(rows) <= LARGEST:
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))[:LARGEST]
    return [rows[place] for place in np.sort(drawn)]


def read_pool(task: Task, rows: Rows, folder: RunFolder, outside: Outside = NOTHING) -> Pool:
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
        return Pool()
    file = path

    def make(out: Path) -> None:
        known = {*(normalize(example.text) for example in rows.examples), *outside.known}
        spans: Spans = "ignored" if rows.kind.spans else "none"
        found = list(iter_rows(file, columns=data.columns, **data.written, spans=spans))
        usable = readable(file, found, remedy="correct data.pool or data.columns in task.yaml")
        fresh: dict[str, Row] = {}
        for row in usable:
            if (same := normalize(row.text)) not in known:
                fresh.setdefault(same, row)
        some = draw(list(fresh.values()), seed=derive_seed(task.config.seed, "pool"))
        write_jsonl(out / "texts.jsonl", [{"id": f"pool-{row.number}", "text": row.text} for row in some])
        write_json(out / "facts.json", {"rows": len(found), "unreadable": len(found) - len(usable)})

    extra = {"data.pool": file_key(path), "none": outside.key}
    done = folder.step(STEPS["pool"], make, config=settings_of(config), extra=extra)
    texts = tuple(Unlabelled(**record) for record in read_jsonl(done / "texts.jsonl"))
    facts = read_json(done / "facts.json")
    aside: tuple[Unlabelled, ...] = ()
    if config.compress.tiers != "one":
        texts, aside = part(texts, seed=derive_seed(config.seed, "aside"))
    return Pool(texts, aside, facts["rows"], facts["unreadable"])
