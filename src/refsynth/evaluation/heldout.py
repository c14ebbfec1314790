"""Writes and reads a table of the held-out rows with the model's answers and confidence; wrong answers come first.

It holds only rows of the training file: a test set that is used to improve the model no longer measures it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from refsynth.core.files import opened
from refsynth.core.marks import places_in, write_marks
from refsynth.core.spans import split_spans
from refsynth.core.types import Array, BoolArray, Example, FloatArray
from refsynth.data.account import RowPlace
from refsynth.data.cells import restored
from refsynth.data.write import PLAIN, write_table
from refsynth.evaluation.calibrate import Calibrated
from refsynth.evaluation.mistakes import HeldRow, ranked
from refsynth.learning.held import HeldOut
from refsynth.learning.rows import Rows

FILE = "held_out.csv"
NEEDED = ("id", "text", "label", "answer", "confidence", "unsure", "right", "score")
COLUMNS = ("id", *RowPlace._fields, *NEEDED[1:])


def held_rows(
    rows: Rows, labels: Sequence[str], held: HeldOut | None, logits: Array | None, calibrated: Calibrated
) -> list[HeldRow] | None:
    """Return the held-out rows with the shipped model's answers, ranked; None if it was not measured on held-out rows.

    Args:
        rows: the labeled rows.
        labels: the task's labels.
        held: the results of cross-validation.
        logits: the shipped model's logits on the held-out rows [R, N, C].
        calibrated: its calibration.
    """
    if held is None or logits is None:
        return None
    answers = held.answers_of(logits)[0]
    confidence, unsure = _confidence(held, calibrated, logits[0], answers)
    right, scores = held.kind.right(held.truth, answers), held.kind.scores(held.truth, answers)
    if held.kind.words:
        scores = right.astype(float)  # span F1 is not a mean over rows
    answered = [
        HeldRow(
            id=example.id,
            text=example.text,
            label=_shown(held, example, held.truth[place], labels),
            answer=_shown(held, example, answers[place], labels),
            confidence=float(confidence[place]),
            unsure=bool(unsure[place]),
            right=bool(right[place]),
            score=float(scores[place]),
            **rows.places.get(example.id, RowPlace())._asdict(),
        )
        for place, example in enumerate(rows.examples)
    ]
    return ranked(answered)


def _confidence(held: HeldOut, calibrated: Calibrated, logits: Array, answers: Array) -> tuple[FloatArray, BoolArray]:
    """Return the confidence of each answer, and whether the model abstains.

    Both use the temperature and threshold fitted on the other folds; rows that took no part in that use the shipped ones.
    """
    kind, crossed = held.kind, calibrated.crossed
    confidence = np.array(kind.confidence(kind.probabilities(logits / calibrated.temperature), answers), float)
    unsure = confidence < (0.0 if calibrated.threshold is None else calibrated.threshold.threshold)
    if crossed is not None:
        confidence[crossed.rows] = kind.confidence(crossed.probabilities, crossed.answers)
        unsure[crossed.rows] = crossed.unsure
    return confidence, unsure


def _shown(held: HeldOut, example: Example, answer: Array, labels: Sequence[str]) -> str:
    """Return an answer for people: its labels, or the text with its spans marked."""
    shown = held.kind.shown(answer, labels)
    return write_marks(example.text, places_in(example.text, split_spans(shown))) if held.kind.words else shown


def write_rows(path: Path, rows: Sequence[HeldRow] | None) -> None:
    """Write the rows as CSV in which no cell is a formula; None removes the file."""
    if rows is None:
        path.unlink(missing_ok=True)
        return
    write_table(path, COLUMNS, map(_record, rows), style=PLAIN)


def _record(row: HeldRow) -> dict[str, str]:
    marks = {name: "yes" if mark else "no" for name, mark in (("unsure", row.unsure), ("right", row.right))}
    return {**asdict(row), **marks, "confidence": f"{row.confidence:.4f}", "score": f"{row.score:.4f}"}


def read_rows(path: Path) -> list[HeldRow]:
    """Return the rows of a file that `write_rows` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has been changed, and is no such file.
    """
    with opened(path) as data, io.TextIOWrapper(data, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {*NEEDED} <= {*(reader.fieldnames or ())}:  # earlier versions wrote no columns on the place of a row
            raise ValueError(f"columns {', '.join(reader.fieldnames or ())}")
        return [_row(record) for record in reader]


def _row(record: dict[str, str]) -> HeldRow:
    if None in record.values():
        raise ValueError("a truncated row")
    return HeldRow(
        **{name: restored(record[name]) for name in ("id", "text", "label", "answer")},
        confidence=float(record["confidence"]),
        unsure=record["unsure"] == "yes",
        right=record["right"] == "yes",
        score=float(record["score"]),
        file=restored(record.get("file", "")),
        sheet_row=int(row) if (row := record.get("sheet_row", "")) else None,
        own_id=restored(record.get("own_id", "")),
    )
