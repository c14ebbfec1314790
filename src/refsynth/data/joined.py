"""Several columns as one: texts put together, and columns of yes and no as the set of labels that are so.

Such a column is named by those that it is made of, with ` + ` between: `Subject + Message`. A column that has this name itself is
taken as it is.
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
    """Return the table with the columns that are wanted and made of several."""
    wanted = {name: name in columns.texts for name in (*columns.texts, columns.label) if len(parts_of(name)) > 1}
    if table.columns is not None:
        wanted = {
            name: text for name, text in wanted.items() if name not in table.columns and {*parts_of(name)} <= {*table.columns}
        }
    if not wanted:
        return table
    names = None if table.columns is None else (*table.columns, *wanted)
    return table._replace(columns=names, records=_joined(table.records, wanted))


def _joined(records: Iterator[TableRecord | Fault], wanted: Mapping[str, bool]) -> Iterator[TableRecord | Fault]:
    for record in records:
        if isinstance(record, TableRecord):
            values = dict(record.values)
            for name, text in wanted.items():
                parts = parts_of(name)
                if name not in values and any(part in values for part in parts):
                    values[name] = _texts(values, parts) if text else yes_of(values, parts)
            record = record._replace(values=values)
        yield record


def _texts(values: Mapping[str, Any], parts: tuple[str, ...]) -> str:
    spelled = [spell(values.get(part)) or "" for part in parts]
    return _BETWEEN.join(text for text in spelled if text.strip())


def yes_of(values: Mapping[str, Any], parts: tuple[str, ...]) -> list[str] | dict[str, str] | None:
    """Return the columns that say yes; None where none says anything; what they say where one says neither yes nor no."""
    said = {part: (spell(values.get(part)) or "").strip().lower() for part in parts}
    if all(missing(values.get(part)) or not said[part] for part in parts):
        return None
    strange = {part: value for part, value in said.items() if value not in (*_NO, *_YES)}
    return strange or [part for part in parts if said[part] in _YES]
