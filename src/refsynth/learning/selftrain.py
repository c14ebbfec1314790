"""Self-training: unlabeled texts with confident predictions join the training rows, as drafts with soft targets.

It is fold-safe by construction. A `SelfTrainer` labels the pool again with each judge, and the provenance of a label names every
real row that the judge was fitted to. For a held-out fold the judge has not seen the fold's rows, so its labels do not depend on
them; and a label that does depend on them names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsynth.core.protocols import Predictor
from refsynth.core.types import Draft, Example, FloatArray, IntArray, Provenance
from refsynth.kinds.metrics import softmax

SHARPNESS = 2.0
"""A judge's probabilities are raised to this power before they become targets: sharper, but not one-hot. A head would learn
nothing from its own probabilities."""

CLASS_MARGIN = 1.5
"""A class keeps at most this many times the rows of the median class."""

PROMPT = "selftrain"
"""The prompt in the provenance of texts of the pool."""

Choose = Callable[[Predictor, Sequence[Example], Sequence[Draft]], list[Draft]]
"""Selects the drafts to train on, given a judge and the real rows that it was fitted to. The gate and the final fit take one."""


class UnlabeledText(NamedTuple):
    """A text of the pool, with an id that no other row has."""

    id: str
    text: str


@dataclass(frozen=True)
class SelfTrainer:
    """Labels a pool with a judge's confident predictions.

    Attributes:
        labels: the task's K labels.
        pool: the unlabeled texts, none of them a real row.
        per_class: the most texts of a label, the most confident first; a label also has at most `CLASS_MARGIN` times the texts of
            the median label.
        least: the least confidence p / (p + p of the runner-up), from 0.5 to 1; it does not depend on K.
    """

    labels: tuple[str, ...]
    pool: Sequence[UnlabeledText]
    per_class: int = 200
    least: float = 0.75

    def joined(self, choose: Choose) -> Choose:
        """Return a selection of drafts that also adds the confident texts of the pool."""

        def choose_with_pool(judge: Predictor, real: Sequence[Example], drafts: Sequence[Draft]) -> list[Draft]:
            return [*choose(judge, real, drafts), *self.label(judge, real)]

        return choose_with_pool

    def label(self, judge: Predictor, real: Sequence[Example]) -> list[Draft]:
        """Return the texts with confident predictions of a judge, as drafts with the judge's rows `real` in their provenance."""
        if not self.pool:
            return []
        logits = np.asarray(judge.logits([row.text for row in self.pool]), float)
        confidences = confidence(logits)
        targets = softmax(SHARPNESS * logits)
        origin = Provenance(PROMPT, tuple(row.id for row in real), 0, PROMPT)
        drafts = []
        for place in balanced(logits.argmax(1), confidences, len(self.labels), per_class=self.per_class, least=self.least):
            row, label = self.pool[place], self.labels[int(logits[place].argmax())]
            example = Example(row.id, row.text, label, origin, tuple(targets[place].tolist()))
            drafts.append(Draft(example, {"confidence": float(confidences[place])}))
        return drafts


def from_pool(example: Example) -> bool:
    """Return whether an example is a text that self-training labeled."""
    return example.provenance is not None and example.provenance.prompt == PROMPT


def confidence(logits: FloatArray) -> FloatArray:
    """Return p / (p + p of the runner-up) of the most probable label [N], from 0.5 to 1."""
    best = np.sort(logits, axis=1)
    return np.asarray(1 / (1 + np.exp(best[:, -2] - best[:, -1])))


def balanced(classes: IntArray, confidences: FloatArray, k: int, *, per_class: int, least: float) -> list[int]:
    """Return the places of the most confident rows of each class, in the order of the rows.

    Args:
        classes: predicted class of each row [N].
        confidences: confidence of each row [N].
        k: the number of classes.
        per_class: the most rows of one class.
        least: the least confidence.
    """
    by_class = [np.flatnonzero((classes == label) & (confidences >= least)) for label in range(k)]
    most = min(per_class, int(CLASS_MARGIN * max(1.0, float(np.median([min(len(places), per_class) for places in by_class])))))
    return sorted(int(row) for places in by_class for row in places[np.argsort(-confidences[places], kind="stable")][:most])
