"""`refsynth predict --out`: the user's table with the model's answer beside each row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from refsynth.core.errors import InputError
from refsynth.core.labelset import NONE
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.value import spell

if TYPE_CHECKING:
    from refsynth.core.types import Prediction
    from refsynth.data.rows import BadRow, Reading, Row
    from refsynth.data.write import Style

PREFIX = "predicted_"
DIGITS = 4
TABS = (".tsv", ".tab")


def names_for(taken: Iterable[str], *, spans: bool, none: bool = False) -> tuple[str, ...]:
    """Return the names of the new columns: label (or entities), confidence, unsure, and none_of_these if the bundle can tell.

    A name that the table has already gets the prefix `predicted_`.
    """
    from refsynth.data.table import distinct

    existing = {name.casefold() for name in taken}
    new = ("entities" if spans else "label", "confidence", "unsure", *(("none_of_these",) if none else ()))
    return tuple(distinct([PREFIX + name if name in existing else name for name in new], existing))


def scored_row(row: Row | BadRow, answer: Prediction | None, names: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table: all that was read, then the model's answer; empty cells for an unreadable row."""
    own = {f"{key}_" if key in names else key: value for key, value in row.values.items()}
    if answer is None:
        return own | dict.fromkeys(names)
    cells = (_answer(answer, row), round(answer.probability, DIGITS), answer.abstain, answer.none)
    return own | dict(zip(names, cells, strict=False))  # `names` has the last one only if the bundle can tell


def _answer(answer: Prediction, row: Row | BadRow) -> Any:
    if answer.entities is not None:
        text = getattr(row, "text", "")
        return [{**entity._asdict(), "text": text[entity.start : entity.end]} for entity in answer.entities]
    return answer.label if answer.labels is None else SEPARATOR.join(answer.labels) or NONE


def style_of(reading: Reading, file: str, target: Path, labels: Iterable[str]) -> Style:
    """Return the format of the table: that of the file that was read if it was CSV.

    Its encoding is used only if it can write the labels.
    """
    from refsynth.data.write import Style

    if reading.format != "csv":
        return Style(heads=reading.heads)
    tabs = Path(file).suffix.lower() in TABS and target.suffix.lower() not in TABS
    style = Style(reading.heads, "," if tabs else reading.delimiter)
    try:
        "".join(labels).encode(reading.encoding)
    except UnicodeEncodeError:
        return style
    return style._replace(encoding=reading.encoding)


class Errors:
    """The rows that could not be read. They are kept in a temporary file, so that there may be any number."""

    def __init__(self, kept: IO[bytes]) -> None:
        self._kept, self.count = kept, 0
        self.first: BadRow | None = None

    def add(self, row: BadRow) -> None:
        """Keep the place of a row and what is wrong with it."""
        self.first = self.first or row
        self.count += 1
        record = {"row": row.number, "error": row.message, "sheet_row": row.place, "own_id": spell(row.id) or ""}
        self._kept.write(json.dumps(record).encode() + b"\n")

    def write(self, path: Path) -> None:
        """Write the list as CSV; if there are no such rows, remove the list of an earlier run."""
        from refsynth.data.write import write_table

        if not self.count:
            path.unlink(missing_ok=True)
            return
        self._kept.seek(0)
        write_table(path, ("row", "error", "sheet_row", "own_id"), map(json.loads, self._kept))


@contextmanager
def keeping_errors() -> Iterator[Errors]:
    """Yield a collector for the rows that cannot be read."""
    with TemporaryFile() as kept:
        yield Errors(kept)


def errors_file(target: Path) -> Path:
    """Return the file that lists unreadable rows: `scored.errors.csv` beside `scored.xlsx`."""
    return target.with_name(f"{target.stem}.errors.csv")


def check_target(file: str, target: Path) -> None:
    """Check that the table can be written, and that it does not overwrite the file that is read.

    Raises:
        InputError: one of the two fails.
    """
    from refsynth.cli.files import check_writable
    from refsynth.data.write import check_suffix

    check_suffix(target)
    for path in (target, errors_file(target)):
        if file != "-" and path.exists() and path.samefile(file):
            raise InputError(f"{path}: is the input file", remedy="name another with --out")
        check_writable(path)
