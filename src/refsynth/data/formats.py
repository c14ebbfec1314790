"""Opens data files and the exports of labeling tools. Every reader of the user's rows opens them here.

Besides the formats of `open_plain`, it reads JSON files that are one array, CoNLL files of any suffix, and tables with one
token per row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Unpack

from refsynth.core.errors import DataError, counted
from refsynth.core.sections import FileFormat
from refsynth.data.array import array_records, is_array
from refsynth.data.conll import looks_conll, sentences
from refsynth.data.exports import FormError, read_export
from refsynth.data.records import encoding_notes, open_plain
from refsynth.data.source import Lines, check_encoding, detect_encoding, lines_of, opened
from refsynth.data.stream import open_stream
from refsynth.data.table import Fault, Table, TableRecord
from refsynth.data.tokenrows import grouped

_CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".ner")
_PERHAPS = ("", ".txt", ".tsv", ".tab", ".train", ".dev", ".test", ".testa", ".testb", ".data")
_ARRAY = (".json", ".jsonl", ".ndjson", "")
_DOCBIN = (
    'write its texts as JSONL: {"text": ..., "label": [[ent.start_char, ent.end_char, ent.label_] ...]} for each of its docs'
)


@contextmanager
def open_table(path: Path, *, plain: bool = False, **how: Unpack[FileFormat]) -> Iterator[Table]:
    """Open a data file or an export.

    Args:
        path: the file.
        plain: read `.txt` as one text per line without a header, not as a table.
        how: encoding, delimiter, quoting and sheet of the file.

    Raises:
        DataError: the file cannot be read, or has none of the formats.
    """
    suffix, encoding = path.suffix.lower(), how.get("encoding")
    if suffix == ".spacy":
        raise DataError(f"{path}: is a DocBin of spaCy, which is not read", remedy=_DOCBIN)
    if suffix in _CONLL or suffix in _ARRAY + _PERHAPS:
        with opened(path) as file:
            binary = file.peek(4)[:4] == b"PAR1"  # type: ignore[attr-defined]
            named = (check_encoding(encoding), False) if encoding else None
            codec, guessed = ("", False) if binary else named or detect_encoding(file, name=str(path))
            notes = encoding_notes(codec, guessed=guessed)
            if codec and suffix in _ARRAY and is_array(file, codec):
                yield _unfolded(Table("jsonl", codec, "", None, array_records(path, file, codec), notes))
                return
            if codec and suffix not in _ARRAY[:-1]:
                with lines_of(file, codec) as lines:
                    if suffix in _CONLL or (not (how.get("delimiter") or how.get("quoting")) and looks_conll(lines)):
                        yield Table("conll", codec, "", None, _sentences(lines), notes)
                        return
    with open_plain(path, plain=plain, **how) as table:
        if table.format in ("csv", "excel"):
            table = grouped(table)
        yield _unfolded(table)


@contextmanager
def standard_input(source: IO[bytes], *, texts: Collection[str], named: bool, **how: Unpack[FileFormat]) -> Iterator[Table]:
    """Read a stream that cannot be rewound; see `stream.open_stream`.

    Raises:
        DataError: the stream is binary or a JSON array, or its encoding is unknown.
    """
    with open_stream(source, texts=texts, named=named, **how) as table:
        yield _unfolded(table)


def _sentences(lines: Lines) -> Iterator[TableRecord | Fault]:
    for row, (line, tokens, tags, trouble) in enumerate(sentences(lines), 1):
        yield Fault(row, line, trouble) if trouble else TableRecord(row, line, {"tokens": tokens, "tags": tags})


def _unfolded(table: Table) -> Table:
    """Return the table with the rows of exports as plain rows."""
    unread = Counter[str]()

    def rows() -> Iterator[TableRecord | Fault]:
        for record in table.records:
            if isinstance(record, Fault):
                yield record
                continue
            try:
                read = read_export(record.values)
            except FormError as error:
                yield Fault(record.row, record.line, str(error), record.sheet)
                continue
            unread.update(read.unread)
            yield record._replace(values=read.values, left=read.left)
        table.notes.extend(f"not read: {what}, in {counted(count, 'row')}" for what, count in unread.items())

    return table._replace(records=rows())
