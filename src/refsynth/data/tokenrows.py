"""A table with a token a row, its tag, and which sentence it is of, as a table with a sentence a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import DataError
from refsynth.data.records import Fault, Record, Table
from refsynth.data.schemes import OUTSIDES, is_scheme

_SAMPLE = 500  # rows that the columns are found from
_SENTENCE = re.compile(r"(sentence|sent|doc|document|text)[ _-]?(#|id|idx|index|no|number|num)?|s[ _-]?id", re.IGNORECASE)
_TOKEN = re.compile(r"(token|word|form)s?", re.IGNORECASE)


class _Layout(NamedTuple):
    sentence: str
    token: str
    tag: str


def grouped(path: Path, table: Table) -> Table:
    """Return a table with a sentence a row, where each row is a token with its tag; any other table as it is.

    Raises:
        DataError: each row is a token with its tag, and no column says where a sentence ends.
    """
    head = list(islice(table.records, _SAMPLE))
    whole = table._replace(records=chain(head, table.records))
    columns = table.columns or ()
    rows = [record for record in head if isinstance(record, Record)]
    token = next((column for column in columns if _TOKEN.fullmatch(column)), None)
    if token is None or not rows:
        return whole
    tags = {column: [str(row.values[column]).strip() for row in rows] for column in columns if column != token}
    tag = next((column for column in reversed(columns) if is_scheme(tags.get(column, ()))), None)
    if tag is None or any(" " in str(row.values[token]).strip() for row in rows):
        return whole
    sentence = _sentence(columns, {token, tag}, tags)
    if sentence is None:
        raise DataError(
            f"{path}: each row is a token ('{token}') with its tag ('{tag}'), and no column says which sentence it is of",
            known=f"columns there: {', '.join(columns[:12])}",
            remedy="add a column sentence_id, or write a CoNLL file: a token a line, a blank line after each sentence",
        )
    return whole._replace(records=_sentences(whole.records, _Layout(sentence, token, tag), columns))


def _sentence(columns: Sequence[str], taken: set[str], values: dict[str, list[str]]) -> str | None:
    """Return the column that numbers sentences: by its name, if its values come in runs."""

    def runs(column: str) -> bool:
        filled = [value for value in values[column] if value]
        changes = 1 + sum(one != two for one, two in pairwise(filled))
        return bool(filled) and len(set(filled)) == changes

    fitting = [column for column in columns if column not in taken and _SENTENCE.fullmatch(column.strip())]
    return next((column for column in fitting if runs(column)), None)


def _sentences(rows: Iterator[Record | Fault], layout: _Layout, columns: Sequence[str]) -> Iterator[Record | Fault]:
    """Yield sentences. An empty sentence column means that of the row before; a bad row spoils its sentence."""
    number, now, trouble = 0, None, ""
    held: list[Record] = []
    line: int | None = None
    for row in chain(rows, [None]):
        key = str(row.values[layout.sentence]).strip() if isinstance(row, Record) else ""
        if row is None or (key and key != now):
            if held or trouble:
                number += 1
                yield Fault(number, line, trouble) if trouble else Record(number, line, _joined(held, layout, columns))
            held, trouble, now = [], "", key
            line = None if row is None else row.line
        if isinstance(row, Fault):
            trouble = trouble or f"row {row.row} of the table: {row.message}"
        elif row is not None:
            if not str(row.values[layout.token]).strip() or not str(row.values[layout.tag]).strip():
                trouble = trouble or f"row {row.row} of the table: a token without a tag, or a tag without a token"
            held.append(row)


def _joined(held: Sequence[Record], layout: _Layout, columns: Sequence[str]) -> dict[str, object]:
    lists = {column: [str(row.values[column]) for row in held] for column in columns if column != layout.sentence}
    lists[layout.tag] = [tag.strip() if tag.strip() not in OUTSIDES else OUTSIDES[0] for tag in lists[layout.tag]]
    return {layout.sentence: held[0].values[layout.sentence], **lists}
