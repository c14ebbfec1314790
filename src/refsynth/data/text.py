"""Cleans and compares texts, and finds near-duplicates. Pure functions, deterministic across processes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np

from refsynth.core.extras import require
from refsynth.core.types import FloatArray, IntArray
from refsynth.core.words import UNSPACED_LANGUAGES
from refsynth.data.language import detect_script

_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]+")
_LONE = re.compile("[\ud800-\udfff]")
_DENSE = UNSPACED_LANGUAGES | {"ko"}  # one character carries much: a Hangul character is a syllable, four are a phrase
_BLOCK = 256  # rows of a product; bounds its memory
_CHUNK = 1 << 21  # shingles compared at once; bounds memory
_BANDS, _ROWS = 40, 4  # a pair of similarity s shares a band with probability 1 - (1 - s^4)^40: 0.99998 at 0.7, 0.28 at 0.3


def clean(text: str) -> str:
    """Return the text without control characters and zero-width spaces, with U+FFFD for lone surrogates, and single spaces."""
    return " ".join(_LONE.sub("\ufffd", _UNSEEN.sub("", text)).split())


def normalize(text: str) -> str:
    """Return the text in the form that is compared: NFKC, casefolded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean(text)).casefold()).split())


def shingles(text: str, language: str) -> frozenset[str]:
    """Return the character n-grams of the normalized text; n is 2 in Korean and in scripts without spaces, else 4."""
    text, n = normalize(text), 2 if language in _DENSE else 4
    return frozenset(text[i : i + n] for i in range(max(1, len(text) - n + 1))) if text else frozenset()


NEAR = 0.7
"""Least Jaccard similarity of two near-duplicates' character n-grams (Lee et al., 2022, use 0.8 on longer texts)."""


def near_groups(texts: Sequence[str], *, threshold: float = NEAR) -> IntArray:
    """Return the group number of each text [N]. Texts connected by a chain of near-duplicates share a group.

    Two texts are near-duplicates if the Jaccard similarity of their shingles is at least `threshold`. Candidates come from
    banded MinHash signatures (Broder, 1997; Leskovec et al., Mining of Massive Datasets, ch. 3) and are compared exactly.
    Groups are numbered by first appearance.
    """
    if not len(texts):
        return np.zeros(0, np.int64)
    language = detect_script(texts)
    distinct: dict[frozenset[str], int] = {}
    of_text = np.array([distinct.setdefault(shingles(text, language), len(distinct)) for text in texts])
    matrix = _incidence(list(distinct))
    group = np.arange(len(distinct))
    for band in _bands(matrix):
        for left, right in _candidates(band, group):
            _join(matrix, left, right, group, threshold)
    first, inverse = np.unique(group[of_text], return_index=True, return_inverse=True)[1:]
    return np.asarray(np.argsort(np.argsort(first))[inverse])


class Nearest(NamedTuple):
    """The most similar other text of each text.

    Attributes:
        place: its position; -1 if no other text shares a shingle [N].
        overlap: its Jaccard similarity [N].
    """

    place: IntArray
    overlap: FloatArray


def nearest_overlap(
    texts: Sequence[str], against: Sequence[str], *, language: str = "auto", except_for: IntArray | None = None
) -> FloatArray:
    """Return the highest Jaccard similarity of each text's shingles to any text in `against` [N]; see `nearest_of`."""
    return nearest_of([texts], [against], language=language, except_for=except_for).overlap


def nearest_of(
    texts: Sequence[Sequence[str]],
    against: Sequence[Sequence[str]],
    *,
    language: str = "auto",
    except_for: IntArray | None = None,
) -> Nearest:
    """Return the text of `against` that is most similar to each text; the first of equally similar ones.

    Args:
        texts: one list of N texts; or two lists, of the first and the second halves of N pairs. Pairs are as similar as their
            less similar halves.
        against: the texts to compare with, in as many lists.
        language: decides the length of a shingle; `auto` detects the script.
        except_for: for each text, the position in `against` that is not compared, or -1 [N].
    """
    n = len(texts[0])
    best, place = np.zeros(n), np.full(n, -1)
    if not n or not len(against[0]):
        return Nearest(place, best)
    language = detect_script(chain(*texts, *against)) if language == "auto" else language
    halves = [_Overlaps.of(half, others, language) for half, others in zip(texts, against, strict=True)]
    for start in range(0, n, _BLOCK):
        overlap = reduce(lambda first, second: first.minimum(second), (half.block(start) for half in halves)).tocsr()
        if except_for is not None:
            rows = np.repeat(np.arange(overlap.shape[0]), np.diff(overlap.indptr)) + start
            overlap.data[except_for[rows] == overlap.indices] = 0
        here = slice(start, start + overlap.shape[0])
        best[here] = overlap.max(axis=1).toarray()
        place[here] = np.where(best[here] > 0, np.asarray(overlap.argmax(axis=1)).ravel(), -1)
    return Nearest(place, best)


class _Overlaps(NamedTuple):
    """Shingles of the texts [N, V] and of the texts to compare with [V, M], and the number of shingles of each text [N + M]."""

    texts: Any
    against: Any
    sizes: IntArray

    @classmethod
    def of(cls, texts: Sequence[str], against: Sequence[str], language: str) -> Self:
        matrix = _incidence([shingles(text, language) for text in (*texts, *against)])
        return cls(matrix[: len(texts)], matrix[len(texts) :].T.tocsc(), np.diff(matrix.indptr))

    def block(self, start: int) -> Any:
        """Return the Jaccard similarities of B texts from `start` on: sparse, [B, M]."""
        shared = (self.texts[start : start + _BLOCK] @ self.against).tocoo()
        union = self.sizes[shared.row + start] + self.sizes[self.texts.shape[0] + shared.col] - shared.data
        shared.data = shared.data / union
        return shared.tocsr()


def _incidence(sets: Sequence[frozenset[str]]) -> Any:
    """Return the binary matrix of sets and their members [N, V]; the empty set holds the empty string."""
    column: dict[str, int] = {}
    rows = [sorted(column.setdefault(member, len(column)) for member in sorted(members or {""})) for members in sets]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.fromiter((index for row in rows for index in row), np.int32, indptr[-1])
    sparse = require("scipy.sparse", extra="train")
    return sparse.csr_array((np.ones(len(indices), np.int32), indices, indptr), shape=(len(sets), len(column)))


def _bands(matrix: Any) -> Iterator[IntArray]:
    """Yield for each band of the MinHash signatures the bucket number of each row [N]."""
    rng = np.random.default_rng(20_000)
    for _ in range(_BANDS):
        orders = (rng.permutation(matrix.shape[1]) for _ in range(_ROWS))
        signature = np.stack([np.minimum.reduceat(order[matrix.indices], matrix.indptr[:-1]) for order in orders], axis=1)
        yield np.unique(signature, axis=0, return_inverse=True)[1].ravel()


def _candidates(bucket: IntArray, group: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the pairs of rows that share a bucket but not a group; the caller merges groups in `group` meanwhile.

    Neighbors come first: they join a large family of near-copies into one group, so that its other pairs are never compared.
    """
    order = np.argsort(bucket, kind="stable")
    distance = 0
    while len(order):
        distance += 1
        together = bucket[order[:-distance]] == bucket[order[distance:]]
        left, right = order[:-distance][together], order[distance:][together]
        apart = group[left] != group[right]
        yield left[apart], right[apart]
        low, high = np.full(len(bucket), len(group)), np.full(len(bucket), -1)
        np.minimum.at(low, bucket[order], group[order])
        np.maximum.at(high, bucket[order], group[order])
        reach = np.bincount(bucket[order], minlength=len(bucket)) > distance + 1
        order = order[(reach & (low != high))[bucket[order]]]


def _join(matrix: Any, left: IntArray, right: IntArray, group: IntArray, threshold: float) -> None:
    """Compare the pairs exactly, and merge the groups of near-duplicates in place."""
    sizes = np.diff(matrix.indptr)
    possible = np.minimum(sizes[left], sizes[right]) >= threshold * np.maximum(sizes[left], sizes[right])
    left, right = left[possible], right[possible]
    chunk = np.cumsum(sizes[left] + sizes[right]) // _CHUNK
    for number in range(chunk[-1] + 1 if len(chunk) else 0):
        here = (chunk == number) & (group[left] != group[right])
        a, b = left[here], right[here]
        shared = np.asarray(matrix[a].multiply(matrix[b]).sum(1)).ravel()
        near = shared >= threshold * (sizes[a] + sizes[b] - shared)
        if near.any():
            ends = (group[a[near]], group[b[near]])
            edges = require("scipy.sparse", extra="train").coo_array((np.ones(near.sum()), ends), shape=(len(group), len(group)))
            graph = require("scipy.sparse.csgraph", extra="train")
            group[:] = graph.connected_components(edges, directed=False)[1][group]
