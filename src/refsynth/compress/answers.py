"""Answers of a teacher and of what ships in its place, on texts that neither has learned from."""

from __future__ import annotations

from pathlib import Path

from refsynth.bundle.model import Model
from refsynth.compress.keeping import Kept, kept_of
from refsynth.core.files import read_json, write_json
from refsynth.core.types import Array
from refsynth.kinds import as_json, from_json

ANSWERS = "answers.json"


def write_answers(folder: Path, *, teacher: Array, student: Array) -> None:
    """Write the answers of both."""
    write_json(folder / ANSWERS, {"teacher": as_json(teacher), "student": as_json(student)})


def kept_in(folder: Path, model: Model) -> Kept | None:
    """Return the macro-F1 against the teacher's answers; None without answers, or if the teacher predicts no label at all.

    Args:
        folder: where `write_answers` wrote.
        model: the teacher.
    """
    if not (folder / ANSWERS).exists():
        return None
    teacher, student = (from_json(read_json(folder / ANSWERS)[name]) for name in ("teacher", "student"))
    kind, k = model.manifest.answers, len(model.labels)
    return kept_of([kind.counts(teacher, teacher, k)], [kind.counts(teacher, student, k)])
