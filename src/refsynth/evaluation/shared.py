"""Test rows that are also training rows: the report's section on them, and the file that lists them."""

from __future__ import annotations

from pathlib import Path

from refsynth.core.task import Task
from refsynth.core.types import Metric
from refsynth.data.write import PLAIN, write_table
from refsynth.evaluation.overlap import Overlap, SharedRow
from refsynth.evaluation.testfile import SHIPPED, TestResult
from refsynth.kinds import KINDS

FILE = "overlap.csv"


def overlap_of(test: TestResult, task: Task) -> Overlap | None:
    """Return the test rows that are also training rows, and the figures with and without them; None if there are none."""
    if not test.shared or task.test is None:
        return None
    rows: dict[bool, list[SharedRow]] = {True: [], False: []}
    for row in test.shared:
        rows[row.same].append(SharedRow(row=int(test.numbers[row.place]), train=row.train, alike=row.alike))
    return Overlap(
        file=task.test.name,
        n=len(test.truth),
        same=tuple(rows[True]),
        near=tuple(rows[False]),
        whole=figure_of(test, task),
        new=None if test.new is None else figure_of(test.new, task),
        apart=None if test.apart is None else figure_of(test.apart, task),
    )


def figure_of(test: TestResult, task: Task) -> Metric:
    """Return the shipped model's main figure on the test rows."""
    return KINDS[task.config.task].figures(test.truth, test.predicted[SHIPPED], len(task.labels), test.groups)[0]


def write_overlap(path: Path, overlap: Overlap | None) -> None:
    """Write the rows as CSV without their texts, identical ones first; None removes the file."""
    if overlap is None:
        path.unlink(missing_ok=True)
        return
    rows = (
        {"test_row": row.row, "train_row": row.train, "kind": kind, "alike": round(row.alike, 3)}
        for kind, rows in (("same", overlap.same), ("near", overlap.near))
        for row in rows
    )
    write_table(path, ("test_row", "train_row", "kind", "alike"), rows, style=PLAIN)
