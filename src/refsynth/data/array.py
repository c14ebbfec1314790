"""A JSON file that is one array, as records, a value at a time: memory does not grow with the file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from refsynth.core.errors import DataError
from refsynth.data.exports import as_object, as_row
from refsynth.data.records import constant
from refsynth.data.source import ROW_LIMIT, broken_byte
from refsynth.data.table import Fault, TableRecord, kind_of

_CHUNK = 1 << 16
_HEAD = 4096  # bytes in which the array must begin
_SPACE = " \t\r\n"


def is_array(stream: IO[bytes], encoding: str) -> bool:
    """Return whether a file begins an array of rows: `[`, and no string, which would be the first of a row that is a list itself.

    Args:
        stream: at its start, where it is left.
        encoding: its text encoding.
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    text = head.decode(encoding, "ignore").lstrip("\ufeff" + _SPACE)
    return text.startswith("[") and not as_row(text)


def array_records(path: Path, stream: IO[bytes], encoding: str) -> Iterator[TableRecord | Fault]:
    """Yield the values of an array as rows.

    Raises:
        DataError: what stands there is no JSON, or a value is longer than a row may be: what follows cannot be read.
    """
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    text = codecs.getreader(encoding)(stream, errors)
    for row, found in enumerate(_values(path, text), 1):
        values = as_object(found.value)
        if found.broken:
            yield Fault(row, found.line, f"byte {found.broken} does not fit the file's encoding")
        elif isinstance(values, dict):
            yield TableRecord(row, found.line, values)
        else:
            yield Fault(row, found.line, f"found JSON {kind_of(values)}, expected an object")


class _Value(NamedTuple):
    line: int
    value: Any
    broken: str | None


def _values(path: Path, text: codecs.StreamReader) -> Iterator[_Value]:
    scan = _Scan(path, text)
    scan.drop("\ufeff" + _SPACE)
    scan.take(1)  # the bracket, which is there
    while (sign := scan.drop(_SPACE)) != "]":
        if not sign:
            raise scan.broken("the array is not closed: the file is cut off")
        yield _Value(scan.line, *scan.value())
        sign = scan.drop(_SPACE)
        if sign == ",":
            scan.take(1)
        elif sign != "]":
            raise scan.broken("no comma between two values")
    scan.take(1)
    if scan.drop(_SPACE):
        raise scan.broken("something stands behind the array")


class _Scan:
    """The text of a file from a place on, and the line and row of that place."""

    def __init__(self, path: Path, text: codecs.StreamReader) -> None:
        self._path, self._text, self._decoder = path, text, json.JSONDecoder(parse_constant=constant)
        self._buffer, self.line, self._row = "", 1, 0

    def drop(self, signs: str) -> str:
        """Go on behind signs; return the next one, or nothing at the end."""
        while True:
            rest = self._buffer.lstrip(signs)
            self.take(len(self._buffer) - len(rest))
            if self._buffer or not self._more():
                return self._buffer[:1]

    def take(self, size: int) -> None:
        """Go on behind so many characters."""
        self.line += self._buffer.count("\n", 0, size)
        self._buffer = self._buffer[size:]

    def value(self) -> tuple[Any, str | None]:
        """Return the JSON value that begins here and a byte of it that does not fit the encoding, and go on behind it."""
        while True:
            value, end = self._parsed()
            if max(end, 0) > ROW_LIMIT or (end < 0 and len(self._buffer) > ROW_LIMIT):
                raise self.broken(f"longer than {ROW_LIMIT:,} characters")
            if 0 <= end < len(self._buffer):
                break
            if not self._more():  # what ends with the text so far may go on, but there is no more
                if end < 0:
                    raise self.broken("not valid JSON: the file is cut off")
                break
        broken = broken_byte(self._buffer[:end])
        self.take(end)
        self._row += 1
        return value, broken

    def _parsed(self) -> tuple[Any, int]:
        """Return the value and its end; an end of -1 where it may be whole once more is read."""
        try:
            return self._decoder.raw_decode(self._buffer)
        except json.JSONDecodeError as error:
            if error.pos < len(self._buffer) - 16 and not error.msg.startswith("Unterminated"):
                raise self.broken(f"not valid JSON: {error.msg}") from None
            return None, -1
        except (ValueError, RecursionError):
            raise self.broken("not usable JSON: nested too deeply, or a number too long") from None

    def _more(self) -> bool:
        chunk = self._text.read(max(_CHUNK, len(self._buffer)))
        self._buffer += chunk
        return bool(chunk)

    def broken(self, what: str) -> DataError:
        """Return an error of this place."""
        place = f"{self._path} row {self._row + 1}: {what} (line {self.line} of the file)"
        return DataError(place, remedy="write the file again, as JSON lines")
