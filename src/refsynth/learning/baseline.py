"""The learners that need no fine-tuning: TF-IDF with a logistic head, and a frozen encoder with a logistic head."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from refsynth.core.protocols import Encoder
from refsynth.core.types import Example
from refsynth.core.words import UNSPACED_LANGUAGES
from refsynth.learning.head import Link, fit_head_to
from refsynth.models.predict import EncoderPredictor, TfidfPredictor
from refsynth.models.tfidf import PATTERNS, TfidfVectors, Vocabulary

_WORD = re.compile(PATTERNS[0])


class TfidfLearner:
    """Logistic regression on TF-IDF of word 1- and 2-grams.

    Without spaces between words, or if no row has a word of two letters, it uses character 1- to 3-grams.
    """

    def __init__(self, labels: tuple[str, ...], *, language: str, link: Link = "softmax") -> None:
        self._labels, self._link = labels, link
        self._spaced = language not in UNSPACED_LANGUAGES

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> TfidfPredictor:
        """Fit to the examples; `dev` and `seed` have no effect."""
        texts = [example.text for example in train]
        words = self._spaced and any(map(_WORD.search, texts))
        options = {"ngram_range": (1, 2)} if words else {"analyzer": "char", "ngram_range": (1, 3)}
        vectorizer = TfidfVectorizer(sublinear_tf=True, **options)
        features = vectorizer.fit_transform(texts)
        vectors = TfidfVectors([Vocabulary.of_sklearn(vectorizer)])
        return TfidfPredictor(self._labels, vectors, fit_head_to(features, train, self._labels, link=self._link))


class FrozenLearner:
    """Logistic regression on the embeddings of a frozen encoder."""

    def __init__(self, labels: tuple[str, ...], encoder: Encoder, *, link: Link = "softmax") -> None:
        self._labels, self._link = labels, link
        self._encoder = encoder

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples; `dev` and `seed` have no effect."""
        features = self._encoder.encode([example.text for example in train])
        return EncoderPredictor(self._labels, self._encoder, fit_head_to(features, train, self._labels, link=self._link))
