"""An open data file: its records with row numbers, and what is wrong with the others. Knows nothing of texts or labels."""

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
    """A row's values by column; `line` is the physical line it starts on, where there are lines.

    `left` says why the people who labelled it left it out, where their tool says so. `sheet` is the row at which a spreadsheet
    shows it, where that is not the line: there a record is one row, however many lines it has.
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
    """Return where a person finds a row: at which row of a spreadsheet, or line of a file; None where there are neither."""
    return record.line if record.sheet is None else record.sheet


class Table(NamedTuple):
    """An open file. `columns` is None where each row names its own (JSONL); `delimiter` is empty where there is none.

    `notes` are sentences for the user about how the file is read; more may come while it is read. Of columns that are called
    alike the second has the key `name_2` in records, see `distinct`.
    """

    format: Format
    encoding: str
    delimiter: str
    columns: tuple[str, ...] | None
    records: Iterator[TableRecord | Fault]
    notes: list[str]


def refuse_idle(name: object, form: Format, **how: Unpack[FileFormat]) -> None:
    """Refuse an option on how a file is read that its format has no use for: the user means another file, or another option.

    Raises:
        DataError: there is one.
    """
    for option, value in how.items():
        if value is not None and not has_use(option, form):
            use = "a workbook" if option == "sheet" else "a text file" if option == "encoding" else "a CSV file"
            found = {"excel": "a workbook", "parquet": "Parquet", "csv": "a CSV file", "jsonl": "JSON"}.get(form, "plain text")
            raise DataError(f"--{option} {value}: {name} is {found}", expected=use, remedy=f"leave --{option} out")


def has_use(option: str, form: Format) -> bool:
    """Return whether an option on how files are read makes a difference for a format."""
    if option == "sheet":
        return form == "excel"
    return form not in ("excel", "parquet") if option == "encoding" else form == "csv"


def plain(value: Any) -> Any:
    """Return a value as JSON could hold it: None where it is missing, moments, decimals and bytes of text as texts."""
    if missing(value):
        return None
    if isinstance(value, str | int | float | list | dict):
        return value
    spelled = spell(value)
    return value if spelled is None else spelled


def distinct(names: Sequence[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names, those that are there or among `taken` already with `_2`, `_3` and so on behind."""
    used = {*taken}
    found: list[str] = []
    for name in names:
        fresh = name
        for number in itertools.count(2):
            if fresh not in used:
                break
            fresh = f"{name}_{number}"
        used.add(fresh)
        found.append(fresh)
    return tuple(found)


def kind_of(value: object) -> str:
    """Return a value's kind in JSON's words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (str, "string"), ((int, float), "number"), (dict, "object"), ((list, tuple), "array"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)
