"""The calibration of a student on unlabeled texts: its true labels are drawn from its teacher's probabilities.

The result is as good as those probabilities. Nothing is measured here, since no true label is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.manifest import Manifest
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.evaluation.calibration import TARGET, Threshold, fit_temperature, threshold_of
from refsynth.kinds import as_floats
from refsynth.kinds.metrics import softmax
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor

MARGIN = 1e-15
"""The smallest distance of decision thresholds from 0 and 1 when a student's logits are shifted to them."""

Fast = TypeVar("Fast", bound=StaticPredictor | TfidfPredictor | CrfPredictor)


class Answers(NamedTuple):
    """N texts with the teacher's probabilities [N, ...] and answers [N]."""

    texts: Sequence[str]
    probabilities: Array
    answers: Array


def calibrated(predictor: Fast, taught: Answers, teacher: Manifest, *, seed: int) -> tuple[Fast, Calibration, Threshold | None]:
    """Return the calibrated student, its calibration and its threshold for being unsure.

    Classes, and whether an answer is right, are drawn from the teacher's probabilities. A bundle has one decision threshold for
    each label, so the student's logits are shifted to those of the teacher.
    """
    kind, thresholds = teacher.answers, teacher.calibration.thresholds
    logits = as_floats(predictor.logits(taught.texts))
    calibration = Calibration(temperature=_temperature(logits, taught, teacher, seed=seed), thresholds=thresholds)
    own = kind.thresholds(logits, taught.answers)
    if own is not None:
        shift = shift_of(own, np.array(thresholds or [0.5] * len(own)), temperature=calibration.temperature)
        head = predictor.head
        predictor = replace(predictor, head=LinearHead(head.weights, (head.bias + shift).astype(head.bias.dtype)))
    if not teacher.calibration.threshold:
        return predictor, calibration, None
    probabilities = kind.probabilities(as_floats(predictor.logits(taught.texts)) / calibration.temperature)
    answers = kind.decide(probabilities, teacher.calibration.label_thresholds)
    rng = np.random.default_rng(derive_seed(seed, "right"))
    right = rng.random(len(taught.texts)) < kind.confidence(taught.probabilities, answers)
    target = TARGET if teacher.unsure is None else teacher.unsure.accuracy
    threshold = threshold_of(right, kind.confidence(probabilities, answers), target=target)
    return predictor, calibration.model_copy(update={"threshold": threshold.threshold}), threshold


def _temperature(logits: Array, taught: Answers, teacher: Manifest, *, seed: int) -> float:
    kind = teacher.answers
    shares = softmax(kind.choices(kind.logits(taught.probabilities), taught.answers).values)
    drawn = _drawn(shares, seed=derive_seed(seed, "drawn"))
    return fit_temperature(kind.choices(logits, taught.answers).values, drawn)


def shift_of(own: FloatArray, thresholds: FloatArray, *, temperature: float) -> FloatArray:
    """Return the shift of logits [K] that maps the thresholds on logits to thresholds on probabilities.

    sigmoid((own + shift) / temperature) = threshold.
    """
    shares = np.clip(thresholds, MARGIN, 1 - MARGIN)
    return np.asarray(temperature * np.log(shares / (1 - shares)) - own)


def _drawn(probabilities: FloatArray, *, seed: int) -> IntArray:
    """Return a class for each row [N], drawn from its probabilities [N, K]."""
    rng = np.random.default_rng(seed)
    reached = probabilities.cumsum(1) > rng.random(len(probabilities))[:, None] * probabilities.sum(1, keepdims=True)
    return np.asarray(reached.argmax(1))
