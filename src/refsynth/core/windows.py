"""What is read of texts that are longer than an encoder reads at once, as token ids. It knows no tokenizer and no encoder.

`cut` reads the beginning; `head_tail` the beginning and the end, the same number of tokens of each; `mean` reads windows, one
after the other, and takes the mean of their vectors, weighted by their tokens. For labels of words, windows overlap (unless
`cut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray

Windows = Literal["cut", "head_tail", "mean"]
LONGEST = 128
"""The default number of tokens that are read at once."""
REACH = 16
"""The most windows that are read of one text, so that its cost is bounded."""


class Frame(NamedTuple):
    """How many tokens stand before and after each text: special tokens, and those of a prefix."""

    front: int
    back: int

    @classmethod
    def of(cls, special: Sequence[int], prefix: int) -> Frame:
        """Return the frame of a text, from the mask of its special tokens and the number of tokens of a prefix."""
        own = [place for place, mark in enumerate(special) if not mark]
        return cls(own[0] + prefix, len(special) - 1 - own[-1]) if own else cls(prefix, 0)


class WindowedTexts(NamedTuple):
    """Texts as W windows: the ids of each, the index of its text [W], and the number of its own tokens [W]."""

    rows: list[Sequence[int]]
    owners: IntArray
    sizes: IntArray


class TextWindow(NamedTuple):
    """A window of a text's words: its ids, and where the words begin and end in it whose states are taken from it."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


def reach_of(longest: int, windows: Windows, frame: Frame) -> int:
    """Return the most ids of a text that are read, with the frame; for `head_tail`, how far the end is looked for."""
    if windows == "cut":
        return longest
    return max(longest - sum(frame), 1) * REACH + sum(frame) if windows == "mean" else longest << 8


def head_and_tail(ids: list[int], longest: int) -> list[int]:
    """Return the beginning and the end of a text that is longer than `longest`, the same number of ids of each."""
    return ids if len(ids) <= longest else ids[: longest - longest // 2] + ids[len(ids) - longest // 2 :]


def split_rows(rows: Sequence[Sequence[int]], longest: int, frame: Frame) -> WindowedTexts:
    """Return texts as windows of at most `longest` ids, each in the frame of its text."""
    found: list[Sequence[int]] = []
    owners: list[int] = []
    room = max(longest - sum(frame), 1)
    for owner, ids in enumerate(rows):
        if len(ids) <= longest:
            found.append(ids)
            owners.append(owner)
            continue
        front, inner, back = ids[: frame.front], ids[frame.front : len(ids) - frame.back], ids[len(ids) - frame.back :]
        windows = [[*front, *inner[start : start + room], *back] for start in range(0, len(inner), room)]
        found += windows
        owners += [owner] * len(windows)
    sizes = [max(len(row) - sum(frame), 1) for row in found]
    return WindowedTexts(found, np.array(owners, int), np.array(sizes, int))


def joined(vectors: FloatArray, split: WindowedTexts, n: int) -> FloatArray:
    """Return the mean vector of each of `n` texts [N, D], scaled to the mean length of its windows' vectors [W, D]."""
    if len(split.rows) == n:
        return vectors
    weights = split.sizes / np.bincount(split.owners, split.sizes, n)[split.owners]
    means, lengths = np.zeros((n, vectors.shape[1])), np.zeros(n)
    np.add.at(means, split.owners, weights[:, None] * vectors)
    np.add.at(lengths, split.owners, weights * np.linalg.norm(vectors, axis=1))
    means *= (lengths / np.maximum(np.linalg.norm(means, axis=1), 1e-12))[:, None]
    whole = np.bincount(split.owners, minlength=n)[split.owners] == 1  # texts of one window keep their vector to the last digit
    means[split.owners[whole]] = vectors[whole]
    return np.asarray(means, vectors.dtype)


def word_parts(ids: list[int], starts: list[int], ends: list[int], longest: int, frame: Frame) -> list[TextWindow]:
    """Return a text of words as windows of at most `longest` ids. Neighbors share about a quarter of their words.

    The state of a word in two windows is taken from the one in which it stands farther from the edge.

    Args:
        ids: of the text, in its frame.
        starts: the place of each word's first id.
        ends: the place after each word's last id.
        longest: the most ids of a window.
        frame: of the text.
    """
    if len(ids) <= longest or not starts:
        return [TextWindow(ids[:longest], starts, ends)]
    room = max(longest - sum(frame), 1)
    bounds = _bounds(starts, ends, room)
    middles = [0, *((after + last) // 2 for (_, last), (after, _) in pairwise(bounds)), len(starts)]
    parts = []
    for (first, last), low, high in zip(bounds, middles[:-1], middles[1:], strict=True):
        begin, end = starts[first], min(ends[last - 1], starts[first] + room)
        shift = frame.front - begin
        inner = ids[: frame.front] + ids[begin:end] + ids[len(ids) - frame.back :]
        parts.append(
            TextWindow(
                inner, [starts[n] + shift for n in range(low, high)], [min(ends[n], end) + shift for n in range(low, high)]
            )
        )
    return parts


def _bounds(starts: list[int], ends: list[int], room: int) -> list[tuple[int, int]]:
    """Return the words of each window, from the first up to but not including the last."""
    bounds, first = [], 0
    while True:
        last = first + 1
        while last < len(starts) and ends[last] - starts[first] <= room:
            last += 1
        bounds.append((first, last))
        if last == len(starts):
            return bounds
        after = last
        while after - 1 > first and ends[last - 1] - starts[after - 1] <= room // 4:
            after -= 1
        first = after
