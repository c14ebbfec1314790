"""A first look at a labelled file that nothing is known of yet, for `refsynth init`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from refsynth.core.errors import DataError
from refsynth.core.labelset import NONE, split_labels
from refsynth.core.marks import MarkError
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.sections import Columns
from refsynth.core.spans import split_spans
from refsynth.data.columns import guess_label, guess_text, named_text
from refsynth.data.labelled import open_table
from refsynth.data.labels import as_label, as_labels
from refsynth.data.offsets import Unit, UnitError
from refsynth.data.records import Format, Record, Table
from refsynth.data.tagged import TAGS, TOKENS, columns_of_words, read_tagged

_SAMPLE = 2000  # rows that columns are guessed from
_MOST_LABELS = 1000  # more different values than this are no classes
_MARKED = re.compile(r"\]\([^\s\[\]():\\]+\)|\A\d+-\d+:\S")  # what a mark ends with, or a label of words as the server records it

WORDS_REMEDY = "if words have labels, as in [Ann Lee](person), say --words"
"""How `init` is told what is not sure from the file."""


@dataclass(frozen=True)
class Sniffed:
    """What a file seems to hold.

    `labels` counts the values of the label column, in the order in which they first appear; `separator` stands between them where
    a row may have any number, else it is None. With `spans` they are of words; no column holds them where they stand in the text.
    `marked` says that they might be, and that it is not sure; `offsets` what places count where that is not characters.
    """

    format: Format
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    text_column: str
    label_column: str
    rows: int
    labels: Mapping[str, int]
    separator: str | None = None
    spans: bool = False
    marked: bool = False
    offsets: Unit | None = None


def sniff_tagged(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    asked: bool = False,
    tags: Sequence[str] = (),
) -> Sniffed | None:
    """Count the labels of words in a file; None where it is no CoNLL file and no row says them in lists, unless `asked`.

    Bad rows are passed over. Places are taken to count what the first row without doubt has them count.

    Raises:
        DataError: the file cannot be read, or has no labels of words.
    """
    named = (text_column is not None, label_column is not None)
    columns = Columns(text=text_column or "text", label=label_column or "label", tags=tuple(tags))
    try:
        return _tagged(path, columns, named, delimiter, encoding, asked=asked)
    except UnitError as error:
        columns = columns.model_copy(update={"offsets": error.unit})
        return _tagged(path, columns, named, delimiter, encoding, asked=asked)


def _tagged(
    path: Path, columns: Columns, named: tuple[bool, bool], delimiter: str | None, encoding: str | None, *, asked: bool
) -> Sniffed | None:
    with open_table(path, delimiter=delimiter, encoding=encoding) as table:
        if asked and not named[0] and table.columns is not None:
            columns = columns.model_copy(update={"text": named_text(table.columns) or "text"})
        sure, found, troubles = table.format == "conll", False, list[str]()
        labels, rows, keys = Counter[str](), 0, dict[str, None]()
        for rows, record in enumerate(_readable(table, troubles), 1):
            if not found and (told := columns_of_words(record.values, columns, text=named[0], label=named[1])):
                plain = (told.text, told.label) == (TOKENS, TAGS) and columns.text not in record.values  # found in each row
                columns, sure, found = columns if plain else told, True, True
            if rows == _SAMPLE and not sure and not asked:
                return None
            keys |= dict.fromkeys(record.values)
            labels.update(_span_labels(record, columns, troubles, sure=sure))
    if not rows and asked:
        raise _nothing(path, table, troubles)
    if not (sure or asked):
        return None
    if not labels:
        raise _no_words(path, columns.label if found else columns.text, troubles)
    text, label = (columns.text, columns.label) if columns.text in keys else (TOKENS, TAGS)
    label = label if label in keys else ""
    return Sniffed(
        table.format, table.encoding, table.delimiter, tuple(keys), text, label, rows, labels, spans=True, offsets=columns.offsets
    )


def _span_labels(record: Record, columns: Columns, troubles: list[str], *, sure: bool) -> list[str]:
    """Return the labels of a row's spans, and note what is wrong with the first row that has none for it."""
    try:
        return [span.label for span in split_spans(read_tagged(record.values, columns).label or NONE)]
    except MarkError as error:
        if sure and isinstance(error, UnitError):
            raise
        if not troubles:
            troubles.append(f"row {record.row}: {error}")
        return []


def sniff(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
) -> Sniffed:
    """Find out a labelled file's format, encoding, delimiter and columns, and count its labels.

    What is given is taken as it is; the rest is guessed: columns by their names, else by their values. Bad rows are passed over.
    A row has any number of labels where a separator is given or JSON has lists.

    Raises:
        DataError: the file cannot be read, has no rows, or it is not clear which columns hold the text and the label.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding) as table:
        troubles = list[str]()
        records = _readable(table, troubles)
        sample = [record.values for record in islice(records, _SAMPLE)]
        if not sample:
            raise _nothing(path, table, troubles)
        columns = table.columns or tuple(dict.fromkeys(column for values in sample for column in values))
        words = [{column: _word(value) for column, value in values.items()} for values in sample]
        marked = any(_MARKED.search(value) for row in words for value in row.values())
        label = label_column or guess_label(columns, words, text=text_column)
        text = text_column or guess_text(columns, words, label=label)
        if text is None or label is None or {text, label} - set(columns):
            raise _unclear(path, columns, text, label, marked=marked)
        if separator is None and any(isinstance(values.get(label), list) and values.get(label) for values in sample):
            separator = SEPARATOR
        labels = Counter(name for values in sample for name in _names(values.get(label), separator))
        rows = len(sample)
        for record in records:
            rows += 1
            if len(labels) <= _MOST_LABELS:
                labels.update(_names(record.values.get(label), separator))
    counts = {name: count for name, count in labels.items() if name}
    if table.format == "csv" and label in counts and label_column is None:
        raise DataError(f"{path}: the first line looks like a row, not like a header", remedy="put a header there: text,label")
    _check_labels(path, label, counts, marked=marked)
    return Sniffed(
        table.format, table.encoding, table.delimiter, columns, text, label, rows, counts, separator=separator, marked=marked
    )


def _readable(table: Table, troubles: list[str]) -> Iterator[Record]:
    """Yield the rows that can be read, and note what is wrong with the first of the others."""
    for record in table.records:
        if isinstance(record, Record):
            yield record
        elif not troubles:
            troubles.append(f"row {record.row}: {record.message}")


def _nothing(path: Path, table: Table, troubles: Sequence[str]) -> DataError:
    what = f"no row can be read; {troubles[0]}" if troubles else f"no rows{' below the header' if table.format == 'csv' else ''}"
    return DataError(f"{path}: {what}", expected="labelled rows")


def _no_words(path: Path, column: str, troubles: Sequence[str]) -> DataError:
    return DataError(
        "; ".join([f"{path}: no labels of words in column '{column}'", *troubles]),
        expected="[words](label) in the text, lists of tokens and tags, or lists of [start, end, label]",
        remedy="name the columns with --text-column and --label-column, and what numbers stand for with --tags",
    )


def _check_labels(path: Path, label: str, counts: Mapping[str, int], *, marked: bool) -> None:
    if len(counts) > _MOST_LABELS:
        raise DataError(
            f"{path}: column '{label}' has more than {_MOST_LABELS} different values, too many for labels",
            remedy="name the label column with --label-column" + f"; {WORDS_REMEDY}" * marked,
        )
    if marked and len(counts) < 2:
        raise DataError(
            f"{path}: fewer than two labels in column '{label}', and what may be labels of words", remedy=WORDS_REMEDY
        )


def _names(value: object, separator: str | None) -> tuple[str | None, ...]:
    """Return the labels in a cell; None for one that cannot be a label."""
    label = as_label(value) if separator is None else as_labels(value, separator)
    return split_labels(label) if label and separator is not None else (label,)


def _word(value: object) -> str:
    return "" if value is None else str(value)


def _unclear(path: Path, columns: tuple[str, ...], text: str | None, label: str | None, *, marked: bool) -> DataError:
    wrong = [name for name in (text, label) if name is not None and name not in columns]
    found = f"no column '{wrong[0]}'" if wrong else f"not clear which column holds the {'text' if text is None else 'label'}"
    shown = ", ".join(columns[:12]) or "none"
    remedy = "the first line must name the columns; name those of text and label with --text-column and --label-column"
    return DataError(f"{path}: {found}", known=f"columns there: {shown}", remedy=remedy + f"; {WORDS_REMEDY}" * marked)
