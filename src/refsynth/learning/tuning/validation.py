"""Early stopping: the errors of a model on validation rows, and its log loss to choose among models with as many errors.

The log loss alone would stop training too early: in fine-tuning it rises with the model's confidence long before the predictions
become worse (Guo et al., 2017, section 3; design/019-stopping.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from refsynth.core.protocols import Predictor
from refsynth.core.types import Example
from refsynth.kinds import ANY_LABELS, ONE_LABEL, SPANS, Kind, given_labels
from refsynth.kinds.metrics import log_loss, softmax
from refsynth.learning.head import Link

TagLink = Literal["tags"]

KIND_OF: Mapping[Link | TagLink, Kind] = {"softmax": ONE_LABEL, "sigmoid": ANY_LABELS, "tags": SPANS}


class Faults(NamedTuple):
    """1 minus the score of the task kind, and the log loss of a decision in nats; compared in this order."""

    errors: float
    loss: float


def faults_of(predictor: Predictor, rows: Sequence[Example], *, link: Link | TagLink) -> Faults:
    """Return the faults of a model on validation rows."""
    kind = KIND_OF[link]
    truth = kind.truth(given_labels(rows), predictor.labels)
    logits = predictor.logits([row.text for row in rows])
    answers, choices = kind.decide(kind.probabilities(logits)), kind.choices(logits, truth)
    return Faults(1 - float(np.mean(kind.scores(truth, answers))), log_loss(choices.truth, softmax(choices.values)))
