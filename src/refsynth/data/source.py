"""Reads a user's file as lines: detects binary files and the encoding, and bounds the length of a line.

The standard library recognizes UTF-8 and UTF-16. charset-normalizer guesses other encodings unless the user names one.
Knows nothing of rows or columns.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from refsynth.core.errors import DataError, ExtraError
from refsynth.core.extras import require

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
"""Suffixes of spreadsheet files."""
ROW_LIMIT = 1_000_000
"""Most characters of one row."""
SCAN_BYTES = 32 << 20
"""Bytes of a file that are read to detect its encoding. A later byte that does not fit is an error of its row."""

_BOMS = (  # UTF-32 before UTF-16: both begin with the same bytes
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "name a workbook .xlsx or .ods, or save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "name a workbook .xls, or save it as CSV (UTF-8)"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first (gunzip)"),
    (b"%PDF", "a PDF", "export the rows as CSV (UTF-8)"),
    (b"PAR1", "Parquet", "give the file the suffix .parquet"),
)
_CONTROL = bytes(range(9)) + bytes(range(14, 27)) + bytes(range(28, 32)) + b"\x7f"
# The order decides between equal scores, which short files often have.
_LEGACY_NAMES = "gb18030 cp932 euc_kr big5 euc_jp cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 koi8_r"
_LEGACY = _LEGACY_NAMES.split()
_ESCAPED = re.compile("[\udc80-\udcff]")
_NON_ASCII = re.compile("[^\x00-\x7f]")


class Line(NamedTuple):
    """A physical line and its number, from 1; `whole` is false if the line was cut at `ROW_LIMIT`."""

    number: int
    text: str
    whole: bool


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. Errors of the system on this file, also while it is read, become `DataError`.

    Raises:
        DataError: the file is absent, a folder, or cannot be read.
    """
    with _failing_as(path):
        raw = _Raw(path)
    with io.BufferedReader(raw) as stream:
        yield stream


class _Raw(io.FileIO):
    def readinto(self, buffer: Any) -> int | None:
        with _failing_as(self.name):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _failing_as(self.name):
            return super().readall() or b""


@contextmanager
def _failing_as(path: object) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", remedy="check the path; paths in task.yaml start at its folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder", expected="a CSV, TSV, JSONL or Parquet file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})", remedy="check its permissions") from error


def check_encoding(encoding: str) -> str:
    """Return the canonical name of a text encoding that the user named.

    Raises:
        DataError: there is no such text encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(b"a"), encoding=encoding, errors="surrogateescape").read(0)  # refuses codecs of bytes
        codec = codecs.lookup(encoding)
        codec.decode(b"", "surrogateescape")  # refuses codecs of host names, such as idna
        return codec.name
    except (LookupError, ValueError) as error:
        raise DataError(
            f"encoding '{encoding}': unknown", expected="an encoding such as utf-8, utf-16, latin-1, cp1252 or gb18030"
        ) from error


def detect_encoding(stream: IO[bytes], *, name: str) -> tuple[str, bool]:
    """Return the encoding of a file, and whether it is a guess.

    Looks at the byte-order mark, then at zero bytes, then whether the bytes are UTF-8, and guesses last.

    Args:
        stream: the file, at its start. At most `SCAN_BYTES` are read; it is rewound afterwards.
        name: the file's name, for messages.

    Raises:
        DataError: the file is binary, or its encoding cannot be guessed.
    """
    head = stream.read(1 << 16)
    stream.seek(0)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, False
    if wide := _wide(head):
        return wide, False
    _refuse_binary(head, name)
    valid, invalid, sample = _utf8_census(stream)
    stream.seek(0)
    if not invalid or valid > invalid:  # a few broken bytes in a UTF-8 file are errors of their rows
        return "utf-8", False
    return _guess(sample, name), True


def _wide(head: bytes) -> str | None:
    """Recognize UTF-16 without a mark: the zero bytes of ASCII characters all stand at odd or all at even places.

    In a text with few ASCII characters, only its line ends have zero bytes.
    """
    first, second = head[0::2], head[1::2]
    odd, even = second.count(0), first.count(0)
    if not (odd and even):
        for encoding, feeds, zeros in (("utf-16-le", first, second), ("utf-16-be", second, first)):
            partners = [zero for feed, zero in zip(feeds, zeros, strict=False) if feed == ord("\n")]
            if partners and not any(partners):
                return encoding
    if odd + even < 0.05 * len(head) or min(odd, even) > 0.05 * max(odd, even):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _refuse_binary(head: bytes, name: str) -> None:
    for magic, what, remedy in _BINARY:
        if head.startswith(magic):
            raise DataError(f"{name}: is {what}, not a text file", remedy=remedy)
    if len(head) - len(head.translate(None, _CONTROL)) > 0.05 * len(head):
        raise DataError(f"{name}: is a binary file", expected="a CSV, TSV, JSONL or Parquet file")


def _utf8_census(stream: IO[bytes]) -> tuple[int, int, bytes]:
    """Return the number of valid non-ASCII characters, the number of invalid bytes, and a sample of the invalid lines."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    valid = invalid = 0
    sample = bytearray()
    for _ in range(SCAN_BYTES >> 20):
        block = stream.read(1 << 20)
        text = decoder.decode(block, final=not block)
        escaped = len(_ESCAPED.findall(text))
        valid, invalid = valid + len(_NON_ASCII.findall(text)) - escaped, invalid + escaped
        if escaped and len(sample) < 1 << 16:
            sample += b"\n".join(line for line in block.split(b"\n") if not line.isascii())[: 1 << 16]
        if not block:
            break
    return valid, invalid, bytes(sample)


def _guess(sample: bytes, name: str) -> str:
    remedy = "name its encoding (data.encoding in task.yaml, or --encoding), or save it as UTF-8"
    try:
        detect = require("charset_normalizer", extra="train").from_bytes
    except ExtraError as error:
        raise DataError(f"{name}: is not UTF-8", remedy=remedy) from error
    if b"\r" in sample and b"\n" not in sample:  # line ends of the classic Mac
        return "mac-roman"
    line = sample + b"\n"
    for attempt in (line * (1 + 1000 // len(line)), sample):  # its statistics need length: a short sample is repeated
        guesses = detect(attempt, cp_isolation=_LEGACY)
        best = guesses.best()
        if best is not None:
            break
    if best is None:
        raise DataError(f"{name}: is not text in any known encoding", remedy=remedy)
    score = (best.chaos, -best.coherence)
    ties = {twin for guess in guesses if (guess.chaos, -guess.coherence) == score for twin in guess.could_be_from_charset}
    return next((encoding for encoding in _LEGACY if encoding in ties), str(best.encoding))


class Lines:
    """The lines of a binary stream, each of at most `ROW_LIMIT` characters. Lines can be given back and read again.

    Bytes that do not fit the encoding become lone surrogates U+DC80 to U+DCFF (in UTF-16 and UTF-32 U+FFFD).
    """

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._name, self._encoding = getattr(stream, "name", "standard input"), encoding
        errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
        self._back: deque[Line] = deque()
        self._number = 0

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        if self._back:
            return self._back.popleft()
        text = self._read()
        if not text:
            raise StopIteration
        self._number += 1
        whole = len(text) <= ROW_LIMIT
        piece = text
        while len(piece) > ROW_LIMIT and not piece.endswith(("\n", "\r")):
            piece = self._read()
        return Line(self._number, text, whole)

    def _read(self) -> str:
        try:
            return self._text.readline(ROW_LIMIT + 1)
        except UnicodeError as error:  # some encodings cannot continue after a wrong byte
            raise DataError(
                f"{self._name}: is not in the encoding {self._encoding} ({error})",
                remedy="name another (data.encoding in task.yaml, or --encoding), or none",
            ) from error

    def through_first(self) -> list[Line]:
        """Read the lines up to the first that is not blank."""
        read: list[Line] = []
        for line in self:
            read.append(line)
            if line.text.strip():
                break
        return read

    def give_back(self, lines: list[Line]) -> None:
        """Yield these lines again, in this order, before the lines not yet read."""
        self._back.extendleft(reversed(lines))

    def release(self) -> None:
        """Detach from the stream, which would otherwise be closed with this object."""
        self._text.detach()


@contextmanager
def lines_of(stream: IO[bytes], encoding: str) -> Iterator[Lines]:
    """Yield the lines of a stream, which stays open afterwards."""
    lines = Lines(stream, encoding)
    try:
        yield lines
    finally:
        lines.release()


def broken_byte(text: str) -> str | None:
    """Return the first byte of a line that does not fit the encoding, such as `0xE9`; None if all fit."""
    match = _ESCAPED.search(text)
    return f"0x{ord(match[0]) - 0xDC00:02X}" if match else None


def trouble_of(line: Line) -> str | None:
    """Return why a line cannot be read; None if it can."""
    if not line.whole:
        return f"longer than {ROW_LIMIT:,} characters"
    byte = broken_byte(line.text)
    return f"byte {byte} does not fit the file's encoding" if byte else None
