"""Standard input as a table: it cannot be rewound, and no name tells its format. Otherwise it is read as a file is."""

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
from refsynth.data.records import Format, Table, first_line, text_table
from refsynth.data.source import Lines, check_encoding, detect_encoding, lines_of

NAME = "standard input"
_NAME = re.compile(r"[\w.-]+")


@contextmanager
def open_stream(stream: IO[bytes], *, wanted: Collection[str], named: bool, **how: Unpack[FileFormat]) -> Iterator[Table]:
    """Read a stream as JSON lines, CSV or plain text with one text a line.

    It is CSV where columns or a delimiter are named, or where its first line is a header: names a column that holds the text.

    Args:
        stream: such as `sys.stdin.buffer`.
        wanted: the columns of the text.
        named: whether the user named them.
        how: it is written; the encoding is told from what has come when the first bytes are there, if left out.

    Raises:
        DataError: it is binary or a JSON array, or the encoding is unknown.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    encoding, delimiter = how.get("encoding"), how.get("delimiter")
    found = check_encoding(encoding) if encoding else _encoding(buffered.peek(1 << 16))
    try:
        with lines_of(buffered, found) as lines:
            if not first_line(lines):
                yield Table("text", found, "", ("text",), iter(()), [])  # an empty pipe is no mistake, as an empty file is
                return
            kind = _kind(lines, wanted, sure=named or delimiter is not None)
            yield text_table(
                lines, name=NAME, kind=kind, tabs=None, encoding=found, delimiter=delimiter, quoting=how.get("quoting")
            )
    finally:
        if buffered is not stream:
            buffered.detach()


def _encoding(head: bytes) -> str:
    if not head:
        return "utf-8"
    whole = head[: head.rfind(b"\n") + 1] or head  # what is cut within a character would look like another encoding
    try:
        found, _ = detect_encoding(io.BytesIO(whole), name=NAME)
    except DataError as error:
        raise DataError(error.found, remedy="name the file instead of piping it, or convert it to CSV or JSON lines") from error
    return "utf-8-sig" if found == "utf-8" else found


def _kind(lines: Lines, wanted: Collection[str], *, sure: bool) -> Format | None:
    """Return the format; None leaves it to the first character, which tells JSON."""
    first = first_line(lines)
    if first.startswith(("{", "[")) or sure:
        return None
    return "csv" if _is_header(first, wanted) else "text"


def _is_header(line: str, wanted: Collection[str]) -> bool:
    if line.strip().strip('"') in wanted:
        return True
    for delimiter in DELIMITERS:
        try:
            fields = [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:  # longer than any name of a column
            return False
        if len(fields) > 1 and (set(wanted) & set(fields) or (named_text(fields) and all(map(_NAME.fullmatch, fields)))):
            return True
    return False
