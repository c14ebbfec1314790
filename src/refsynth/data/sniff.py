"""A first look at a labelled file that nothing is known of yet, for `refsynth init`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from refsynth.core.errors import DataError
from refsynth.core.labelset import NONE
from refsynth.core.marks import MarkError
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.sections import JOINED, Columns, Quoting, parts_of
from refsynth.core.spans import split_spans
from refsynth.core.value import spell
from refsynth.data.columns import guess_label, guess_text, named_label, named_text, yes_no_columns
from refsynth.data.joined import join_columns, yes_of
from refsynth.data.judge import no_label, rejected
from refsynth.data.labels import as_label, listed
from refsynth.data.records import Format, Record, Table, kind_of, open_table
from refsynth.data.tagged import TAGS, TOKENS, read_tagged, tells_words

_SAMPLE = 2000  # rows that columns are guessed from
_SHOWN = 12  # columns in a message
_MOST_LABELS = 1000  # more different values than this are no classes
_LIKELY = ("result", "value", "choices", "label", "labels", "name")  # what holds a label, inside an object
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_MARKED = re.compile(r"\]\([^\s\[\]():\\]+\)|\A\d+-\d+:\S")  # what a mark ends with, or a label of words as the server records it

WORDS_REMEDY = "if words have labels, as in [Ann Lee](person), say --words"
"""How `init` is told what is not sure from the file."""


@dataclass(frozen=True)
class Sniffed:
    """What a file seems to hold.

    `labels` counts the values of the label column, in the order in which they first appear; `separator` stands between them where
    a row may have any number, else it is None. With `spans` they are of words; no column holds them where they stand in the text.
    `marked` says that they might be, and that it is not sure. `why` tells what the kind of task was taken from, `notes` what a user
    should look at.
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
    why: str = ""
    notes: tuple[str, ...] = ()

    @property
    def untaken(self) -> tuple[str, ...]:
        """The columns that are not read."""
        taken = {self.text_column, *parts_of(self.text_column), self.label_column, *parts_of(self.label_column)}
        return tuple(column for column in self.columns if column and column not in taken)


def sniff_tagged(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    asked: bool = False,
) -> Sniffed | None:
    """Count the labels of words in a file; None where it is no CoNLL file and no row says them in lists, unless `asked`.

    Bad rows are passed over.

    Raises:
        DataError: the file cannot be read, or has no labels of words.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding, quoting=quoting, sheet=sheet) as table:
        if table.format in ("csv", "excel") and not asked:  # these have no lists
            return None
        named = named_text(table.columns or ()) or "text"
        columns = Columns(text=text_column or named, label=label_column or "label")
        sure, troubles = asked or table.format == "conll", list[str]()
        labels, rows, keys = Counter[str](), 0, dict[str, None]()
        for rows, record in enumerate(_readable(table, troubles), 1):
            sure = sure or tells_words(record.values, columns)
            if rows == _SAMPLE and not sure:
                return None
            keys |= dict.fromkeys(record.values)
            try:
                labels.update(span.label for span in split_spans(read_tagged(record.values, columns).label or NONE))
            except MarkError as error:
                if not troubles:
                    troubles.append(f"row {record.row}: {error}")
    if not rows and asked:
        raise _nothing(path, table, troubles)
    if not sure:
        return None
    if not labels:
        raise DataError(
            "; ".join([f"{path}: no labels of words in column '{columns.text}'", *troubles]),
            expected="[words](label) in the text, lists of tokens and tags, or lists of [start, end, label]",
            remedy="name the columns with --text-column and --label-column",
        )
    text = columns.text if columns.text in keys or text_column else TOKENS
    label = columns.label if columns.label in keys or label_column else TAGS
    for wanted, column in ((text_column, text), (label_column, label)):
        if wanted is not None and column not in keys:
            raise _unclear(path, table, tuple(keys), {}, text, label, marked=False)
    label = label if label in keys else ""
    why = "tokens with tags" if text == TOKENS or label == TAGS else "marks or places of words"
    return Sniffed(
        table.format,
        table.encoding,
        table.delimiter,
        tuple(keys),
        text,
        label,
        rows,
        labels,
        spans=True,
        why=f"{why} in the rows",
    )


def sniff(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    separator: str | None = None,
) -> Sniffed:
    """Find out a labelled file's format, encoding, delimiter and columns, and count its labels.

    What is given is taken as it is; the rest is guessed: columns by their names, else by their values. Bad rows are passed over.
    A row has any number of labels where a separator is given, where a list has not just one, or where columns say yes and no.

    Raises:
        DataError: the file cannot be read, has no rows, or it is not clear which columns hold the text and the label.
    """
    asked = Columns(text=text_column or "", label=label_column or "", pair=pair_column)
    with open_table(path, delimiter=delimiter, encoding=encoding, quoting=quoting, sheet=sheet) as table:
        table = join_columns(table, asked)
        troubles = list[str]()
        records = _readable(table, troubles)
        sample = [record.values for record in islice(records, _SAMPLE)]
        if not sample:
            raise _nothing(path, table, troubles)
        columns = table.columns or tuple(dict.fromkeys(column for values in sample for column in values))
        words = [{column: _word(value) for column, value in values.items()} for values in sample]
        marked = any(_MARKED.search(value) for row in words for value in row.values())
        text, label = _guess(columns, words, asked)
        if not text or not label or {text, *([] if label in columns else parts_of(label))} - set(columns):
            raise _unclear(path, table, columns, sample[0], text, label, marked=marked)
        counter = _Counter(
            Columns(text=text, label=label, pair=pair_column), separator, limit=None if label_column else _MOST_LABELS
        )
        rows = 0
        for values in chain(sample, (record.values for record in records)):
            rows += 1
            counter.add(rows, values)
    look = Sniffed(
        table.format, table.encoding, table.delimiter, columns, text, label, rows, counter.labels(), separator=counter.separator(),
        marked=marked, why=counter.why(), notes=tuple(table.notes),
    )  # fmt: skip
    return _checked(path, look, counter, named=label_column is not None)


def _guess(columns: Sequence[str], words: Sequence[Mapping[str, str]], asked: Columns) -> tuple[str | None, str | None]:
    """Return the columns of the text and the label: those that were asked for, else the likely ones.

    Where none has a label's name and several say yes and no, each of these is a label.
    """
    taken = {*asked.texts, *parts_of(asked.text)} - {""}
    label = asked.label or guess_label(columns, words, taken=taken)
    if not asked.label and named_label([label] if label else []) is None:
        likely = asked.text or guess_text(columns, words, taken=taken)
        flags = yes_no_columns(columns, words, taken={*taken, likely})
        label = JOINED.join(flags) if len(flags) > 1 else label
    others = {*taken, label, *parts_of(label or "")}
    return asked.text or guess_text(columns, words, taken=others), label


class _Counter:
    """Counts the labels of a column, and what tells whether a row has one of them or any number."""

    def __init__(self, columns: Columns, separator: str | None, *, limit: int | None) -> None:
        self._columns, self._given, self._limit = columns, separator, limit
        self._counts = Counter[str]()
        self._sizes = Counter[int]()  # of lists
        self._flags = False
        self.wrong: str | None = None
        self.strange: Any = None

    def add(self, row: int, values: Mapping[str, Any]) -> None:
        """Count the labels of a row."""
        if rejected(values, self._columns) or (self._limit is not None and len(self._counts) > self._limit):
            return
        name, parts = self._columns.label, parts_of(self._columns.label)
        self._flags |= name not in values and len(parts) > 1
        value = yes_of(values, parts) if name not in values and len(parts) > 1 else values.get(name)
        items = listed(value)
        if items is not None:
            self._sizes[len(items)] += 1
        elif self._given is not None and isinstance(value, str):
            items = [] if value.strip() == NONE else value.split(self._given)
        names = [as_label(item) for item in ([value] if items is None else items)]
        if None in names and self.wrong is None:
            self.wrong, self.strange = f"row {row}: {no_label(value, name, self.separator())}", value
        self._counts.update(name for name in dict.fromkeys(names) if name)

    def separator(self) -> str | None:
        """Return what stands between labels in a cell; None where each row has one."""
        return self._given or (SEPARATOR if set(self._sizes) - {1} else None)

    def labels(self) -> dict[str, int]:
        """Return how often each label occurs, in the order in which they first do."""
        parted = Counter(dict.fromkeys(parts_of(self._columns.label), 0) if self._flags else ())
        if self._given is not None or self.separator() is None or self._flags:
            return dict(parted + self._counts if not self._flags else {**parted, **self._counts})
        for name, count in self._counts.items():
            parted.update({part.strip(): count for part in name.split(SEPARATOR) if part.strip()})
        return dict(parted)

    def why(self) -> str:
        """Return what the kind of task was taken from."""
        column = self._columns.label
        if self._given is not None:
            return f"{self._given!r} stands between labels"
        if self._flags:
            each = "one in each row" if self.separator() is None else "not always one in a row"
            return f"columns of yes and no are labels, {each}"
        if self._sizes:
            return f"lists in '{column}', " + ("each with one label" if self.separator() is None else "not all with one label")
        return f"one value in '{column}' a row"


def _readable(table: Table, troubles: list[str]) -> Iterator[Record]:
    """Yield the rows that can be read, and note what is wrong with the first of the others."""
    for record in table.records:
        if isinstance(record, Record):
            yield record
        elif not troubles:
            troubles.append(f"row {record.row}: {record.message}")


def _nothing(path: Path, table: Table, troubles: Sequence[str]) -> DataError:
    what = f"no row can be read; {troubles[0]}" if troubles else f"no rows{' below the header' if table.format == 'csv' else ''}"
    remedy = ""
    if troubles and table.format == "jsonl":
        remedy = f"each line must be one JSON object; this makes it so: jq -c . {path.name} > rows.jsonl"
    elif troubles and table.format == "csv":
        shown = ", ".join(f"'{column}'" for column in (table.columns or ())[:_SHOWN])
        remedy = f"the first line must name all columns, and it has {shown}; take out a title or a comment that stands above them"
    return DataError(f"{path}: {what}", expected="labelled rows", remedy=remedy)


def _checked(path: Path, look: Sniffed, counter: _Counter, *, named: bool) -> Sniffed:
    """Return what was found, with notes, unless it cannot be meant.

    Raises:
        DataError: the labels are too many, none, tags of words, or the header is a row.
    """
    label, counts = look.label_column, look.labels
    if look.format == "csv" and label in counts and not named:
        raise DataError(f"{path}: the first line looks like a row, not like a header", remedy="put a header there: text,label")
    if len(counts) > _MOST_LABELS and not named:
        raise DataError(
            f"{path}: column '{label}' has more than {_MOST_LABELS} different values, too many for labels",
            remedy=f"name the label column with --label-column (also this one, if it is)" + f"; {WORDS_REMEDY}" * look.marked,
        )
    if not counts and counter.wrong is not None:
        raise _no_labels(path, look, counter)
    if look.marked and len(counts) < 2:
        raise DataError(
            f"{path}: fewer than two labels in column '{label}', and what may be labels of words", remedy=WORDS_REMEDY
        )
    if look.separator is None and any(name != "O" for name in counts) and all(_TAG.fullmatch(name) for name in counts):
        what = f"column '{label}' has tags of words ({', '.join(list(counts)[:4])}), a word a row in '{look.text_column}'"
        if not named:
            raise DataError(
                f"{path}: {what}",
                expected="a row for each sentence",
                remedy="write a .conll file (a word and its tag a line, a blank line after each sentence), or JSON lines with "
                '{"tokens": [...], "tags": [...]}; if each word is a text of its own, name the column with --label-column',
            )
        return replace(look, notes=(*look.notes, f"{what}: each word is read as a text of its own"))
    return look


def _no_labels(path: Path, look: Sniffed, counter: _Counter) -> DataError:
    remedy = "name another column with --label-column"
    if look.format == "jsonl":
        inside = _inside(counter.strange, _at(look.label_column))
        remedy += f", or rewrite the rows with plain labels, e.g.: jq -c '.label = {inside}' {path.name} > rows.jsonl"
    return DataError(f"{path}: no labels in column '{look.label_column}'; {counter.wrong}", remedy=remedy)


def _of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _at(name: str) -> str:
    """Return the place of a key in jq's words."""
    return f".{name}" if name.isidentifier() and name.isascii() else f".[{json.dumps(name, ensure_ascii=False)}]"


def _inside(value: Any, place: str) -> str:
    """Return where a label may stand inside a value, in jq's words."""
    if isinstance(value, list) and _of_objects(value):
        return _inside(value[0], f"{place}[0]")
    if not isinstance(value, dict) or not value:
        return place
    key = next((name for name in _LIKELY if name in value), next(iter(value)))
    return _inside(value[key], place + _at(str(key)))


def _word(value: object) -> str:
    return spell(value) or ("" if value is None else str(value))


def _unclear(
    path: Path,
    table: Table,
    columns: tuple[str, ...],
    first: Mapping[str, Any],
    text: str | None,
    label: str | None,
    *,
    marked: bool,
) -> DataError:
    wrong = [part for name in (text, label) if name and name not in columns for part in parts_of(name) if part not in columns]
    found = f"no column '{wrong[0]}'" if wrong else f"not clear which column holds the {'label' if text else 'text'}"
    names = [f"{name} (a JSON {kind_of(first[name])})" if isinstance(first.get(name), dict | list) else name for name in columns]
    shown = ", ".join(name or "(no name)" for name in names[:_SHOWN]) or "none"
    remedy = "name the columns of text and label with --text-column and --label-column"
    rows = next((name for name, value in first.items() if isinstance(value, list) and value and isinstance(value[0], dict)), None)
    if rows is not None and len(columns) == 1:
        remedy = f"the rows stand inside '{rows}'; this takes them out: jq -c '.{rows}[]' {path.name} > rows.jsonl"
    elif table.format == "jsonl":
        nested = [f". + {_at(name)}" for name, value in first.items() if isinstance(value, dict)]
        nested += [f".label = {_inside(value, _at(name))}" for name, value in first.items() if _of_objects(value)]
        if nested:
            remedy += f"; what stands inside others is taken out of them: jq -c '{' | '.join(nested)}' {path.name} > rows.jsonl"
    elif table.format == "csv":
        title = ", each of them; take out a title that stands above" if "" in columns else ""
        remedy = f"the first line must name the columns{title}; {remedy}"
    return DataError(f"{path}: {found}", known=f"columns there: {shown}", remedy=remedy + f"; {WORDS_REMEDY}" * marked)
