"""Detects how a CSV file is written (delimiter, quotes, escapes), and reads its records.

Dialects are tried on the first rows, and the one that reads most of them wins. A quote at the start of a field may be an
ordinary character: read as a quote, it would swallow the rows up to the next quote. Records of several lines are checked for it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from refsynth.core.errors import DataError
from refsynth.core.sections import Quoting
from refsynth.data import source
from refsynth.data.cells import QUOTE, risky
from refsynth.data.source import Line, Lines, trouble_of

DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?', re.I)  # Excel's own first line, which names the delimiter
_HEAD = 2000  # lines on which dialects are tried
_HEAD_SIZE = 4 * source.ROW_LIMIT  # most characters of these lines
_FIRST = 50  # lines from which the delimiter is detected
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        escape: the character before a quote inside a field.
        padded: whether spaces follow a delimiter.
        lines: whether each line is a record, so that quotes are ordinary characters.
        usual: the values of each column in records of one line. A line inside quotes with one of these values, and as many
            fields as the header, is a row that a quote swallowed.
    """

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    padded: bool = False
    lines: bool = False
    usual: tuple[frozenset[str], ...] = ()

    def describe(self) -> str | None:
        """Return how the dialect differs from plain CSV; None if it does not."""
        parts = [
            "quotes are read as characters, since they would swallow rows (data.quoting)" if self.lines and self.usual else "",
            "a backslash stands before quotes in a field" if self.escape else "",
            f"fields are quoted with {self.quote}" if self.quote != '"' else "",
        ]
        return "; ".join(part for part in parts if part) or None


def check_delimiter(delimiter: str) -> str:
    """Return the delimiter that the user named.

    Raises:
        DataError: it is not one character.
    """
    delimiter = _NAMES.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter {delimiter!r}: not usable", expected="one character, or tab")
    return delimiter


def named_delimiter(lines: Lines) -> str | None:
    """Return the delimiter of a first line such as `sep=;`, as spreadsheets write it, and skip that line; else None."""
    read = lines.through_first()
    match = _SEP.fullmatch(read[-1].text.strip("\r\n ")) if read else None
    if match is None:
        lines.give_back(read)
    return match[1] if match else None


def detect_dialect(lines: Lines, delimiter: str | None = None, quoting: Quoting | None = None) -> Dialect:
    """Detect the dialect from the first lines, which are given back. A named delimiter or quoting is used as it is."""
    head = list(_head(lines))
    lines.give_back(head)
    dialect = Dialect(delimiter or _detect_delimiter(head[:_FIRST]), lines=quoting == "none")
    if quoting == "none":
        return dialect
    dialect = _best(dialect, head)
    if quoting == "standard":
        return dialect
    usual, spanning = _usual(head, dialect)
    dialect = replace(dialect, usual=usual)
    swallowed = [_swallows(record, dialect) for record in spanning]
    return replace(dialect, lines=bool(swallowed) and all(swallowed))


def _head(lines: Lines) -> Iterator[Line]:
    size = 0
    for number, line in enumerate(lines, 1):
        yield line
        size += len(line.text)
        if number >= _HEAD or size >= _HEAD_SIZE:
            return


def _detect_delimiter(head: Sequence[Line]) -> str:
    """Return the delimiter with which most of the first records have as many fields as the header, and more than one."""

    def agreement(delimiter: str) -> float:
        rows = [fields for fields in _replayed(head, Dialect(delimiter)) if not isinstance(fields, str)]
        return 0.0 if not rows or len(rows[0]) < 2 else sum(len(row) == len(rows[0]) for row in rows) / len(rows)

    return max(DELIMITERS, key=agreement)


def _best(plain: Dialect, head: Sequence[Line]) -> Dialect:
    """Return the plain dialect, or the variant that reads more of the first lines as rows."""
    rows = [line.text.strip() for line in head[1:] if line.text.strip()]
    best, most = plain, _fit(plain, head)
    padded = re.compile(re.escape(plain.delimiter) + ' +"')
    if any(padded.search(line.text) for line in head):
        other = replace(plain, padded=True)
        if (fit := _fit(other, head)) >= most:
            best, most = other, fit
    if any('\\"' in row for row in rows):
        other = replace(best, escape="\\")
        if (fit := _fit(other, head)) > most:
            best, most = other, fit
    quoted = rows and all(row[0] == row[-1] == QUOTE and len(row) > 1 for row in rows)
    if quoted and not any(_has_disarmed(line, plain) for line in head):
        other = replace(plain, quote="'")
        if _fit(other, head) >= most:
            best = other
    return best


def _has_disarmed(line: Line, dialect: Dialect) -> bool:
    """Return whether a cell has the apostrophe that disarms a formula, so that apostrophes are not quotes here."""
    return any(field.startswith(QUOTE) and risky(field[1:]) for field in _split(line, dialect))


def _fit(dialect: Dialect, head: Sequence[Line]) -> float:
    """Return the share of records with as many fields as the header."""
    records = list(_replayed(head, dialect))
    width = len(records[0]) if records and not isinstance(records[0], str) else 0
    return sum(len(record) == width for record in records if not isinstance(record, str)) / max(1, len(records))


def _again(head: Iterable[Line]) -> Lines:
    lines = Lines(io.BytesIO(), "utf-8")
    lines.give_back(list(head))
    return lines


def _replayed(head: Iterable[Line], dialect: Dialect) -> Iterator[list[str] | str]:
    return (record.fields for record in records_of(_again(head), dialect))


def _usual(head: Sequence[Line], dialect: Dialect) -> tuple[tuple[frozenset[str], ...], list[list[Line]]]:
    """Return the values of each column in records of one line, and the lines of each longer record."""
    lines = _again(head)
    columns: list[set[str]] = []
    spanning: list[list[Line]] = []
    for start in lines:
        if not start.text.strip():
            continue
        used = [start]
        try:
            fields = _parse(start, lines, used, dialect)
        except (csv.Error, ValueError):
            lines.give_back(used[1:])
            continue
        if not columns:
            columns = [set() for _ in fields]
        elif len(used) > 1:
            spanning.append(used)
        elif len(fields) == len(columns):
            for values, field in zip(columns, fields, strict=True):
                values.add(field.strip())
    return tuple(frozenset(values - {""}) for values in columns), spanning


def _swallows(used: Sequence[Line], dialect: Dialect) -> bool:
    """Return whether each line of a record looks like a row: as many fields as the header, and one with a usual value."""
    rows = [_split(line, dialect) for line in used]
    if len(rows) < 2 or not all(len(row) == len(dialect.usual) > 1 for row in rows):
        return False
    return any(all(row[place].strip() in values for row in rows) for place, values in enumerate(dialect.usual))


def _split(line: Line, dialect: Dialect) -> list[str]:
    return line.text.rstrip("\r\n").split(dialect.delimiter)


class CsvRecord(NamedTuple):
    """A CSV record: its first line, its row in a spreadsheet, and its fields, or what is wrong with it."""

    line: int
    sheet: int
    fields: list[str] | str


def records_of(lines: Lines, dialect: Dialect) -> Iterator[CsvRecord]:
    """Yield the records. After a faulty one, reading continues at the next line. Spreadsheets count blank lines as rows."""
    for sheet, start in enumerate(lines, 1):
        if not start.text.strip():
            continue
        if dialect.lines:
            yield CsvRecord(start.number, sheet, trouble_of(start) or _of_line(start, dialect))
            continue
        used = [start]
        try:
            fields: list[str] | str = _parse(start, lines, used, dialect)
        except (csv.Error, ValueError) as error:
            lines.give_back(used[1:])
            fields = str(error)
            if "expected after" in fields or "end of data" in fields:
                fields = 'a quote (") is not closed, or stands inside a quoted field: there it is written twice (""); '
                fields += "if quotes are ordinary characters: data.quoting: none"
        else:
            if _swallows(used, dialect):
                lines.give_back(used[1:])
                fields = (
                    f'a quote (") opens here and closes on line {used[-1].number}, but each line between looks like a row; '
                    "if quotes are ordinary characters: data.quoting: none"
                )
        yield CsvRecord(start.number, sheet, fields)


def _of_line(line: Line, dialect: Dialect) -> list[str]:
    """Return the fields of a line that is a record; quotes are removed if they enclose whole fields, else kept."""
    fields = _split(line, dialect)
    try:
        quoted = next(csv.reader([line.text], delimiter=dialect.delimiter, strict=True))
    except csv.Error:
        return fields
    enclosed = all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields if '"' in field)
    return quoted if len(fields) != len(quoted) or enclosed else fields


def _parse(start: Line, lines: Lines, used: list[Line], dialect: Dialect) -> list[str]:
    def feed() -> Iterator[str]:
        size, line = 0, start
        while True:
            if trouble := trouble_of(line):
                raise ValueError(trouble)
            size += len(line.text)
            if size > source.ROW_LIMIT:
                raise ValueError(f'longer than {source.ROW_LIMIT:,} characters; is a quote (") not closed?')
            yield line.text
            following = next(lines, None)
            if following is None:
                return
            used.append(line := following)

    usual = csv.field_size_limit(source.ROW_LIMIT + 1)
    try:
        reader = csv.reader(
            feed(), delimiter=dialect.delimiter, quotechar=dialect.quote, escapechar=dialect.escape,
            skipinitialspace=dialect.padded, strict=True,
        )  # fmt: skip
        return next(reader)
    finally:
        csv.field_size_limit(usual)
