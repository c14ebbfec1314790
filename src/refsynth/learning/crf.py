"""Fitting a linear-chain CRF over features of words, by CRFsuite (Okazaki, 2007)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refsynth.core.extras import require
from refsynth.core.spans import split_spans, tag_names, tags_of
from refsynth.core.types import Example
from refsynth.learning.head import NEVER, row_weights
from refsynth.models.crf import CrfPredictor, features_of
from refsynth.models.predict import LinearHead
from refsynth.models.tokenizer import split_words

OPTIONS = {"c1": 0.1, "c2": 0.1, "max_iterations": 100, "feature.possible_transitions": True}
"""Elastic net and iterations as usual for named entities. Transitions that no row has get weights too, and become unlikely."""

MOST_COPIES = 20


class CrfLearner:
    """A CRF over the form of words and of their neighbors."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> CrfPredictor:
        """Fit to the examples; `dev` and `seed` have no effect. A row of a higher weight is repeated."""
        suite = require("pycrfsuite", extra="train")
        trainer = suite.Trainer(algorithm="lbfgs", params=OPTIONS, verbose=False)
        weights = row_weights(train)
        copies = np.clip(np.round(weights / max(weights.min(), 1e-9)), 1, MOST_COPIES).astype(int)
        for example, count in zip(train, copies, strict=True):
            words = split_words(example.text)
            for _ in range(count):
                trainer.append(features_of(words), tags_of(split_spans(example.label), len(words)))
        with tempfile.TemporaryDirectory(prefix="refsynth-crf-") as folder:
            path = Path(folder) / "model"
            trainer.train(str(path))
            tagger = suite.Tagger()
            tagger.open(str(path))
            fitted = tagger.info()
            tagger.close()
        return _predictor(fitted.state_features, fitted.transitions, self._labels)


def _predictor(
    state_weights: Mapping[tuple[str, str], float],
    transition_weights: Mapping[tuple[str, str], float],
    labels: tuple[str, ...],
) -> CrfPredictor:
    """Return a fitted model as arrays; a tag that no row has is never predicted."""
    number = {tag: index for index, tag in enumerate(tag_names(labels))}
    terms = sorted({term for term, _ in state_weights})
    column = {term: index for index, term in enumerate(terms)}
    weights, transitions = np.zeros((len(terms), len(number))), np.zeros((len(number), len(number)))
    for (term, tag), weight in state_weights.items():
        weights[column[term], number[tag]] = weight
    for (before, after), weight in transition_weights.items():
        transitions[number[before], number[after]] = weight
    seen = {tag for _, tag in state_weights} | {tag for pair in transition_weights for tag in pair}
    bias = np.array([0.0 if tag in seen else NEVER for tag in number])
    return CrfPredictor(labels, tuple(terms), LinearHead(weights, bias), transitions)
