"""The calibration of a student: its teacher's probabilities stand for the truth, which is drawn from them.

What it gives is as right as those probabilities are. Nobody knows a label here, so nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.manifest import Manifest
from refsynth.core.run import derive_seed
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.evaluation.calibration import TARGET, Threshold, fit_temperature, threshold_of
from refsynth.kinds import as_floats
from refsynth.kinds.metrics import softmax
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor

SURE = 1e-15
"""A threshold on a label's probability is at least this far from 0 and 1 where a student's logits are moved to it."""

Fast = TypeVar("Fast", bound=StaticPredictor | TfidfPredictor | CrfPredictor)


class Heard(NamedTuple):
    """N texts, what the teacher says of them (probabilities [N, ...]), and its answers by these."""

    texts: Sequence[str]
    probabilities: Array
    answers: Array


def calibrated(predictor: Fast, heard: Heard, teacher: Manifest, *, seed: int) -> tuple[Fast, Calibration, Threshold | None]:
    """Calibrate by what the teacher holds likely: classes, and whether an answer is right, are drawn from it.

    One bundle has one threshold for each label, by which texts of both tiers are told: logits are moved to the teacher's.
    """
    kind, bars = teacher.answers, teacher.calibration.thresholds
    logits = as_floats(predictor.logits(heard.texts))
    found = Calibration(temperature=_temperature(logits, heard, teacher, seed=seed), thresholds=bars)
    own = kind.thresholds(logits, heard.answers)
    if own is not None:
        shift = shift_of(own, np.array(bars or [0.5] * len(own)), temperature=found.temperature)
        head = predictor.head
        predictor = replace(predictor, head=LinearHead(head.weights, (head.bias + shift).astype(head.bias.dtype)))
    if not teacher.calibration.threshold:
        return predictor, found, None
    probabilities = kind.probabilities(as_floats(predictor.logits(heard.texts)) / found.temperature)
    said = kind.decide(probabilities, teacher.calibration.label_thresholds)
    rng = np.random.default_rng(derive_seed(seed, "right"))
    right = rng.random(len(heard.texts)) < kind.confidence(heard.probabilities, said)
    rule = teacher.unsure
    threshold = threshold_of(right, kind.confidence(probabilities, said), target=TARGET if rule is None else rule.accuracy)
    return predictor, found.model_copy(update={"threshold": threshold.threshold}), threshold


def _temperature(logits: Array, heard: Heard, teacher: Manifest, *, seed: int) -> float:
    kind = teacher.answers
    shares = softmax(kind.choices(kind.logits(heard.probabilities), heard.answers).values)
    drawn = _drawn(shares, seed=derive_seed(seed, "drawn"))
    return fit_temperature(kind.choices(logits, heard.answers).values, drawn)


def shift_of(cuts: FloatArray, thresholds: FloatArray, *, temperature: float) -> FloatArray:
    """Return what to add to logits [K], so that what reaches a cut reaches a threshold.

    sigmoid((cut + shift) / temperature) = threshold.
    """
    bars = np.clip(thresholds, SURE, 1 - SURE)
    return np.asarray(temperature * np.log(bars / (1 - bars)) - cuts)


def _drawn(probabilities: FloatArray, *, seed: int) -> IntArray:
    """Return a class for each row [N], drawn by its probabilities [N, K]."""
    rng = np.random.default_rng(seed)
    reached = probabilities.cumsum(1) > rng.random(len(probabilities))[:, None] * probabilities.sum(1, keepdims=True)
    return np.asarray(reached.argmax(1))
