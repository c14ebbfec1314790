"""Joins several columns into one: texts are concatenated, and yes/no columns become a set of labels.

The user names the columns with ` + ` between them: `Subject + Message`. A column that itself has this name is read unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refsynth.core.sections import Columns, parts_of
from refsynth.core.value import missing, spell
from refsynth.data.table import Fault, Table, TableRecord

_NO = ("", "0", "false", "no", "n", "-")
_YES = ("1", "true", "yes", "y", "x")
_BETWEEN = "\n\n"


def join_columns(table: Table, columns: Columns) -> Table:
    """Return the table with the columns of text and label that have to be joined from several."""
    joined = {name: name in columns.texts for name in (*columns.texts, columns.label) if len(parts_of(name)) > 1}
    if table.columns is not None:
        present = {*table.columns}
        joined = {name: text for name, text in joined.items() if name not in present and {*parts_of(name)} <= present}
    if not joined:
        return table
    names = None if table.columns is None else (*table.columns, *joined)
    return table._replace(columns=names, records=_joined(table.records, joined))


def _joined(records: Iterator[TableRecord | Fault], is_text: Mapping[str, bool]) -> Iterator[TableRecord | Fault]:
    for record in records:
        if isinstance(record, TableRecord):
            values = dict(record.values)
            for name, text in is_text.items():
                parts = parts_of(name)
                if name not in values and any(part in values for part in parts):
                    values[name] = _texts(values, parts) if text else yes_of(values, parts)
            record = record._replace(values=values)
        yield record


def _texts(values: Mapping[str, Any], parts: tuple[str, ...]) -> str:
    spelled = [spell(values.get(part)) or "" for part in parts]
    return _BETWEEN.join(text for text in spelled if text.strip())


def yes_of(values: Mapping[str, Any], parts: tuple[str, ...]) -> list[str] | dict[str, str] | None:
    """Return the columns with yes; None if all cells are empty; a mapping of the cells that are neither yes nor no, if any."""
    cells = {part: (spell(values.get(part)) or "").strip().lower() for part in parts}
    if all(missing(values.get(part)) or not cells[part] for part in parts):
        return None
    strange = {part: cell for part, cell in cells.items() if cell not in (*_NO, *_YES)}
    return strange or [part for part in parts if cells[part] in _YES]
