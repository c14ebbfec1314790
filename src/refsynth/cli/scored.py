"""`refsynth predict --out`: the user's table with what the model says of each row beside it."""

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
    """Return what the columns are called: `label`, `confidence`, `unsure`; `predicted_label` where one is there already.

    A fourth is `none_of_these`, of a bundle that can tell.
    """
    from refsynth.data.table import distinct

    there = {name.casefold() for name in taken}
    wanted = ("entities" if spans else "label", "confidence", "unsure", *(("none_of_these",) if none else ()))
    return tuple(distinct([PREFIX + name if name in there else name for name in wanted], there))


def scored_row(row: Row | BadRow, answer: Prediction | None, names: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table: all that was read, and then what was said of it; of an unreadable row nothing was said."""
    own = {f"{key}_" if key in names else key: value for key, value in row.values.items()}
    if answer is None:
        return own | dict.fromkeys(names)
    said = (_said(answer, row), round(answer.probability, DIGITS), answer.abstain, answer.none)
    return own | dict(zip(names, said, strict=False))  # the last only of a bundle that can tell


def _said(answer: Prediction, row: Row | BadRow) -> Any:
    if answer.entities is not None:
        text = getattr(row, "text", "")
        return [{**found._asdict(), "text": text[found.start : found.end]} for found in answer.entities]
    return answer.label if answer.labels is None else SEPARATOR.join(answer.labels) or NONE


def style_of(reading: Reading, file: str, target: Path, labels: Iterable[str]) -> Style:
    """Return how the table looks: as the file that was read, where both are CSV and its encoding has the labels' letters."""
    from refsynth.data.write import Style

    if reading.format != "csv":
        return Style(heads=reading.heads)
    tabs = Path(file).suffix.lower() in TABS and target.suffix.lower() not in TABS
    try:
        "".join(labels).encode(reading.encoding)
    except UnicodeEncodeError:
        return Style(reading.heads, "," if tabs else reading.delimiter)
    return Style(reading.heads, "," if tabs else reading.delimiter, reading.encoding)


class Errors:
    """The rows that could not be read, kept in a file until they are listed, so that there may be any number."""

    def __init__(self, kept: IO[bytes]) -> None:
        self._kept, self.count = kept, 0
        self.first: BadRow | None = None

    def add(self, row: BadRow) -> None:
        """Keep where the row is and what is wrong with it."""
        self.first = self.first or row
        self.count += 1
        said = {"row": row.number, "error": row.message, "sheet_row": row.place, "own_id": spell(row.id) or ""}
        self._kept.write(json.dumps(said).encode() + b"\n")

    def write(self, path: Path) -> None:
        """List them as CSV; where there are none, no list of an earlier time stays."""
        from refsynth.data.write import write_table

        if not self.count:
            path.unlink(missing_ok=True)
            return
        self._kept.seek(0)
        write_table(path, ("row", "error", "sheet_row", "own_id"), map(json.loads, self._kept))


@contextmanager
def keeping_errors() -> Iterator[Errors]:
    """Give a place for the rows that cannot be read."""
    with TemporaryFile() as kept:
        yield Errors(kept)


def errors_file(target: Path) -> Path:
    """Return where unreadable rows are listed: `scored.errors.csv` beside `scored.xlsx`."""
    return target.with_name(f"{target.stem}.errors.csv")


def check_target(file: str, target: Path) -> None:
    """See that the table can be written, and not over what is read.

    Raises:
        InputError: it cannot.
    """
    from refsynth.cli.files import check_writable
    from refsynth.data.write import check_suffix

    check_suffix(target)
    for path in (target, errors_file(target)):
        if file != "-" and path.exists() and path.samefile(file):
            raise InputError(f"{path}: is the file that is read", remedy="name another with --out")
        check_writable(path)
