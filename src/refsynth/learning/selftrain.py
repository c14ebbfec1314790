"""Self-training: unlabelled texts that a model of the real rows is sure of join the training rows, as drafts with soft targets.

Fold-safe by construction: a `SelfTrainer` labels the pool anew with whatever judge it is handed, and remembers every real row
that the judge was fitted to as what the label owes something to. With a fold held out the judge has not seen it, and neither have
the labels; a label that was made with the fold cannot be mistaken for one that was not.
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
"""Probabilities are raised to this power before they become targets: from its own answers as they are a head learns nothing."""

PROMPT = "selftrain"
"""Stands in the provenance of such rows where a draft has its prompt."""

Choose = Callable[[Predictor, Sequence[Example], Sequence[Draft]], list[Draft]]
"""Chooses the drafts to train on, given a judge and the real rows that it was fitted to; what the gate and the fit ask for."""


class UnlabeledText(NamedTuple):
    """A text of the pool, with an id that no other row has."""

    id: str
    text: str


@dataclass(frozen=True)
class SelfTrainer:
    """Labels a pool with a judge's confident answers.

    Attributes:
        labels: the task's K labels.
        pool: the unlabelled texts, none of them a real row.
        per_class: of each label at most so many texts, those that the judge is most sure of, and no more than half as many
            again as the median label has.
        least: least confidence p / (p + p of the runner-up), from 0.5 to 1: it does not depend on K.
    """

    labels: tuple[str, ...]
    pool: Sequence[UnlabeledText]
    per_class: int = 200
    least: float = 0.75

    def joined(self, choose: Choose) -> Choose:
        """Return a choice of drafts that the confident texts of the pool join."""

        def choose_with_pool(judge: Predictor, real: Sequence[Example], drafts: Sequence[Draft]) -> list[Draft]:
            return [*choose(judge, real, drafts), *self.label(judge, real)]

        return choose_with_pool

    def label(self, judge: Predictor, real: Sequence[Example]) -> list[Draft]:
        """Return the texts that the judge is sure of, as drafts that owe something to every row it was fitted to.

        Args:
            judge: fitted to `real`.
            real: the rows that the model will be trained on.
        """
        if not self.pool:
            return []
        logits = np.asarray(judge.logits([row.text for row in self.pool]), float)
        sure = confidence(logits)
        targets = softmax(SHARPNESS * logits)
        seen = tuple(row.id for row in real)
        drafts = []
        for place in balanced(logits.argmax(1), sure, len(self.labels), per_class=self.per_class, least=self.least):
            row, label = self.pool[place], self.labels[int(logits[place].argmax())]
            origin = Provenance(PROMPT, seen, 0, PROMPT)
            example = Example(row.id, row.text, label, origin, tuple(targets[place].tolist()))
            drafts.append(Draft(example, {"confidence": float(sure[place])}))
        return drafts


def from_pool(example: Example) -> bool:
    """Return whether an example is a text that self-training labelled."""
    return example.provenance is not None and example.provenance.prompt == PROMPT


def confidence(logits: FloatArray) -> FloatArray:
    """Return p / (p + p of the runner-up) of the likeliest label [N], from 0.5 to 1."""
    best = np.sort(logits, axis=1)
    return np.asarray(1 / (1 + np.exp(best[:, -2] - best[:, -1])))


MARGIN = 1.5
"""A class keeps at most this many times the rows of the median class."""


def balanced(classes: IntArray, sure: FloatArray, k: int, *, per_class: int, least: float) -> list[int]:
    """Return the places of the surest rows of each class, in the order of the rows.

    Args:
        classes: of the rows, as answered [N].
        sure: confidence [N].
        k: the number of classes.
        per_class: the most rows of one class.
        least: the least confidence.
    """
    found = [np.flatnonzero((classes == label) & (sure >= least)) for label in range(k)]
    most = min(per_class, int(MARGIN * max(1.0, float(np.median([min(len(places), per_class) for places in found])))))
    return sorted(int(place) for places in found for place in places[np.argsort(-sure[places], kind="stable")][:most])
