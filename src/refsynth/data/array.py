"""Reads a JSON file that is one array as records, one value at a time: memory does not grow with the file."""

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
    """Return whether a file is an array of rows: `[` that is not followed by a string, which would begin a row that is a list.

    Args:
        stream: the file, at its start; it is rewound afterwards.
        encoding: its text encoding.
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    text = head.decode(encoding, "ignore").lstrip("\ufeff" + _SPACE)
    return text.startswith("[") and not as_row(text)


def array_records(path: Path, stream: IO[bytes], encoding: str) -> Iterator[TableRecord | Fault]:
    """Yield the values of an array as rows.

    Raises:
        DataError: the JSON is invalid, or a value is longer than a row may be. The values after it cannot be read.
    """
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    text = codecs.getreader(encoding)(stream, errors)
    for row, item in enumerate(_items(path, text), 1):
        values = as_object(item.value)
        if item.broken:
            yield Fault(row, item.line, f"byte {item.broken} does not fit the file's encoding")
        elif isinstance(values, dict):
            yield TableRecord(row, item.line, values)
        else:
            yield Fault(row, item.line, f"found JSON {kind_of(values)}, expected an object")


class _Item(NamedTuple):
    line: int
    value: Any
    broken: str | None


def _items(path: Path, text: codecs.StreamReader) -> Iterator[_Item]:
    scan = _Scan(path, text)
    scan.skip("\ufeff" + _SPACE)
    scan.advance(1)  # the opening bracket: `is_array` has seen it
    while (sign := scan.skip(_SPACE)) != "]":
        if not sign:
            raise scan.error("the array is not closed: the file is cut off")
        yield _Item(scan.line, *scan.value())
        sign = scan.skip(_SPACE)
        if sign == ",":
            scan.advance(1)
        elif sign != "]":
            raise scan.error("no comma between two values")
    scan.advance(1)
    if scan.skip(_SPACE):
        raise scan.error("there is text after the array")


class _Scan:
    """A cursor in the text of a file, with its line and row."""

    def __init__(self, path: Path, text: codecs.StreamReader) -> None:
        self._path, self._text, self._decoder = path, text, json.JSONDecoder(parse_constant=constant)
        self._buffer, self.line, self._row = "", 1, 0

    def skip(self, signs: str) -> str:
        """Skip these characters; return the next one, or an empty string at the end."""
        while True:
            self.advance(len(self._buffer) - len(self._buffer.lstrip(signs)))
            if self._buffer or not self._more():
                return self._buffer[:1]

    def advance(self, size: int) -> None:
        """Move on by `size` characters."""
        self.line += self._buffer.count("\n", 0, size)
        self._buffer = self._buffer[size:]

    def value(self) -> tuple[Any, str | None]:
        """Return the JSON value at the cursor and its first byte that does not fit the encoding; move behind the value."""
        while True:
            value, end = self._parsed()
            if max(end, 0) > ROW_LIMIT or (end < 0 and len(self._buffer) > ROW_LIMIT):
                raise self.error(f"longer than {ROW_LIMIT:,} characters")
            if 0 <= end < len(self._buffer):
                break
            if not self._more():  # a number at the end of the buffer may continue in the next chunk
                if end < 0:
                    raise self.error("not valid JSON: the file is cut off")
                break
        broken = broken_byte(self._buffer[:end])
        self.advance(end)
        self._row += 1
        return value, broken

    def _parsed(self) -> tuple[Any, int]:
        """Return the value and its end; the end is -1 if the value may be complete after more text is read."""
        try:
            return self._decoder.raw_decode(self._buffer)
        except json.JSONDecodeError as error:
            if error.pos < len(self._buffer) - 16 and not error.msg.startswith("Unterminated"):
                raise self.error(f"not valid JSON: {error.msg}") from None
            return None, -1
        except (ValueError, RecursionError):
            raise self.error("not usable JSON: nested too deeply, or a number too long") from None

    def _more(self) -> bool:
        chunk = self._text.read(max(_CHUNK, len(self._buffer)))
        self._buffer += chunk
        return bool(chunk)

    def error(self, what: str) -> DataError:
        """Return an error at the cursor."""
        place = f"{self._path} row {self._row + 1}: {what} (line {self.line} of the file)"
        return DataError(place, remedy="write the file again, as JSON lines")
