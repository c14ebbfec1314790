"""Reads from the footer of a Parquet file (Thrift's compact protocol) how large its row groups are when unpacked.

A few kilobytes may unpack to more than any machine's memory, and then the library aborts the process. So the size is checked
first.
"""

from __future__ import annotations

import io
import os
from typing import IO, Any

_LONGEST = 64 << 20  # bytes of a footer; a longer one is not read
_DEEPEST = 32  # nested structures
_ROW_GROUPS, _SIZE = 4, 2  # field numbers in the file's metadata and in a row group


def unpacked(stream: IO[bytes]) -> int | None:
    """Return the unpacked bytes of the largest row group; None if the footer cannot be read."""
    stream.seek(-8, os.SEEK_END)
    length = int.from_bytes(stream.read(4), "little")
    if length > _LONGEST:
        return None
    try:
        stream.seek(-8 - length, os.SEEK_END)
        metadata = _struct(io.BytesIO(stream.read(length)), 0)
        return max((int(group.get(_SIZE, 0)) for group in metadata.get(_ROW_GROUPS, [])), default=0)
    except (ValueError, OSError, AttributeError, TypeError):
        return None


def _struct(data: IO[bytes], depth: int) -> dict[int, Any]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    fields: dict[int, Any] = {}
    number = 0
    while head := _byte(data):
        number = number + (head >> 4) if head >> 4 else _signed(data)
        fields[number] = _value(data, head & 15, depth)
    return fields


def _value(data: IO[bytes], kind: int, depth: int) -> Any:
    if kind in (1, 2):
        return kind == 1
    if kind == 3:
        return _byte(data)
    if kind in (4, 5, 6):
        return _signed(data)
    if kind == 7:
        return data.read(8)
    if kind == 8:
        return data.read(_varint(data))
    if kind in (9, 10):
        head = _byte(data)
        size = head >> 4 if head >> 4 < 15 else _varint(data)
        return [_value(data, 3 if head & 15 in (1, 2) else head & 15, depth + 1) for _ in range(size)]
    if kind == 12:
        return _struct(data, depth + 1)
    raise ValueError(f"no field of kind {kind}")


def _byte(data: IO[bytes]) -> int:
    read = data.read(1)
    if not read:
        raise ValueError("cut short")
    return read[0]


def _varint(data: IO[bytes]) -> int:
    value = shift = 0
    while shift < 70:
        byte = _byte(data)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
    raise ValueError("a number too long")


def _signed(data: IO[bytes]) -> int:
    value = _varint(data)
    return (value >> 1) ^ -(value & 1)
