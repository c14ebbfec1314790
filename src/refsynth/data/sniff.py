"""A first look at a labelled file that nothing is known of yet, for `refsynth init`."""

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
from refsynth.data.joined import join_columns
from refsynth.data.judge import left_out
from refsynth.data.labelled import open_table
from refsynth.data.offsets import Unit, UnitError
from refsynth.data.table import Format, Table, TableRecord
from refsynth.data.tagged import TAGS, TOKENS, columns_of_words, read_tagged
from refsynth.data.tally import LabelTally
from refsynth.data.unclear import WORDS_REMEDY, no_labels, nothing, tags_for_labels, unclear

_SAMPLE = 2000  # rows that columns are guessed from
_MOST_LABELS = 1000  # more different values than this are no classes
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_MARKED = re.compile(r"\]\([^\s\[\]():\\]+\)|\A\d+-\d+:\S")  # what a mark ends with, or a label of words as the server records it


@dataclass(frozen=True)
class Sniffed:
    """What a file seems to hold.

    `labels` counts the values of the label column, in the order in which they first appear; `separator` stands between them where
    a row may have any number, else it is None. With `spans` they are of words; no column holds them where they stand in the text.
    `marked` says that they might be, and that it is not sure; `offsets` what places count where that is not characters,
    `tags` what numbers stand for. `id_column` has what the user seems to call the rows. `why` tells what the kind of task was
    taken from, `notes` what else a user should know.
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
    def untaken(self) -> tuple[str, ...]:
        """The columns that are not read."""
        taken = {self.text_column, *parts_of(self.text_column), self.label_column, *parts_of(self.label_column)}
        return tuple(column for column in self.columns if column and column not in taken)


def sniff_tagged(
    path: Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    asked: bool = False,
    tags: Sequence[str] = (),
    **how: Unpack[FileFormat],
) -> Sniffed | None:
    """Count the labels of words in a file; None where it is no CoNLL file and no row says them in lists, unless `asked`.

    Bad rows are passed over. Places are taken to count what the first row without doubt has them count.

    Raises:
        DataError: the file cannot be read, or has no labels of words.
    """
    named = (text_column is not None, label_column is not None)
    columns = Columns(text=text_column or "text", label=label_column or "label", tags=tuple(tags))
    try:
        return _tagged(path, columns, named, how, asked=asked)
    except UnitError as error:
        columns = columns.model_copy(update={"offsets": error.unit})
        return _tagged(path, columns, named, how, asked=asked)


def _tagged(path: Path, columns: Columns, named: tuple[bool, bool], how: FileFormat, *, asked: bool) -> Sniffed | None:
    wanted = {name for name, by_user in zip((columns.text, columns.label), named, strict=True) if by_user}
    with open_table(path, **how) as table:
        if asked and not named[0] and table.columns is not None:
            columns = columns.model_copy(update={"text": named_text(table.columns) or "text"})
        sure, found, troubles = table.format == "conll", False, list[str]()
        labels, rows, keys = Counter[str](), 0, dict[str, None]()
        for rows, record in enumerate(_readable(table, troubles), 1):
            keys |= dict.fromkeys(record.values)
            if left_out(record, columns):
                continue
            if not found and (told := columns_of_words(record.values, columns, text=named[0], label=named[1])):
                plain = (told.text, told.label) == (TOKENS, TAGS) and columns.text not in record.values  # found in each row
                columns, sure, found = columns if plain else told, True, True
            if rows == _SAMPLE and not sure and not asked:
                return None
            labels.update(_span_labels(record, columns, troubles, sure=sure))
    if not rows and asked:
        raise nothing(path, table, troubles)
    if not (sure or asked):
        return None
    if not labels:
        raise DataError(
            "; ".join([f"{path}: no labels of words in column '{columns.label if found else columns.text}'", *troubles]),
            expected="[words](label) in the text, lists of tokens and tags, or lists of [start, end, label]",
            remedy="name the columns with --text-column and --label-column, and what numbers stand for with --tags",
        )
    if wanted - {*keys}:
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


def _span_labels(record: TableRecord, columns: Columns, troubles: list[str], *, sure: bool) -> list[str]:
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
    pair_column: str | None = None,
    separator: str | None = None,
    **how: Unpack[FileFormat],
) -> Sniffed:
    """Find out a labelled file's format, encoding, delimiter and columns, and count its labels.

    What is given is taken as it is; the rest is guessed: columns by their names, else by their values. Bad rows are passed over.
    A row has any number of labels where a separator is given, where a list has not just one, or where columns say yes and no.

    Raises:
        DataError: the file cannot be read, has no rows, or it is not clear which columns hold the text and the label.
    """
    asked = Columns(text=text_column or "", label=label_column or "", pair=pair_column)
    with open_table(path, **how) as table:
        table = join_columns(table, asked)
        troubles = list[str]()
        records = _readable(table, troubles)
        sample = list(islice(records, _SAMPLE))
        if not sample:
            raise nothing(path, table, troubles)
        columns = table.columns or tuple(dict.fromkeys(column for record in sample for column in record.values))
        words = [{column: _word(value) for column, value in record.values.items()} for record in sample]
        marked = any(_MARKED.search(value) for row in words for value in row.values())
        text, label = _guess(columns, words, asked)
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
    look = Sniffed(
        table.format, table.encoding, table.delimiter, columns, text, label, rows, counter.labels(), marked=marked,
        separator=counter.separator(), id_column=own, why=counter.why(), notes=tuple(table.notes),
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
    return asked.text or guess_text(columns, words, taken=others) or asked.pair, label


def _readable(table: Table, troubles: list[str]) -> Iterator[TableRecord]:
    """Yield the rows that can be read, and note what is wrong with the first of the others."""
    for record in table.records:
        if isinstance(record, TableRecord):
            yield record
        elif not troubles:
            troubles.append(f"row {record.row}: {record.message}")


def _checked(path: Path, look: Sniffed, counter: LabelTally, *, named: bool) -> Sniffed:
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
            remedy="name the label column with --label-column (also this one, if it is)" + f"; {WORDS_REMEDY}" * look.marked,
        )
    if not counts and counter.wrong is not None:
        raise no_labels(path, look.format, look.label_column, counter)
    if look.marked and len(counts) < 2:
        raise DataError(
            f"{path}: fewer than two labels in column '{label}', and what may be labels of words", remedy=WORDS_REMEDY
        )
    if any(name != "O" for name in counts) and all(_TAG.fullmatch(name) for name in counts):
        what = f"column '{label}' has tags of words ({', '.join(list(counts)[:4])})"
        if not named:
            raise tags_for_labels(path, what, lists=look.separator is not None)
        return replace(look, notes=(*look.notes, f"{what}: each is read as a label of the whole '{look.text_column}'"))
    return look


def _word(value: object) -> str:
    return spell(value) or ("" if value is None else str(value))
