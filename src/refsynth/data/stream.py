"""Reads standard input as a table. Unlike a file, it cannot be rewound and has no suffix that tells its format."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Unpack

from refsynth.core.errors import DataError
from refsynth.core.sections import FileFormat
from refsynth.data.columns import named_text
from refsynth.data.dialect import DELIMITERS
from refsynth.data.records import first_line, text_table
from refsynth.data.source import Lines, check_encoding, detect_encoding, lines_of
from refsynth.data.table import Format, Table

NAME = "standard input"
_NAME = re.compile(r"[\w.-]+")


@contextmanager
def open_stream(stream: IO[bytes], *, texts: Collection[str], named: bool, **how: Unpack[FileFormat]) -> Iterator[Table]:
    """Read a stream as JSON lines, CSV or plain text with one text per line.

    It is CSV if the user named columns or a delimiter, or if its first line is a header that names a text column.

    Args:
        stream: such as `sys.stdin.buffer`.
        texts: the names of the text columns.
        named: whether the user named them.
        how: encoding, delimiter and quoting. Without an encoding, the first bytes decide.

    Raises:
        DataError: the stream is binary or a JSON array, or its encoding is unknown.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    encoding, delimiter = how.get("encoding"), how.get("delimiter")
    codec = check_encoding(encoding) if encoding else _encoding(buffered.peek(1 << 16))
    try:
        with lines_of(buffered, codec) as lines:
            if not first_line(lines):  # an empty file is an error, an empty pipe is none
                yield Table("text", codec, "", ("text",), iter(()), [])
                return
            kind = _kind(lines, texts, csv_named=named or delimiter is not None)
            yield text_table(
                lines, name=NAME, kind=kind, tabs=None, encoding=codec, delimiter=delimiter, quoting=how.get("quoting")
            )
    finally:
        if buffered is not stream:
            buffered.detach()


def _encoding(head: bytes) -> str:
    if not head:
        return "utf-8"
    whole = head[: head.rfind(b"\n") + 1] or head  # a character cut in half would look like another encoding
    try:
        codec, _ = detect_encoding(io.BytesIO(whole), name=NAME)
    except DataError as error:
        raise DataError(error.found, remedy="name the file instead of piping it, or convert it to CSV or JSON lines") from error
    return "utf-8-sig" if codec == "utf-8" else codec


def _kind(lines: Lines, texts: Collection[str], *, csv_named: bool) -> Format | None:
    """Return the format; None if the first character decides between JSON and CSV."""
    first = first_line(lines)
    if first.startswith(("{", "[")) or csv_named:
        return None
    return "csv" if _is_header(first, texts) else "text"


def _is_header(line: str, texts: Collection[str]) -> bool:
    if line.strip().strip('"') in texts:
        return True
    for delimiter in DELIMITERS:
        try:
            fields = [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:  # longer than any column name
            return False
        if len(fields) > 1 and (set(texts) & set(fields) or (named_text(fields) and all(map(_NAME.fullmatch, fields)))):
            return True
    return False
