"""TF-IDF features without scikit-learn: the same values as its TfidfVectorizer, computed from a stored vocabulary.

Word n-grams (`word`), or character n-grams within words (`char_wb`) or across them (`char`), are counted and weighted with idf.
Each vocabulary's features of a text have unit length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.types import FloatArray, IntArray

Analyzer = Literal["word", "char", "char_wb"]
PATTERNS = (r"(?u)\b\w\w+\b", r"(?u)\b\w+\b")  # a closed list, since a pattern from a file could run forever
_SPACES = re.compile(r"\s\s+")


class SparseRow(NamedTuple):
    """The non-zero features of one text: column indices and values."""

    indices: IntArray
    values: FloatArray


@dataclass(frozen=True)
class Vocabulary:
    """A vectorizer: the n-grams that it counts, its V terms in column order, and their idf [V]."""

    analyzer: Analyzer
    low: int
    high: int
    terms: tuple[str, ...]
    idf: FloatArray
    lowercase: bool = True
    sublinear: bool = False
    pattern: str = PATTERNS[0]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ModelError: they do not fit.
        """
        if self.pattern not in PATTERNS:
            raise ModelError(f"token pattern {self.pattern!r}", expected=f"one of {', '.join(PATTERNS)}")
        if not 1 <= self.low <= self.high:
            raise ModelError(f"n-grams from {self.low} to {self.high}", expected="1 <= low <= high")
        if self.idf.shape != (len(self.terms),):
            raise ModelError(f"{len(self.terms)} terms and idf of shape {self.idf.shape}", expected="one idf a term")

    @cached_property
    def columns(self) -> dict[str, int]:
        """The column of each term."""
        return {term: column for column, term in enumerate(self.terms)}

    def row(self, text: str) -> SparseRow:
        """Return the features of a text, of unit length unless no term occurs."""
        columns = self.columns
        counts = Counter(columns[gram] for gram in self._grams(text) if gram in columns)
        indices = np.fromiter(counts, int, len(counts))
        values = np.fromiter(counts.values(), float, len(counts))
        if self.sublinear:
            values = np.log(values) + 1
        values = values * self.idf[indices]
        norm = np.sqrt((values**2).sum())
        return SparseRow(indices, values / norm if norm else values)

    def _grams(self, text: str) -> Iterator[str]:
        text = text.lower() if self.lowercase else text
        if self.analyzer == "word":
            words = re.findall(self.pattern, text)
            return (" ".join(words[i : i + n]) for n in range(self.low, self.high + 1) for i in range(len(words) - n + 1))
        text = _SPACES.sub(" ", text)
        if self.analyzer == "char":
            return (text[i : i + n] for n in range(self.low, self.high + 1) for i in range(len(text) - n + 1))
        return self._word_bound_grams(text)

    def _word_bound_grams(self, text: str) -> Iterator[str]:
        for word in text.split():
            padded = f" {word} "
            for n in range(self.low, self.high + 1):
                if n >= len(padded):  # a word no longer than n counts once, not again for larger n
                    yield padded
                    break
                yield from (padded[i : i + n] for i in range(len(padded) - n + 1))

    @classmethod
    def of_sklearn(cls, vectorizer: Any) -> Vocabulary:
        """Return the vocabulary of a fitted scikit-learn TfidfVectorizer.

        Raises:
            ModelError: it uses an option that is not supported.
        """
        options = vectorizer.get_params()
        required = {"norm": "l2", "binary": False}
        required |= dict.fromkeys(("strip_accents", "preprocessor", "tokenizer", "stop_words"))
        unsupported = [name for name, value in required.items() if options[name] != value]
        if unsupported or options["analyzer"] not in ("word", "char", "char_wb"):
            raise ModelError(
                f"a TfidfVectorizer with {', '.join(unsupported) or 'an analyzer of its own'}",
                expected=", ".join(f"{name}={value!r}" for name, value in required.items()),
            )
        terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
        idf = np.asarray(vectorizer.idf_ if options["use_idf"] else np.ones(len(terms)), float)
        low, high = options["ngram_range"]
        return cls(
            analyzer=options["analyzer"],
            low=int(low),
            high=int(high),
            terms=tuple(terms),
            idf=idf,
            lowercase=options["lowercase"],
            sublinear=options["sublinear_tf"],
            pattern=options["token_pattern"] or PATTERNS[0],
        )


class TfidfVectors:
    """The features of several vocabularies side by side, as scikit-learn's FeatureUnion does."""

    def __init__(self, parts: Sequence[Vocabulary]) -> None:
        self.parts = tuple(parts)
        self._offsets = np.cumsum([0, *(len(part.terms) for part in self.parts)])

    @property
    def dimension(self) -> int:
        """The number of columns, D."""
        return int(self._offsets[-1])

    def terms(self, columns: IntArray) -> list[str]:
        """Return the n-gram of each column."""
        parts = np.searchsorted(self._offsets, columns, side="right") - 1
        return [self.parts[part].terms[column - self._offsets[part]] for part, column in zip(parts, columns, strict=True)]

    def rows(self, texts: Sequence[str]) -> list[SparseRow]:
        """Return the non-zero features of each text."""
        return [self._row(text) for text in texts]

    def _row(self, text: str) -> SparseRow:
        rows = [part.row(text) for part in self.parts]
        shifted = [row.indices + offset for row, offset in zip(rows, self._offsets, strict=False)]
        return SparseRow(np.concatenate(shifted), np.concatenate([row.values for row in rows]))
