"""An open data file: its records with row numbers, and its faulty rows. Knows nothing of texts or labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Unpack

from refsynth.core.errors import DataError
from refsynth.core.sections import FileFormat
from refsynth.core.value import missing, spell
from refsynth.data.account import Reason

Format = Literal["csv", "jsonl", "parquet", "excel", "text", "conll"]


class TableRecord(NamedTuple):
    """A row that could be read.

    Attributes:
        row: its number among the data rows, from 1.
        line: the physical line on which it starts, if the format has lines.
        left: why the annotators left it out, if their tool says so.
        sheet: the row at which a spreadsheet shows it, if that is not `line` (a record of several lines is one row there).
    """

    row: int
    line: int | None
    values: Mapping[str, Any]
    left: Reason | None = None
    sheet: int | None = None


class Fault(NamedTuple):
    """A row that could not be read, and why."""

    row: int
    line: int | None
    message: str
    sheet: int | None = None


def sheet_row(record: TableRecord | Fault) -> int | None:
    """Return the row of a spreadsheet or the line of a file at which a person finds the record; None if it has neither."""
    return record.line if record.sheet is None else record.sheet


class Table(NamedTuple):
    """An open file. If two columns have one name, the second has the key `name_2` in records, see `distinct`.

    Attributes:
        delimiter: the delimiter of CSV, else empty.
        columns: the names of the columns; None if each row names its own (JSONL).
        notes: sentences for the user about how the file is read; reading may add more.
    """

    format: Format
    encoding: str
    delimiter: str
    columns: tuple[str, ...] | None
    records: Iterator[TableRecord | Fault]
    notes: list[str]


def refuse_idle(name: object, form: Format, **how: Unpack[FileFormat]) -> None:
    """Refuse an option that has no effect on the file's format: the user means another file or another option.

    Raises:
        DataError: there is such an option.
    """
    for option, value in how.items():
        if value is not None and not has_use(option, form):
            use = "a workbook" if option == "sheet" else "a text file" if option == "encoding" else "a CSV file"
            kind = {"excel": "a workbook", "parquet": "Parquet", "csv": "a CSV file", "jsonl": "JSON"}.get(form, "plain text")
            raise DataError(f"--{option} {value}: {name} is {kind}", expected=use, remedy=f"leave --{option} out")


def has_use(option: str, form: Format) -> bool:
    """Return whether an option of reading files has an effect on a format."""
    if option == "sheet":
        return form == "excel"
    return form not in ("excel", "parquet") if option == "encoding" else form == "csv"


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: None if it is missing; dates, decimals and UTF-8 bytes become strings."""
    if missing(value):
        return None
    if isinstance(value, str | int | float | list | dict):
        return value
    spelled = spell(value)
    return value if spelled is None else spelled


def distinct(names: Sequence[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names with `_2`, `_3` and so on appended to those that repeat or are in `taken`."""
    used = {*taken}
    fresh: list[str] = []
    for name in names:
        variants = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        fresh.append(next(variant for variant in variants if variant not in used))
        used.add(fresh[-1])
    return tuple(fresh)


_JSON_TYPES = {
    type(None): "null", bool: "boolean", str: "string", int: "number", float: "number", dict: "object", list: "array",
    tuple: "array",
}  # fmt: skip


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type."""
    return next((name for kind, name in _JSON_TYPES.items() if isinstance(value, kind)), type(value).__name__)
