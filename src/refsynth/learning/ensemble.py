"""Ensembles: the answers of several learners averaged or stacked, and a student that learns to give the same.

An average or a stack needs all of its members at each prediction; a student is one model, and can be shipped.
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
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import derive_seed
from refsynth.core.types import Example, FloatArray
from refsynth.learning.head import Link
from refsynth.learning.parts import fair_parts, parts_of
from refsynth.learning.tuning.distill import Transfer, distill
from refsynth.learning.tuning.objective import targets_of
from refsynth.models.adapted import has_parts
from refsynth.models.network import TransformerEncoder
from refsynth.models.pooling import is_causal
from refsynth.models.predict import EncoderPredictor, logits_of

Rule = Literal["average", "stacking"]
"""How the members' answers become one: the mean of their probabilities, or a product of them with learnt exponents."""

"""Learners that want rows which tell when to stop."""

TRANSFER = Transfer(hidden=0.0, attention=0.0, steps=200, rate=5e-5)
"""Of the student: it begins as one of its teachers, so that only answers are to be learnt, in small steps."""

TAUGHT = 2000
"""Unlabelled texts that a student learns from, at most: all members answer each of them."""

MOST_WEIGHT = 10.0
"""Of a stack: where all members are right on all rows, nothing else bounds the exponents."""

REMEMBERED = 2
"""Fits that a member is remembered for: without drafts and with."""


class RememberedLearner:
    """A learner that gives back its last predictors when it is asked for the same again.

    An ensemble asks its members for what the run asks of them by themselves. `learner` forgets.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._made: dict[object, Predictor] = {}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> Predictor:
        """Fit to the examples, or return what came of the same fit before."""
        key = (seed, tuple(train), tuple(dev))
        if key not in self._made:
            made = self.learner.fit(train, dev, seed=seed)
            while len(self._made) >= REMEMBERED:
                del self._made[next(iter(self._made))]
            self._made[key] = made
        return self._made[key]


@dataclass(frozen=True)
class EnsemblePredictor:
    """Several predictors as one.

    Attributes:
        labels: of all of them.
        members: by the name of their learner.
        link: how their logits become probabilities.
        weights: of a stack, [M] in the order of the members: log p = sum_m w_m log p_m, up to what makes shares add up to 1; None
            for the mean of probabilities.
    """

    kind: ClassVar[str] = "ensemble"
    labels: tuple[str, ...]
    members: Mapping[LearnerName, Predictor]
    link: Link = "softmax"
    weights: FloatArray | None = None

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        said = np.stack(list(logits_of(self.members, texts).values())).astype(float)
        return joined(said, self.link, self.weights)


def joined(said: FloatArray, link: Link, weights: FloatArray | None) -> FloatArray:
    """Return the logits [N, K] of an ensemble whose members say [M, N, K]."""
    if weights is not None:
        return np.asarray(np.tensordot(weights, _comparable(said, link), 1))
    if link == "softmax":
        return np.asarray(logsumexp(log_softmax(said, axis=-1), axis=0) - np.log(len(said)))
    yes, no = (logsumexp(log_expit(sign * said), axis=0) for sign in (1, -1))
    return np.asarray(yes - no)


def stack_weights(said: FloatArray, targets: FloatArray, link: Link) -> FloatArray:
    """Return exponents [M], none negative, with the least log loss of the product of the members' probabilities.

    A stacking of one number for each member (none negative, as in Breiman, 1996): with a few dozen rows a number for each member
    and pair of labels would learn the rows by heart. The loss is convex in the exponents.

    Args:
        said: what each member says of rows that it was not fitted to, logits [M, N, K].
        targets: what the rows are, probabilities [N, K].
        link: how logits become probabilities.
    """
    logs = _comparable(said, link)

    def objective(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = np.tensordot(weights, logs, 1)
        if link == "softmax":
            loss, shares = -(targets * log_softmax(logits, axis=-1)).sum(), softmax(logits, axis=-1)
        else:
            loss = -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum()
            shares = expit(logits)
        return float(loss) / len(targets), np.tensordot(logs, shares - targets, 2) / len(targets)

    start = np.full(len(said), 1 / len(said))
    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(0, MOST_WEIGHT)] * len(said)).x)


def _comparable(said: FloatArray, link: Link) -> FloatArray:
    """Return log-probabilities, or log-odds as they are: logits without what they do not say."""
    return np.asarray(log_softmax(said, axis=-1)) if link == "softmax" else said


class EnsembleLearner:
    """Fits several learners and joins what they say."""

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
            labels: of the task.
            members: by name, at least two.
            rule: how their answers become one.
            folds: of the rows, for a stack: each is answered by members that were fitted without it.
            link: how logits become probabilities.

        Raises:
            InputError: there are fewer than two members.
        """
        if len(members) < 2:
            raise InputError(f"an ensemble of {', '.join(members) or 'nobody'}", expected="at least two learners")
        self._labels, self._members, self._rule = labels, members, rule
        self._folds, self._link = folds, link

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EnsemblePredictor:
        """Fit every member to the examples, and the weights of a stack to what members say of rows that they have not seen."""
        fitted = _fit_all(self._members, train, dev, seed=seed)
        weights = self._stack(train, dev, seed=seed) if self._rule == "stacking" else None
        return EnsemblePredictor(self._labels, fitted, self._link, weights)

    def _stack(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> FloatArray:
        """Return the weights that suit what members say of real rows when these, and drafts that saw them, are held out.

        Where no row can tell members apart, since all are alike or no two have a label in common, all weigh the same.
        """
        real = [row for row in train if row.provenance is None]
        folds = parts_of(real, self._folds, seed=derive_seed(seed, "stack"), link=self._link)
        members = {name: member.learner for name, member in self._members.items()}
        said: FloatArray = np.zeros((len(self._members), len(real), len(self._labels)))
        fair: list[int] = []
        drafts = [row for row in train if row.provenance is not None]
        for part, places in fair_parts(real, folds, self._labels, link=self._link):
            held = frozenset(row.id for row in part.held)
            rest = [*part.train, *(row for row in drafts if row.independent_of(held))]
            fitted = _fit_all(members, rest, dev, seed=derive_seed(seed, "stack", part.fold))
            said[:, part.places] = np.stack(list(logits_of(fitted, [row.text for row in part.held]).values()))
            fair += part.places[places].tolist()
        if not fair:
            return np.full(len(self._members), 1 / len(self._members))
        known = sorted(fair)
        return stack_weights(
            said[:, known], targets_of([real[place] for place in known], self._labels, link=self._link), self._link
        )


def _fit_all(
    members: Mapping[LearnerName, Learner], train: Sequence[Example], dev: Sequence[Example], *, seed: int
) -> dict[LearnerName, Predictor]:
    """Fit the members; the rows that tell some of them when to stop are rows to train on for the others."""
    return {
        name: learner.fit(train, dev, seed=seed)
        if LEARNERS[name].tuned or not dev
        else learner.fit([*train, *dev], (), seed=seed)
        for name, learner in members.items()
    }


class DistilledLearner:
    """Fits an ensemble, and one model of an encoder's shape that answers as the ensemble does (Hinton et al., 2015)."""

    def __init__(self, teacher: EnsembleLearner, texts: Sequence[str] = ()) -> None:
        """Take the ensemble, and unlabelled texts that the student learns from beside the rows."""
        self._teacher, self._texts = teacher, texts

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit the ensemble to the examples and the student to the ensemble.

        Raises:
            InputError: no member has an encoder that a student can begin as.
        """
        ensemble = self._teacher.fit(train, dev, seed=seed)
        first = _plain_member(ensemble)
        order = np.random.default_rng(derive_seed(seed, "texts")).permutation(len(self._texts))[:TAUGHT]
        texts = list(dict.fromkeys([*(row.text for row in (*train, *dev)), *(self._texts[place] for place in order)]))
        student = copy.deepcopy(first.encoder)
        assert isinstance(student, TransformerEncoder)
        layers = range(int(student.transformer.config.num_hidden_layers))
        return distill([first], student, texts, matched=layers, seed=seed, transfer=TRANSFER, answered_by=ensemble)


def _plain_member(ensemble: EnsemblePredictor) -> EncoderPredictor:
    """Return the first member that is an encoder without added parts and a head."""
    for member in ensemble.members.values():
        if isinstance(member, EncoderPredictor) and isinstance(member.encoder, TransformerEncoder):
            transformer = member.encoder.transformer
            if not has_parts(transformer) and not is_causal(transformer.config):
                return member
    raise InputError(f"an ensemble of {', '.join(ensemble.members)}", expected="one learner on an encoder without added parts")
