"""A user's file as lines: text or binary, which encoding, no line longer than memory allows. Knows nothing of rows or columns.

UTF-8 and UTF-16 are recognised with the standard library; others are guessed by charset-normalizer, or named by the user.
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
"""Suffixes of files that a spreadsheet keeps."""
ROW_LIMIT = 1_000_000
"""The most characters of one row."""
SCAN_BYTES = 32 << 20
"""How far into a file its encoding is looked for; a byte that does not fit it later on is an error of its row."""

_BOMS = (  # UTF-32 before UTF-16: they begin alike
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
# Candidates in the order that decides between equal scores; short files score equal often.
_LEGACY_NAMES = "gb18030 cp932 euc_kr big5 euc_jp cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 koi8_r"
_LEGACY = tuple(_LEGACY_NAMES.split())
_ESCAPED = re.compile("[\udc80-\udcff]")
_NON_ASCII = re.compile("[^\x00-\x7f]")


class Line(NamedTuple):
    """A physical line with its number from 1; `whole` is false where it was cut at the limit."""

    number: int
    text: str
    whole: bool


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; whatever the system says against it, then or later, becomes an error for a person.

    What it says in the block against other files is left as it is.

    Raises:
        DataError: it is absent, a folder, or cannot be read.
    """
    with _failing_as(path):
        raw = _Raw(path)
    with io.BufferedReader(raw) as stream:
        yield stream


class _Raw(io.FileIO):
    """A file whose reading fails as its opening does."""

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
    """Return the codec's canonical name of a text encoding that the user named.

    Raises:
        DataError: there is no such text encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(b"a"), encoding=encoding, errors="surrogateescape").read(
            0
        )  # refuses codecs that are not of text
        found = codecs.lookup(encoding)
        found.decode(b"", "surrogateescape")  # refuses those of names, which know no lines
        return found.name
    except (LookupError, ValueError) as error:
        raise DataError(
            f"encoding '{encoding}': unknown", expected="an encoding such as utf-8, utf-16, latin-1, cp1252 or gb18030"
        ) from error


def detect_encoding(stream: IO[bytes], *, name: str) -> tuple[str, bool]:
    """Return the encoding of a file, and whether it is a guess.

    It is found by its byte-order mark, its zero bytes, its validity as UTF-8, or guessed, in this order.

    Args:
        stream: at its start; it is read up to `SCAN_BYTES` and left at its start.
        name: the file's, for messages.

    Raises:
        DataError: it is binary, or in no encoding that can be guessed.
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
    """Recognise UTF-16 without a mark: its zero bytes, those of ASCII characters, all stand at odd or all at even places.

    Of a text with few ASCII characters it is the ends of lines that tell.
    """
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if head.count(b"\n") and not (odd and even):
        if (
            all(head[at : at + 2] == b"\n\0" for at in range(0, len(head) - 1, 2) if head[at] == 10)
            and b"\n" in head[0::2]
            and odd
        ):
            return "utf-16-le"
        if (
            all(head[at - 1 : at + 1] == b"\0\n" for at in range(1, len(head), 2) if head[at] == 10)
            and b"\n" in head[1::2]
            and even
        ):
            return "utf-16-be"
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
    """Return how many non-ASCII characters are valid UTF-8, how many bytes are not, and lines with such bytes as a sample."""
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
    if b"\r" in sample and b"\n" not in sample:  # how lines ended on the classic Mac
        return "mac-roman"
    again = sample + b"\n"
    for attempt in (again * (1 + 1000 // len(again)), sample):  # its statistics want length: a row said again counts
        guesses = detect(attempt, cp_isolation=list(_LEGACY))
        best = guesses.best()
        if best is not None:
            break
    if best is None:
        raise DataError(f"{name}: is not text in any encoding that could be recognised", remedy=remedy)
    score = (best.chaos, -best.coherence)
    ties = {twin for guess in guesses if (guess.chaos, -guess.coherence) == score for twin in guess.could_be_from_charset}
    return next((encoding for encoding in _LEGACY if encoding in ties), str(best.encoding))


class Lines:
    """The lines of a binary stream, each of at most `ROW_LIMIT` characters; lines read too far can be given back.

    Bytes that do not fit the encoding arrive as lone surrogates U+DC80 to U+DCFF (in UTF-16 and UTF-32 as U+FFFD).
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
        except UnicodeError as error:  # of encodings in which a wrong byte leaves no way on
            raise DataError(
                f"{self._name}: is not in the encoding {self._encoding} ({error})",
                remedy="name another (data.encoding in task.yaml, or --encoding), or none",
            ) from error

    def give_back(self, lines: list[Line]) -> None:
        """Let the lines come again, in their order, before those not yet read."""
        self._back.extendleft(reversed(lines))

    def release(self) -> None:
        """Part from the stream, which would be closed with this object otherwise."""
        self._text.detach()


@contextmanager
def lines_of(stream: IO[bytes], encoding: str) -> Iterator[Lines]:
    """Give the lines of a stream, and leave the stream open behind."""
    lines = Lines(stream, encoding)
    try:
        yield lines
    finally:
        lines.release()


def broken_byte(text: str) -> str | None:
    """Return e.g. `0xE9` for the first byte of a line that did not fit the encoding."""
    found = _ESCAPED.search(text)
    return f"0x{ord(found[0]) - 0xDC00:02X}" if found else None


def trouble_of(line: Line) -> str | None:
    """Return why a line cannot be read; None where it can."""
    if not line.whole:
        return f"longer than {ROW_LIMIT:,} characters"
    byte = broken_byte(line.text)
    return f"byte {byte} does not fit the file's encoding" if byte else None
