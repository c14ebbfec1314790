"""A table with a token a row, its tag, and which sentence it is of, as a table with a sentence a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import NamedTuple

from refsynth.data.schemes import OUTSIDES, is_scheme
from refsynth.data.table import Fault, Table, TableRecord

_SAMPLE = 500  # rows that the columns are found from
_SENTENCE = re.compile(r"(sentence|sent|doc|document|text)[ _-]?(#|id|idx|index|no|number|num)?|s[ _-]?id", re.IGNORECASE)
_TOKEN = re.compile(r"(token|word|form)s?", re.IGNORECASE)


class _Layout(NamedTuple):
    sentence: str
    token: str
    tag: str


def grouped(table: Table) -> Table:
    """Return a table with a sentence a row, where each row is a token with its tag and a column numbers the sentences.

    Any other table is as it was.
    """
    head = list(islice(table.records, _SAMPLE))
    whole = table._replace(records=chain(head, table.records))
    columns = table.columns or ()
    rows = [record for record in head if isinstance(record, TableRecord)]
    token = next((column for column in columns if _TOKEN.fullmatch(column)), None)
    if token is None or not rows:
        return whole
    tags = {column: [_cell(row, column) for row in rows] for column in columns if column != token}
    tag = next((column for column in reversed(columns) if is_scheme(tags.get(column, ()))), None)
    if tag is None or any(" " in _cell(row, token) for row in rows):
        return whole
    sentence = _sentence(columns, {token, tag}, tags)
    return (
        whole if sentence is None else whole._replace(records=_sentences(whole.records, _Layout(sentence, token, tag), columns))
    )


def _sentence(columns: Sequence[str], taken: set[str], values: dict[str, list[str]]) -> str | None:
    """Return the column that numbers sentences: by its name, if its values come in runs."""

    def runs(column: str) -> bool:
        filled = [value for value in values[column] if value]
        changes = 1 + sum(one != two for one, two in pairwise(filled))
        return bool(filled) and len(set(filled)) == changes

    fitting = [column for column in columns if column not in taken and _SENTENCE.fullmatch(column.strip())]
    return next((column for column in fitting if runs(column)), None)


def _sentences(rows: Iterator[TableRecord | Fault], layout: _Layout, columns: Sequence[str]) -> Iterator[TableRecord | Fault]:
    """Yield sentences. An empty sentence column means that of the row before; a bad row spoils its sentence."""
    number, now, trouble = 0, None, ""
    held: list[TableRecord] = []
    line: int | None = None
    sheet: int | None = None
    for row in chain(rows, [None]):
        key = _cell(row, layout.sentence) if isinstance(row, TableRecord) else ""
        if row is None or (key and key != now):
            if held or trouble:
                number += 1
                values = {} if trouble else _joined(held, layout, columns)
                yield Fault(number, line, trouble, sheet) if trouble else TableRecord(number, line, values, sheet=sheet)
            held, trouble, now = [], "", key
            line, sheet = (None, None) if row is None else (row.line, row.sheet)
        if isinstance(row, Fault):
            trouble = trouble or f"row {row.row} of the table: {row.message}"
        elif row is not None:
            if not _cell(row, layout.token) or not _cell(row, layout.tag):
                trouble = trouble or f"row {row.row} of the table: a token without a tag, or a tag without a token"
            held.append(row)


def _joined(held: Sequence[TableRecord], layout: _Layout, columns: Sequence[str]) -> dict[str, object]:
    lists = {column: [_cell(row, column) for row in held] for column in columns if column != layout.sentence}
    lists[layout.tag] = [tag if tag not in OUTSIDES else OUTSIDES[0] for tag in lists[layout.tag]]
    return {layout.sentence: held[0].values[layout.sentence], **lists}


def _cell(row: TableRecord, column: str) -> str:
    """Return a cell without its margin; empty where nothing stands, as in a workbook."""
    value = row.values[column]
    return "" if value is None else str(value).strip()
