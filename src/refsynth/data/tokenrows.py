"""Groups a table with one token per row, its tag and the number of its sentence into one row per sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from typing import NamedTuple

from refsynth.data.schemes import OUTSIDES, is_scheme
from refsynth.data.table import Fault, Table, TableRecord

_SAMPLE = 500  # rows from which the columns are found
_SENTENCE = re.compile(r"(sentence|sent|doc|document|text)[ _-]?(#|id|idx|index|no|number|num)?|s[ _-]?id", re.IGNORECASE)
_TOKEN = re.compile(r"(token|word|form)s?", re.IGNORECASE)


class _Layout(NamedTuple):
    sentence: str
    token: str
    tag: str


def grouped(table: Table) -> Table:
    """Return a table of tokens, in which a column numbers the sentences, with one row per sentence; any other table unchanged."""
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
    if sentence is None:
        return whole
    return whole._replace(records=_sentences(whole.records, _Layout(sentence, token, tag), columns))


def _sentence(columns: Sequence[str], taken: set[str], values: dict[str, list[str]]) -> str | None:
    """Return the column that numbers sentences: it has a usual name, and each value fills one run of rows."""

    def runs(column: str) -> bool:
        filled = [value for value in values[column] if value]
        changes = 1 + sum(one != two for one, two in pairwise(filled))
        return bool(filled) and len(set(filled)) == changes

    fitting = [column for column in columns if column not in taken and _SENTENCE.fullmatch(column.strip())]
    return next((column for column in fitting if runs(column)), None)


def _sentences(rows: Iterator[TableRecord | Fault], layout: _Layout, columns: Sequence[str]) -> Iterator[TableRecord | Fault]:
    """Yield sentences. An empty sentence cell continues the sentence; one bad row makes its whole sentence a fault."""
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
    """Return a cell stripped; None, as in a workbook, becomes an empty text."""
    value = row.values[column]
    return "" if value is None else str(value).strip()
