"""Inspects an unknown labeled file for `refsynth init`: format, columns, labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Unpack

from refsynth.core.errors import DataError
from refsynth.core.labelset import NONE
from refsynth.core.marks import MarkError
from refsynth.core.sections import JOINED, Columns, FileFormat, parts_of
from refsynth.core.spans import split_spans
from refsynth.core.value import spell
from refsynth.data.columns import guess_id, guess_label, guess_text, named_label, named_text, yes_no_columns
from refsynth.data.formats import open_table
from refsynth.data.joined import join_columns
from refsynth.data.offsets import Unit, UnitError
from refsynth.data.row_reader import left_out
from refsynth.data.table import Format, Table, TableRecord
from refsynth.data.tagged import TAGS, TOKENS, columns_of_words, read_tagged
from refsynth.data.tally import LabelTally
from refsynth.data.unclear import WORDS_REMEDY, no_labels, nothing, tags_for_labels, unclear

_SAMPLE = 2000  # rows from which columns are guessed
_MOST_LABELS = 1000  # a column with more different values does not hold labels
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_MARKED = re.compile(r"\]\([^\s\[\]():\\]+\)|\A\d+-\d+:\S")  # the end of a mark, or a label of words as the server records it


@dataclass(frozen=True)
class Sniffed:
    """What a file seems to hold.

    Attributes:
        label_column: the column of the label; empty if words have labels that stand in the text.
        labels: number of rows (with `spans`, of spans) of each label, in the order of first appearance.
        separator: the string between labels in a cell; None if each row has one label.
        spans: whether words have labels.
        marked: whether words may have labels, which is not certain.
        offsets: the unit of the spans' offsets, if it is not characters.
        tags: the names of numbered tags.
        id_column: the likely column of the user's row ids.
        why: what the kind of task was inferred from.
        notes: other sentences for the user.
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
    tags: tuple[str, ...] = ()
    id_column: str | None = None
    why: str = ""
    notes: tuple[str, ...] = ()

    @property
    def unused(self) -> tuple[str, ...]:
        """The columns that are not read."""
        used = {self.text_column, *parts_of(self.text_column), self.label_column, *parts_of(self.label_column)}
        return tuple(column for column in self.columns if column and column not in used)


def sniff_tagged(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    tagged: bool = False,
    tags: Sequence[str] = (),
    **how: Unpack[FileFormat],
) -> Sniffed | None:
    """Count the labels of words in a file; bad rows are skipped. The first clear row decides the unit of offsets.

    Args:
        path: the file.
        text_column: the column of the text, if the user named it.
        label_column: the column of the label, if the user named it.
        tagged: whether the user said that words have labels. If not, only CoNLL files and rows with lists count as such.
        tags: the names of numbered tags.
        how: encoding, delimiter, quoting and sheet of the file.

    Returns:
        What the file holds; None if words have no labels.

    Raises:
        DataError: the file cannot be read, or has no labels of words.
    """
    named = (text_column is not None, label_column is not None)
    columns = Columns(text=text_column or "text", label=label_column or "label", tags=tuple(tags))
    try:
        return _tagged(path, columns, named, how, tagged=tagged)
    except UnitError as error:
        columns = columns.model_copy(update={"offsets": error.unit})
        return _tagged(path, columns, named, how, tagged=tagged)


def _tagged(path: Path, columns: Columns, named: tuple[bool, bool], how: FileFormat, *, tagged: bool) -> Sniffed | None:
    by_user = {name for name, is_named in zip((columns.text, columns.label), named, strict=True) if is_named}
    with open_table(path, **how) as table:
        if tagged and not named[0] and table.columns is not None:
            columns = columns.model_copy(update={"text": named_text(table.columns) or "text"})
        certain, has_lists, troubles = table.format == "conll", False, list[str]()
        labels, rows, keys = Counter[str](), 0, dict[str, None]()
        for rows, record in enumerate(_readable(table, troubles), 1):
            keys |= dict.fromkeys(record.values)
            if left_out(record, columns):
                continue
            if not has_lists and (lists := columns_of_words(record.values, columns, text=named[0], label=named[1])):
                # the default keys are found again in each row
                default = (lists.text, lists.label) == (TOKENS, TAGS) and columns.text not in record.values
                columns, certain, has_lists = columns if default else lists, True, True
            if rows == _SAMPLE and not certain and not tagged:
                return None
            labels.update(_span_labels(record, columns, troubles, certain=certain))
    if not rows and tagged:
        raise nothing(path, table, troubles)
    if not (certain or tagged):
        return None
    if not labels:
        raise DataError(
            "; ".join([f"{path}: no labels of words in column '{columns.label if has_lists else columns.text}'", *troubles]),
            expected="[words](label) in the text, lists of tokens and tags, or lists of [start, end, label]",
            remedy="name the columns with --text-column and --label-column, and the names of numbered tags with --tags",
        )
    if by_user - {*keys}:
        raise unclear(path, table, tuple(keys), {}, *(columns.text, columns.label), marked=False)
    return _of_words(table, tuple(keys), columns, rows, labels)


def _of_words(table: Table, keys: tuple[str, ...], columns: Columns, rows: int, labels: Mapping[str, int]) -> Sniffed:
    text, label = (columns.text, columns.label) if columns.text in keys else (TOKENS, TAGS)
    label = label if label in keys else ""
    why = "lists of tokens with tags" if text == TOKENS else f"lists in '{label}'" if label else "marks in the text"
    return Sniffed(
        table.format, table.encoding, table.delimiter, keys, text, label, rows, labels,
        spans=True, offsets=columns.offsets, tags=columns.tags, why=why, notes=tuple(table.notes),
    )  # fmt: skip


def _span_labels(record: TableRecord, columns: Columns, troubles: list[str], *, certain: bool) -> list[str]:
    """Return the labels of a row's spans; add what is wrong with the first bad row to `troubles`."""
    try:
        return [span.label for span in split_spans(read_tagged(record.values, columns).label or NONE)]
    except MarkError as error:
        if certain and isinstance(error, UnitError):
            raise
        if not troubles:
            troubles.append(f"row {record.row}: {error}")
        return []


def sniff(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    separator: str | None = None,
    **how: Unpack[FileFormat],
) -> Sniffed:
    """Detect the format, encoding, delimiter and columns of a labeled file, and count its labels.

    Columns that the user did not name are guessed by their names, then by their values. Bad rows are skipped. A row may have
    any number of labels if there is a separator, if a list does not have exactly one, or if there are yes/no columns.

    Raises:
        DataError: the file cannot be read, has no rows, or its columns of text and label are not clear.
    """
    by_user = Columns(text=text_column or "", label=label_column or "", pair=pair_column)
    with open_table(path, **how) as table:
        table = join_columns(table, by_user)
        troubles = list[str]()
        records = _readable(table, troubles)
        sample = list(islice(records, _SAMPLE))
        if not sample:
            raise nothing(path, table, troubles)
        columns = table.columns or tuple(dict.fromkeys(column for record in sample for column in record.values))
        words = [{column: _word(value) for column, value in record.values.items()} for record in sample]
        marked = any(_MARKED.search(value) for row in words for value in row.values())
        text, label = _guess(columns, words, by_user)
        if not text or not label or {text, *([] if label in columns else parts_of(label))} - set(columns):
            raise unclear(path, table, columns, sample[0].values, text, label, marked=marked)
        own = guess_id(columns, words, taken={text, *parts_of(text), label, *parts_of(label), pair_column})
        counter = LabelTally(
            Columns(text=text, label=label, pair=pair_column), separator, limit=None if label_column else _MOST_LABELS
        )
        rows = 0
        for record in chain(sample, records):
            rows += 1
            counter.add(record)
    sniffed = Sniffed(
        table.format, table.encoding, table.delimiter, columns, text, label, rows, counter.labels(), marked=marked,
        separator=counter.separator(), id_column=own, why=counter.why(), notes=tuple(table.notes),
    )  # fmt: skip
    return _checked(path, sniffed, counter, named=label_column is not None)


def _guess(columns: Sequence[str], words: Sequence[Mapping[str, str]], by_user: Columns) -> tuple[str | None, str | None]:
    """Return the columns of the text and the label: those that the user named, else the likely ones.

    If no column has a label's name and several hold yes and no, each of these is a label.
    """
    taken = {*by_user.texts, *parts_of(by_user.text)} - {""}
    label = by_user.label or guess_label(columns, words, taken=taken)
    if not by_user.label and named_label([label] if label else []) is None:
        likely = by_user.text or guess_text(columns, words, taken=taken)
        flags = yes_no_columns(columns, words, taken={*taken, likely})
        label = JOINED.join(flags) if len(flags) > 1 else label
    others = {*taken, label, *parts_of(label or "")}
    return by_user.text or guess_text(columns, words, taken=others) or by_user.pair, label


def _readable(table: Table, troubles: list[str]) -> Iterator[TableRecord]:
    """Yield the readable rows; add what is wrong with the first other row to `troubles`."""
    for record in table.records:
        if isinstance(record, TableRecord):
            yield record
        elif not troubles:
            troubles.append(f"row {record.row}: {record.message}")


def _checked(path: Path, sniffed: Sniffed, counter: LabelTally, *, named: bool) -> Sniffed:
    """Return the result with notes, after checks that its label column is plausible.

    Raises:
        DataError: there are no labels, too many, or tags of words; or the header is a row.
    """
    label, counts = sniffed.label_column, sniffed.labels
    if sniffed.format == "csv" and label in counts and not named:
        raise DataError(f"{path}: the first line looks like a row, not like a header", remedy="add a header: text,label")
    if len(counts) > _MOST_LABELS and not named:
        raise DataError(
            f"{path}: column '{label}' has more than {_MOST_LABELS} different values, too many for labels",
            remedy="name the label column with --label-column (also if it is this one)" + f"; {WORDS_REMEDY}" * sniffed.marked,
        )
    if not counts and counter.wrong is not None:
        raise no_labels(path, sniffed.format, sniffed.label_column, counter)
    if sniffed.marked and len(counts) < 2:
        raise DataError(f"{path}: fewer than two labels in column '{label}', and words may have labels", remedy=WORDS_REMEDY)
    if any(name != "O" for name in counts) and all(_TAG.fullmatch(name) for name in counts):
        what = f"column '{label}' has tags of words ({', '.join(list(counts)[:4])})"
        if not named:
            raise tags_for_labels(path, what, lists=sniffed.separator is not None)
        note = f"{what}: each is read as a label of the whole '{sniffed.text_column}'"
        return replace(sniffed, notes=(*sniffed.notes, note))
    return sniffed


def _word(value: object) -> str:
    return spell(value) or ("" if value is None else str(value))
