"""Reads sentences with one token per line and its tag in the last column: CoNLL-2003, CoNLL-U and similar formats.

Tabs separate the columns if there are any, else spaces. Blank lines separate sentences. `-DOCSTART-` lines and comments
(`# text = ...`) are skipped.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from refsynth.data.schemes import OUTSIDES, is_scheme
from refsynth.data.source import ROW_LIMIT, Line, Lines, trouble_of

_HEAD = 400  # lines from which the layout is found
_COMMENT = re.compile(r"#\s*(newdoc|newpar|[\w.:-]+\s*=)")
_RANGE = re.compile(r"\d+[-.]\d+")  # number of a multi-token word or an empty node in CoNLL-U
_MISC = re.compile(r"(?:^|\|)(?:NER|ner|Entity)=([^|]+)")
_UNIVERSAL = 10  # columns of CoNLL-U


class Sentence(NamedTuple):
    """Tokens and their tags, the physical line of the first token, and what is wrong with the sentence."""

    line: int
    tokens: list[str]
    tags: list[str]
    trouble: str | None


class _Shape(NamedTuple):
    """How a file's lines are laid out."""

    tabs: bool
    width: int
    token: int

    def fields(self, text: str) -> list[str]:
        return [field.strip() for field in text.strip("\r\n").split("\t")] if self.tabs else text.split()

    def tag(self, fields: Sequence[str]) -> str:
        """Return the last column; in CoNLL-U, the entity in that column."""
        if self.width != _UNIVERSAL or self.token == 0 or fields[-1] in OUTSIDES or is_scheme(fields[-1:]):
            return fields[-1]
        match = _MISC.search(fields[-1])
        return match[1] if match else "O"


def sentences(lines: Lines) -> Iterator[Sentence]:
    """Yield the sentences of a file."""
    shape = _shape_of(_head(lines))
    sentence, size = Sentence(1, [], [], None), 0
    for line in itertools.chain(lines, [None]):
        begun = bool(sentence.tokens or sentence.trouble)
        if line is None or not line.text.strip():
            if begun:
                yield sentence
            sentence, size = Sentence(1, [], [], None), 0
            continue
        fields = shape.fields(line.text)
        if fields[0] == "-DOCSTART-" or (not begun and _is_comment(line.text, fields, shape)):
            continue
        if shape.token and _RANGE.fullmatch(fields[0]):
            continue
        if not begun:
            sentence = sentence._replace(line=line.number)
        size += len(line.text)
        problem = trouble_of(line) or _problem(fields, shape)
        if size > ROW_LIMIT:
            problem = f"longer than {ROW_LIMIT:,} characters; is there a blank line between sentences?"
        if problem:
            sentence = sentence._replace(trouble=sentence.trouble or f"line {line.number}: {problem}")
            continue
        sentence.tokens.append(fields[shape.token])
        sentence.tags.append(shape.tag(fields))


def _problem(fields: Sequence[str], shape: _Shape) -> str | None:
    if len(fields) < 2:
        return "a token without a tag"
    if len(fields) != shape.width:
        return f"{len(fields)} columns, where other lines have {shape.width}"
    return None if fields[shape.token] and fields[-1] else "an empty token or tag"


def looks_conll(lines: Lines) -> bool:
    """Return whether lines are clearly tokens with tags. All lines read are given back."""
    head = _head(lines)
    shape = _shape_of(head)
    rows = [shape.fields(line.text) for line in _tokens(head, shape)]
    if len(rows) < 2 or shape.width < 2 or any(len(fields) != shape.width for fields in rows):
        return False
    tags = [shape.tag(fields) for fields in rows]
    return is_scheme(tags) and any(tag in OUTSIDES for tag in tags)


def _head(lines: Lines) -> list[Line]:
    head = list(itertools.islice(lines, _HEAD))
    lines.give_back(head)
    return head


def _shape_of(head: Sequence[Line]) -> _Shape:
    """Return the layout with the most frequent number of columns. The first column is skipped if it numbers the tokens."""
    likely = [line for line in head if line.text.strip() and not line.text.startswith(("#", "-DOCSTART-"))]
    tabs = 2 * sum("\t" in line.text.strip() for line in likely) > len(likely)
    shape = _Shape(tabs, 0, 0)
    widths = Counter(len(shape.fields(line.text)) for line in likely)
    shape = shape._replace(width=max(widths, key=lambda width: widths[width], default=0))
    groups = [
        [shape.fields(line.text)[0] for line in group]
        for blank, group in itertools.groupby(_tokens(head, shape, blanks=True), lambda line: not line.text.strip())
        if not blank
    ]
    plain = [[first for first in group if not _RANGE.fullmatch(first)] for group in groups]
    numbered = any(len(group) > 1 for group in plain) and all(
        group in ([str(number + base) for number in range(len(group))] for base in (0, 1)) for group in plain
    )
    return shape._replace(token=1 if numbered and shape.width > 2 else 0)


def _tokens(head: Sequence[Line], shape: _Shape, *, blanks: bool = False) -> list[Line]:
    """Return the lines with tokens, and with `blanks` also the blank lines between sentences."""
    kept, begun = [], False
    for line in head:
        text = line.text
        if not text.strip():
            begun = False
            kept += [line] * blanks
        elif not text.startswith("-DOCSTART-") and (begun or not _is_comment(text, shape.fields(text), shape)):
            begun = True
            kept.append(line)
    return kept


def _is_comment(text: str, fields: Sequence[str], shape: _Shape) -> bool:
    """Return whether a line before a sentence is a comment. `#` may also be a token or begin one (`#1`)."""
    return text.startswith("#") and (len(fields) != shape.width or _COMMENT.match(text) is not None)
