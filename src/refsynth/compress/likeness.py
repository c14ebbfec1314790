"""How like its teacher something answers that ships in its place: the answers of both to texts that neither has learnt from."""

from __future__ import annotations

from pathlib import Path

from refsynth.bundle.model import Model
from refsynth.compress.keeping import Kept, kept_of
from refsynth.core.run import read_json, write_json
from refsynth.core.types import Array
from refsynth.kinds import as_json, from_json

ANSWERS = "answers.json"


def write_answers(folder: Path, *, theirs: Array, said: Array) -> None:
    """Write what a teacher and what ships in its place answer texts that neither has learnt from."""
    write_json(folder / ANSWERS, {"theirs": as_json(theirs), "said": as_json(said)})


def kept_in(folder: Path, teacher: Model) -> Kept | None:
    """Return the macro-F1 of such answers against the teacher's; None without any, or where it never says a label."""
    if not (folder / ANSWERS).exists():
        return None
    theirs, said = (from_json(read_json(folder / ANSWERS)[name]) for name in ("theirs", "said"))
    kind, k = teacher.manifest.answers, len(teacher.labels)
    return kept_of([kind.counts(theirs, theirs, k)], [kind.counts(theirs, said, k)])
