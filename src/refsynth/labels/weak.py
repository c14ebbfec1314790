"""Weak supervision: combines the votes of rules, weighed by how the rules agree with each other.

A rule that only ever votes for one label gives information by voting at all, not by its choice of label. So the parameter is the
precision of a vote of rule j for l, p_jl = P(y = l | j votes l). The other labels share 1 - p_jl by frequency. By Bayes' rule

    P(j votes l | y = k) = P(j votes l) P(k | j votes l) / prior_k

and rules, their abstentions included, are independent given y (Ratner et al., 2016, "Data Programming", section 3, has the model
with one accuracy for each rule). The label frequencies are given, not estimated: otherwise EM collapses into one label.

EM estimates p from texts with several votes. A text with a single vote has no evidence for or against the rule, and texts with
several votes do not represent such texts: there the rule gets the usual precision of rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import ConfigError, InputError
from refsynth.core.types import FloatArray
from refsynth.kinds.metrics import softmax
from refsynth.labels.consensus import ROUNDS, TOLERANCE, Votes
from refsynth.labels.rules import LabelRule, Rules

USUAL, IMAGINED = 0.7, 10.0
"""Prior precision of a rule's votes, and its weight in votes."""

LEAST_SILENCE = 0.02
"""Least probability that a rule abstains on a text of any label: an abstention alone never proves a label."""


class RuleVotes(NamedTuple):
    """The votes of the rules on the texts, and the labels that occur."""

    votes: Votes
    labels: tuple[str, ...]


class Weighed(NamedTuple):
    """Posteriors of the texts [N, K], and the precision of each rule's votes, NaN for a rule without votes [J]."""

    posterior: FloatArray
    accuracy: FloatArray


class RuleFigures(NamedTuple):
    """The figures of one rule.

    Attributes:
        labels: that it votes for.
        coverage: share of all texts with its vote.
        overlap: share of all texts with its vote and another rule's.
        conflict: share of all texts with its vote and another rule's vote for another label.
        accuracy: precision of its votes, estimated without true labels.
        measured: precision on the known labels; NaN without any.
    """

    name: str
    labels: str
    coverage: float
    overlap: float
    conflict: float
    accuracy: float
    measured: float


def mark(rules: Rules, texts: Sequence[str]) -> RuleVotes:
    """Apply the rules to texts [N].

    Raises:
        InputError: a rule fails or returns something else than a label, or there are fewer than two labels.
    """
    table = [[_vote(rule, number, text) for rule in rules.rules] for number, text in enumerate(texts, 1)]
    labels = tuple(sorted({label for row in table for label in row if label is not None} | set(rules.balance)))
    if len(labels) < 2:
        raise InputError(
            f"the rules give {len(labels)} different labels to {len(texts):,} texts", expected="at least two labels that apply"
        )
    place = {label: number for number, label in enumerate(labels)}
    votes = [(i, j, place[label]) for i, row in enumerate(table) for j, label in enumerate(row) if label is not None]
    items, sources, classes = np.array(votes, int).reshape(-1, 3).T
    return RuleVotes(Votes(items, sources, classes, len(texts), len(rules.rules), len(labels)), labels)


def _vote(rule: LabelRule, number: int, text: str) -> str | None:
    try:
        label = rule.judge(text)
    except Exception as error:
        raise InputError(f"rule '{rule.name}' fails at text {number}: {type(error).__name__}: {error}") from error
    if label is not None and not (isinstance(label, str) and label):
        raise InputError(f"rule '{rule.name}' returns {label!r} for text {number}", expected="a label, or None to abstain")
    return label


def weigh_rules(marked: RuleVotes, balance: Mapping[str, float]) -> Weighed:
    """Combine the votes of the rules.

    Args:
        marked: the votes.
        balance: the relative frequency of each label among all texts; equal if empty.

    Raises:
        ConfigError: the balance lacks a label for which a rule votes.
    """
    votes = marked.votes
    if missing := sorted(set(marked.labels) - set(balance)) if balance else []:
        raise ConfigError(f"balance: nothing for {', '.join(missing)}", expected="all labels of the rules, or none")
    prior = np.array([balance.get(label, 1.0) for label in marked.labels], float)
    prior /= prior.sum()
    alone = np.bincount(votes.items, minlength=votes.n)[votes.items] == 1
    counts = _count(votes, np.ones(len(votes.items)))
    precision, posterior = np.full_like(counts, USUAL), np.tile(prior, (votes.n, 1))
    for _ in range(ROUNDS):
        before, posterior = posterior, _posterior(votes, prior, counts, precision)
        if np.abs(posterior - before).max() < TOLERANCE:
            break
        right = np.where(alone, USUAL, posterior[votes.items, votes.classes])
        precision = (_count(votes, right) + IMAGINED * USUAL) / (counts + IMAGINED)
    accuracy = (counts * precision).sum(1) / np.maximum(counts.sum(1), 1)
    return Weighed(posterior, np.where(counts.sum(1) > 0, accuracy, np.nan))


def _posterior(votes: Votes, prior: FloatArray, counts: FloatArray, precision: FloatArray) -> FloatArray:
    """Return the labels' probabilities given all votes and abstentions [N, K], from counts and precision of votes [J, K]."""
    k = np.arange(votes.k)
    ratio = np.repeat(((1 - precision) / (1 - prior))[:, :, None], votes.k, axis=2)  # P(y = k | j votes l) / prior_k [J, K, K]
    ratio[:, k, k] = precision / prior
    speaks = np.einsum("jl,jlk->jk", counts / votes.n, ratio)
    silent = np.log(np.maximum(1 - speaks, LEAST_SILENCE))
    logs = np.tile(np.log(prior) + silent.sum(0), (votes.n, 1))
    np.add.at(logs, votes.items, np.log(ratio)[votes.sources, votes.classes] - silent[votes.sources])
    return np.asarray(softmax(logs), np.float64)


def _count(votes: Votes, values: FloatArray) -> FloatArray:
    """Return the sum of the votes' values by source and class [J, K]."""
    out = np.zeros((votes.j, votes.k))
    np.add.at(out, (votes.sources, votes.classes), values)
    return out


def describe_rules(rules: Rules, marked: RuleVotes, weighed: Weighed, truth: Sequence[str | None]) -> list[RuleFigures]:
    """Return the figures of each rule; `truth` has the known labels, and None for other texts [N]."""
    votes = marked.votes
    table = np.full((votes.n, votes.j), -1)
    table[votes.items, votes.sources] = votes.classes
    real = np.array([marked.labels.index(label) if label in marked.labels else -1 for label in truth])
    figures = []
    for j, rule in enumerate(rules.rules):
        own, others = table[:, j], np.delete(table, j, axis=1)
        fires = own >= 0
        also, known = fires & (others >= 0).any(1), fires & (real >= 0)
        against = fires & ((others >= 0) & (others != own[:, None])).any(1)
        labels = ", ".join(marked.labels[label] for label in np.unique(own[fires]))
        right = float((own[known] == real[known]).mean()) if known.any() else float("nan")
        coverage, overlap, conflict = (float(part.mean()) for part in (fires, also, against))
        figures.append(RuleFigures(rule.name, labels, coverage, overlap, conflict, float(weighed.accuracy[j]), right))
    return figures
