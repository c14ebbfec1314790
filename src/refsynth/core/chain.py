"""Tags of the words of one text as a chain: `I-` follows only `B-` or `I-` of the same label. Scores [T, C], C = 1 + 2 K.

The columns are outside, K first words, K further words (`core.spans.tag_names`). The score of a path is the sum of its tags'
scores; a path that is not allowed has probability 0. All probabilities are exact, by forward and backward recursions (Rabiner,
1989, section III).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refsynth.core.types import FloatArray, IntArray


def best_path(scores: FloatArray) -> IntArray:
    """Return the allowed path with the highest score, as tag numbers [T] (Viterbi)."""
    t, c = scores.shape
    k = (c - 1) // 2
    best, back = np.array(scores, float), np.zeros((t, c), int)
    best[:1, 1 + k :] = -np.inf
    first = np.arange(1, 1 + k)
    for place in range(1, t):
        before = best[place - 1]
        lead = int(before.argmax())
        back[place, : 1 + k] = lead
        goes_on = before[1 + k :] > before[1 : 1 + k]
        back[place, 1 + k :] = np.where(goes_on, first + k, first)
        best[place] += before[back[place]]
    path = np.zeros(t, int)
    for place in range(t - 1, -1, -1):
        path[place] = best[place].argmax() if place == t - 1 else back[place + 1, path[place + 1]]
    return path


def occurrences(scores: FloatArray) -> FloatArray:
    """Return the probability that a span of each label occurs anywhere [K]: 1 minus that of all paths without its first word."""
    t, c = scores.shape
    k = (c - 1) // 2
    avoided = np.repeat(np.asarray(scores, float)[None], k + 1, axis=0)  # the last row avoids no label
    avoided[np.arange(k), :, 1 + np.arange(k)] = -np.inf
    to, ahead = np.zeros(k + 1), np.full((k + 1, 2 * k), -np.inf)
    for place in range(t):
        further = avoided[:, place, 1 + k :] + np.logaddexp(ahead[:, :k], ahead[:, k:])
        ahead = np.concatenate([avoided[:, place, 1 : 1 + k] + to[:, None], further], axis=1)
        to = np.logaddexp(avoided[:, place, 0] + to, np.logaddexp.reduce(ahead, axis=1))
    return np.asarray(-np.expm1(np.minimum(to[:k] - to[k], 0)) + 0.0)  # never -0


class Chain(NamedTuple):
    """The recursions over scores [T, C]: log-sums over the paths to and from each word.

    Attributes:
        scores: of the tags.
        to: over the paths that end before each word [T + 1].
        out: over the paths from each word on, if it does not continue a span [T + 1].
        total: over all paths.
    """

    scores: FloatArray
    to: FloatArray
    out: FloatArray
    total: float

    @classmethod
    def of(cls, scores: FloatArray) -> Chain:
        """Return the chain of scores: log-probabilities, or anything that differs from them by a constant per word."""
        scores = np.asarray(scores, float)
        t, c = scores.shape
        k = (c - 1) // 2
        to, out = np.zeros(t + 1), np.zeros(t + 1)
        ahead = np.full(2 * k, -np.inf)  # paths that end in a first or further word, at the word before
        for place in range(t):
            further = scores[place, 1 + k :] + np.logaddexp(ahead[:k], ahead[k:])
            ahead = np.concatenate([scores[place, 1 : 1 + k] + to[place], further])
            to[place + 1] = np.logaddexp(scores[place, 0] + to[place], np.logaddexp.reduce(ahead))
        rest = np.zeros(k)  # paths that go on from a word inside a span of each label
        for place in range(t - 1, -1, -1):
            out[place] = np.logaddexp(scores[place, 0] + out[place + 1], np.logaddexp.reduce(scores[place, 1 : 1 + k] + rest))
            rest = np.logaddexp(out[place], scores[place, 1 + k :] + rest)
        return cls(scores, to, out, float(to[t]))

    def path(self, path: IntArray) -> float:
        """Return the probability of an allowed path [T]."""
        return float(np.exp(self.scores[np.arange(len(path)), path].sum() - self.total))

    def span(self, start: int, end: int, label: int) -> float:
        """Return the probability that exactly the words from `start` up to but not including `end` are a span of the label."""
        k = (self.scores.shape[1] - 1) // 2
        inside = self.scores[start, 1 + label] + self.scores[start + 1 : end, 1 + k + label].sum()
        return float(np.exp(self.to[start] + inside + self.out[end] - self.total))
