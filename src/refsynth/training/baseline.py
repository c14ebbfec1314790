"""The learners that need no fine-tuning: TF-IDF with a logistic head, and a frozen encoder with a logistic head."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from refsynth.core.protocols import Encoder
from refsynth.core.types import Example
from refsynth.models.predict import EncoderPredictor, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.training.head import Link, fit_head_to

UNSPACED = frozenset({"zh", "ja", "th"})
"""Languages written without spaces between words: their TF-IDF features are character n-grams."""


class TfidfLearner:
    """Logistic regression on TF-IDF of word 1- and 2-grams; of character 1- to 3-grams where words are not spaced."""

    def __init__(self, labels: tuple[str, ...], *, language: str, link: Link = "softmax") -> None:
        self._labels, self._link = labels, link
        self._options = {"analyzer": "char", "ngram_range": (1, 3)} if language in UNSPACED else {"ngram_range": (1, 2)}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> TfidfPredictor:
        """Fit to the examples; `dev` and `seed` have no effect."""
        del dev, seed
        vectorizer = TfidfVectorizer(sublinear_tf=True, **self._options)
        features = vectorizer.fit_transform([example.text for example in train])
        vectors = TfidfVectors([Vocabulary.of_sklearn(vectorizer)])
        return TfidfPredictor(self._labels, vectors, fit_head_to(features, train, self._labels, link=self._link))


class FrozenLearner:
    """Logistic regression on the embeddings of an encoder that is left as it is."""

    def __init__(self, labels: tuple[str, ...], encoder: Encoder, *, link: Link = "softmax") -> None:
        self._labels, self._link = labels, link
        self._encoder = encoder

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples; `dev` and `seed` have no effect."""
        del dev, seed
        features = self._encoder.encode([example.text for example in train])
        return EncoderPredictor(self._labels, self._encoder, fit_head_to(features, train, self._labels, link=self._link))
