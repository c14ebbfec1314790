"""The texts of `data.none`, which none of the labels fits: reading them, and dealing them into folds like the labeled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import DataError, counted
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed, digest
from refsynth.core.run import RunFolder
from refsynth.core.sections import Columns
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Example, IntArray
from refsynth.data.account import SkippedRow, describe_skipped
from refsynth.data.rows import BadRow, Row, open_rows
from refsynth.data.split import fold_of
from refsynth.data.text import clean, near_groups, normalize
from refsynth.learning.rows import Rows, file_key

LARGEST = 1_000
"""The most texts that are used; more are sampled. The model of every fold reads each, and more would move their mean little."""


@dataclass(frozen=True)
class Outside:
    """M different texts that belong to none of the labels.

    `groups` [M] numbers their groups of near-duplicates. `notes` are lines for the user about rows that were left out.
    """

    texts: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The hash of the texts, for step keys; empty without texts."""
        return digest(self.texts) if self.texts else ""

    @property
    def known(self) -> frozenset[str]:
        """The texts in the form in which texts are compared. No other file may use them as something else."""
        return frozenset(map(normalize, self.texts))

    def dealt(self, folds: IntArray, *, seed: int) -> IntArray:
        """Return the fold of each text in each repeat [R, M], given those of the rows [R, N]; near-duplicates share one."""
        texts = [Example(f"none-{place}", text, "") for place, text in enumerate(self.texts)]
        groups, out = np.array(self.groups, int), []
        for repeat, row_folds in enumerate(folds):
            numbers = np.unique(row_folds)
            fold = fold_of(texts, folds=len(numbers), seed=derive_seed(seed, "none", repeat), groups=groups)
            out.append(numbers[fold])
        return np.array(out, int).reshape(len(folds), len(texts))


NOTHING = Outside()


def read_outside(task: Task, rows: Rows, folder: RunFolder, *, skip_bad: bool) -> Outside:
    """Return the texts of `data.none`, from the step cache if they are there.

    Raises:
        DataError: the file cannot be used, holds no text, or holds the text of a labeled row.
    """
    source = task.config.data.none
    if source is None:
        return NOTHING
    key: Any = file_key(source) if isinstance(source, Path) else list(source)

    def make(out: Path) -> None:
        where, name = (str(source), source.name) if isinstance(source, Path) else ("data.none", "data.none")
        found, skipped = _read(task, source, skip_bad=skip_bad)
        if not found:
            account = "; ".join(describe_skipped(skipped)) or "no rows"
            raise DataError(f"{where}: no text to learn from: {account}", remedy="correct the file, or take data.none out")
        _refuse_labeled(task, where, found, rows.examples)
        notes = [f"{name}: {note}" for note in describe_skipped(skipped)]
        if len(found) > LARGEST:
            notes.append(f"{name}: {LARGEST:,} of {len(found):,} texts are drawn")
            drawn = np.random.default_rng(derive_seed(task.config.seed, "none")).permutation(len(found))[:LARGEST]
            found = [found[place] for place in np.sort(drawn)]
        texts = [row.text for row in found]
        facts = {"texts": texts, "groups": near_groups(texts).tolist(), "notes": notes}
        write_json(out / "none.json", {**facts, "skipped": [asdict(row) for row in skipped]})

    done = folder.step(STEPS["none"], make, config=settings_of(task.config), extra={"data.none": key, "skip_bad": skip_bad})
    facts = read_json(done / "none.json")
    return Outside(tuple(facts["texts"]), tuple(facts["groups"]), tuple(facts["notes"]))


def _read(task: Task, source: Path | Sequence[str], *, skip_bad: bool) -> tuple[list[Row], list[SkippedRow]]:
    """Return the first row of each text, and the rows that are left out with the reason."""
    found: dict[str, Row] = {}
    skipped: list[SkippedRow] = []
    for row in _rows(task, source):
        if isinstance(row, BadRow) and row.message != "empty text":
            if not skip_bad:
                remedy = "fix the row, or leave it out with --skip-bad-rows"
                raise DataError(f"{source}: row {row.number}: {row.message}", remedy=remedy)
            skipped.append(SkippedRow(row.number, "malformed", row.message))
        elif isinstance(row, BadRow) or not row.text:
            skipped.append(SkippedRow(row.number, "empty text", ""))
        elif (first := found.setdefault(normalize(row.text), row)) is not row:
            skipped.append(SkippedRow(row.number, "duplicate", f"the same as row {first.number}"))
    return list(found.values()), skipped


def _rows(task: Task, source: Path | Sequence[str]) -> list[Row | BadRow]:
    if not isinstance(source, Path):
        return [Row(place, clean(text), None, None) for place, text in enumerate(source, 1)]
    data = task.config.data
    usual = data.columns.model_copy(update={"text": Columns().text})
    with open_rows(source, columns=data.columns, otherwise=usual, **data.written) as reading:
        return list(reading.rows)


def _refuse_labeled(task: Task, where: str, found: Sequence[Row], examples: Sequence[Example]) -> None:
    """Raise DataError if a labeled row has one of the texts: the text would have a label and none."""
    labeled = {normalize(example.text): example for example in examples}
    both = [(row, labeled[text]) for row in found if (text := normalize(row.text)) in labeled]
    if not both:
        return
    row, example = both[0]
    file = task.config.data.more if example.id.startswith("more-") else task.train
    number = example.id.rpartition("-")[2]
    more = f" (and {counted(len(both) - 1, 'more text')})" if len(both) > 1 else ""
    raise DataError(
        f"{where}: row {row.number} has the text of row {number} of {file}, which is labeled '{example.label}'{more}",
        expected="texts that none of the labels fits",
        remedy="take the text out of one of the two",
    )
