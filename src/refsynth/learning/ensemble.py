"""Ensembles: the predictions of several learners, averaged or stacked, and a student that learns to predict the same.

An average or a stack needs all of its members for each prediction. A student is one model, so it can be shipped.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, logsumexp, softmax

from refsynth.core.errors import InputError
from refsynth.core.hashes import derive_seed
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.types import Example, FloatArray
from refsynth.learning.head import Link, targets_of
from refsynth.learning.parts import fair_parts, parts_of
from refsynth.learning.tuning.distill import Transfer, distill
from refsynth.models.adapted import has_parts
from refsynth.models.network import TransformerEncoder
from refsynth.models.pooling import is_causal
from refsynth.models.predict import EncoderPredictor, logits_of

Rule = Literal["average", "stacking"]
"""How an ensemble combines its members: the mean of their probabilities, or a product of them with learned exponents."""

TRANSFER = Transfer(hidden=0.0, attention=0.0, steps=200, rate=5e-5)
"""For the student. It starts as a copy of a member, so it only has to learn the answers of the others, in small steps."""

STUDENT_TEXTS = 2000
"""The most unlabeled texts that a student learns from: all members predict each of them."""

MOST_WEIGHT = 10.0
"""The largest exponent of a stack: if all members are right on all rows, nothing else bounds it."""

REMEMBERED = 2
"""Fits that are kept for each member: without drafts and with them."""


class RememberedLearner:
    """A learner that returns an earlier predictor for the same examples and seed.

    A run fits the members of an ensemble by themselves too. `learner` is the learner without this memory.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._fitted: dict[object, Predictor] = {}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> Predictor:
        """Fit to the examples, or return the predictor of an earlier fit to them."""
        key = (seed, tuple(train), tuple(dev))
        if key not in self._fitted:
            fitted = self.learner.fit(train, dev, seed=seed)
            while len(self._fitted) >= REMEMBERED:
                del self._fitted[next(iter(self._fitted))]
            self._fitted[key] = fitted
        return self._fitted[key]


@dataclass(frozen=True)
class EnsemblePredictor:
    """Several predictors as one.

    Attributes:
        labels: the labels of every member.
        members: the predictors by the name of their learner.
        link: how their logits become probabilities.
        weights: the exponents of a stack [M], in the order of the members: log p = sum_m w_m log p_m, up to normalization. None
            for the mean of probabilities.
    """

    kind: ClassVar[str] = "ensemble"
    labels: tuple[str, ...]
    members: Mapping[LearnerName, Predictor]
    link: Link = "softmax"
    weights: FloatArray | None = None

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        logits = np.stack(list(logits_of(self.members, texts).values())).astype(float)
        return joined(logits, self.link, self.weights)


def joined(logits: FloatArray, link: Link, weights: FloatArray | None) -> FloatArray:
    """Return the logits [N, K] of an ensemble from those of its members [M, N, K]."""
    if weights is not None:
        return np.asarray(np.tensordot(weights, _comparable(logits, link), 1))
    if link == "softmax":
        return np.asarray(logsumexp(log_softmax(logits, axis=-1), axis=0) - np.log(len(logits)))
    yes, no = (logsumexp(log_expit(sign * logits), axis=0) for sign in (1, -1))
    return np.asarray(yes - no)


def stack_weights(held_out: FloatArray, targets: FloatArray, link: Link) -> FloatArray:
    """Return the exponents [M] >= 0 that minimize the log loss of the product of the members' probabilities.

    Each member has one exponent (not negative, as in Breiman, 1996): with a few dozen rows, one for each member and pair of
    labels would overfit. The loss is convex in the exponents.

    Args:
        held_out: logits of each member for rows that it was not fitted to [M, N, K].
        targets: probabilities of the labels of the rows [N, K].
        link: how logits become probabilities.
    """
    logs = _comparable(held_out, link)

    def objective(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = np.tensordot(weights, logs, 1)
        if link == "softmax":
            loss, shares = -(targets * log_softmax(logits, axis=-1)).sum(), softmax(logits, axis=-1)
        else:
            loss = -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum()
            shares = expit(logits)
        return float(loss) / len(targets), np.tensordot(logs, shares - targets, 2) / len(targets)

    members = len(held_out)
    start = np.full(members, 1 / members)
    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, MOST_WEIGHT)] * members).x)


def _comparable(logits: FloatArray, link: Link) -> FloatArray:
    """Return log-probabilities of softmax logits, and log-odds as they are: values that mean the same for every member."""
    return np.asarray(log_softmax(logits, axis=-1)) if link == "softmax" else logits


class EnsembleLearner:
    """Fits several learners and combines their predictions."""

    def __init__(
        self,
        labels: tuple[str, ...],
        members: Mapping[LearnerName, RememberedLearner],
        *,
        rule: Rule,
        folds: int = 4,
        link: Link = "softmax",
    ) -> None:
        """Take the members.

        Args:
            labels: the labels of the task.
            members: at least two learners by name.
            rule: how their predictions are combined.
            folds: number of folds of the rows for a stack: members that were fitted without a fold predict it.
            link: how logits become probabilities.

        Raises:
            InputError: there are fewer than two members.
        """
        if len(members) < 2:
            raise InputError(f"an ensemble of {', '.join(members) or 'no learners'}", expected="at least two learners")
        self._labels, self._members, self._rule = labels, members, rule
        self._folds, self._link = folds, link

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EnsemblePredictor:
        """Fit every member to the examples, and the weights of a stack to the members' predictions for held-out rows."""
        fitted = _fit_all(self._members, train, dev, seed=seed)
        weights = self._stack(train, dev, seed=seed) if self._rule == "stacking" else None
        return EnsemblePredictor(self._labels, fitted, self._link, weights)

    def _stack(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> FloatArray:
        """Return the weights that fit the members' predictions for real rows when these, and drafts that saw them, are held out.

        All weights are equal if no row can be held out: if all rows are near-duplicates, or no two have a label in common.
        """
        real = [row for row in train if row.provenance is None]
        drafts = [row for row in train if row.provenance is not None]
        folds = parts_of(real, self._folds, seed=derive_seed(seed, "stack"), link=self._link)
        members = {name: member.learner for name, member in self._members.items()}
        logits: FloatArray = np.zeros((len(members), len(real), len(self._labels)))
        fair: list[int] = []
        for part, places in fair_parts(real, folds, self._labels, link=self._link):
            held = frozenset(row.id for row in part.held)
            rows = [*part.train, *(row for row in drafts if row.independent_of(held))]
            fitted = _fit_all(members, rows, dev, seed=derive_seed(seed, "stack", part.fold))
            logits[:, part.places] = np.stack(list(logits_of(fitted, [row.text for row in part.held]).values()))
            fair += part.places[places].tolist()
        if not fair:
            return np.full(len(members), 1 / len(members))
        fair = sorted(fair)
        targets = targets_of([real[place] for place in fair], self._labels, link=self._link)
        return stack_weights(logits[:, fair], targets, self._link)


def _fit_all(
    members: Mapping[LearnerName, Learner], train: Sequence[Example], dev: Sequence[Example], *, seed: int
) -> dict[LearnerName, Predictor]:
    """Fit the members. Those without early stopping train on the validation rows too."""
    return {
        name: learner.fit(train, dev, seed=seed)
        if LEARNERS[name].tuned or not dev
        else learner.fit([*train, *dev], (), seed=seed)
        for name, learner in members.items()
    }


class DistilledLearner:
    """Fits an ensemble, and distills it into one encoder with a head (Hinton et al., 2015)."""

    def __init__(self, teacher: EnsembleLearner, texts: Sequence[str] = ()) -> None:
        """Take the ensemble, and unlabeled texts that the student learns from in addition to the rows."""
        self._teacher, self._texts = teacher, texts

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit the ensemble to the examples and the student to the ensemble.

        Raises:
            InputError: no member has an encoder that a student can start from.
        """
        ensemble = self._teacher.fit(train, dev, seed=seed)
        first = _plain_member(ensemble)
        order = np.random.default_rng(derive_seed(seed, "texts")).permutation(len(self._texts))[:STUDENT_TEXTS]
        texts = list(dict.fromkeys([*(row.text for row in (*train, *dev)), *(self._texts[place] for place in order)]))
        student = copy.deepcopy(first.encoder)
        assert isinstance(student, TransformerEncoder)
        layers = range(int(student.transformer.config.num_hidden_layers))
        return distill([first], student, texts, matched=layers, seed=seed, transfer=TRANSFER, answered_by=ensemble)


def _plain_member(ensemble: EnsemblePredictor) -> EncoderPredictor:
    """Return the first member that is a head on an encoder without added parts, such as adapters."""
    for member in ensemble.members.values():
        if isinstance(member, EncoderPredictor) and isinstance(member.encoder, TransformerEncoder):
            transformer = member.encoder.transformer
            if not has_parts(transformer) and not is_causal(transformer.config):
                return member
    raise InputError(f"an ensemble of {', '.join(ensemble.members)}", expected="one learner on an encoder without added parts")
