"""Test rows that are training rows too: the report's account of them, and the file that lists them all."""

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
    """Return which test rows are in train too, and the figure with and without them; None where none is."""
    if not test.shared or task.test is None:
        return None
    same, near = (
        tuple(
            SharedRow(row=int(test.numbers[one.place]), train=one.train, alike=one.alike) for one in test.shared if one.same is so
        )
        for so in (True, False)
    )
    return Overlap(
        file=task.test.name,
        n=len(test.truth),
        same=same,
        near=near,
        whole=figure_of(test, task),
        new=None if test.new is None else figure_of(test.new, task),
        apart=None if test.apart is None else figure_of(test.apart, task),
    )


def figure_of(test: TestResult, task: Task) -> Metric:
    """Return the first figure of what ships on the test rows."""
    return KINDS[task.config.task].figures(test.truth, test.predicted[SHIPPED], len(task.labels), test.groups)[0]


def write_overlap(path: Path, found: Overlap | None) -> None:
    """Write the rows as CSV, those of the same text first; without any no file stays. It holds no text."""
    if found is None:
        path.unlink(missing_ok=True)
        return
    rows = (
        {"test_row": row.row, "train_row": row.train, "kind": kind, "alike": round(row.alike, 3)}
        for kind, rows in (("same", found.same), ("near", found.near))
        for row in rows
    )
    write_table(path, ("test_row", "train_row", "kind", "alike"), rows, style=PLAIN)
