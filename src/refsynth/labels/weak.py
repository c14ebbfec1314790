"""Weak supervision: what rules say of texts, weighed by how the rules agree with each other.

A rule that only ever says one label tells nothing by which label it says, only by speaking at all. So the parameter is how often
a rule is right when it says l: p_jl = P(y = l | j says l); the other labels share 1 - p_jl by their frequency. By Bayes' rule

    P(j says l | y = k) = P(j says l) P(k | j says l) / prior_k

and rules are independent of each other given y, silence included (Ratner et al., 2016, "Data Programming", section 3, has the
model with one accuracy for each rule). The shares of the labels are given, not estimated: else EM talks itself into one label.

EM finds p where rules overlap. Where a rule speaks alone nothing contradicts it and nothing supports it, and overlaps are no fair
sample of such texts: there it is taken to be right as often as rules usually are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import ConfigError, InputError
from refsynth.core.types import FloatArray
from refsynth.kinds.metrics import softmax
from refsynth.labels.consensus import Votes
from refsynth.labels.rules import LabelRule, Rules

USUAL, IMAGINED = 0.7, 10.0
"""A rule is taken to be right so often until there is evidence, which is worth so many votes."""

LEAST_SILENCE = 0.02
"""Least probability that a rule is silent about a text of any label: no rule proves a label by saying nothing."""

TOLERANCE, ROUNDS = 1e-6, 1000
"""EM ends when no posterior moves by more, or after so many rounds."""


class RuleVotes(NamedTuple):
    """What the rules said: votes on the texts, and the labels that occur."""

    votes: Votes
    labels: tuple[str, ...]


class Weighed(NamedTuple):
    """Posteriors of the texts [N, K], and how often each rule is right when it speaks, NaN for one that never does [J]."""

    posterior: FloatArray
    accuracy: FloatArray


class RuleFigures(NamedTuple):
    """A rule's labels; the shares of all texts that it labels, that others label too, and label otherwise; how often it is right.

    `accuracy` is estimated without any true label, `measured` against those that are known (NaN without any).
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
        InputError: a rule fails or says something that is no label, or all say the same.
    """
    said = [[_said(rule, number, text) for rule in rules.rules] for number, text in enumerate(texts, 1)]
    labels = tuple(sorted({label for row in said for label in row if label is not None} | set(rules.balance)))
    if len(labels) < 2:
        raise InputError(
            f"the rules say {len(labels)} different labels of {len(texts):,} texts", expected="at least two labels that apply"
        )
    place = {label: number for number, label in enumerate(labels)}
    votes = [(i, j, place[label]) for i, row in enumerate(said) for j, label in enumerate(row) if label is not None]
    items, sources, classes = np.array(votes, int).reshape(-1, 3).T
    return RuleVotes(Votes(items, sources, classes, len(texts), len(rules.rules), len(labels)), labels)


def _said(rule: LabelRule, number: int, text: str) -> str | None:
    try:
        label = rule.judge(text)
    except Exception as error:
        raise InputError(f"rule '{rule.name}' fails at text {number}: {type(error).__name__}: {error}") from error
    if label is not None and not (isinstance(label, str) and label):
        raise InputError(f"rule '{rule.name}' says {label!r} of text {number}", expected="a label, or None to say nothing")
    return label


def weigh_rules(marked: RuleVotes, balance: Mapping[str, float]) -> Weighed:
    """Return what the rules say together.

    Args:
        marked: what each says.
        balance: how frequent each label is among all texts; taken for even if empty.

    Raises:
        ConfigError: it says nothing of a label that a rule says.
    """
    votes = marked.votes
    if missing := sorted(set(marked.labels) - set(balance)) if balance else []:
        raise ConfigError(f"balance: nothing for {', '.join(missing)}", expected="all labels that rules say, or none")
    prior = np.array([balance.get(label, 1.0) for label in marked.labels], float)
    prior /= prior.sum()
    alone = np.bincount(votes.items, minlength=votes.n)[votes.items] == 1
    said = _count(votes, np.ones(len(votes.items)))
    right, posterior = np.full_like(said, USUAL), np.tile(prior, (votes.n, 1))
    for _ in range(ROUNDS):
        before, posterior = posterior, _posterior(votes, prior, said, right)
        if np.abs(posterior - before).max() < TOLERANCE:
            break
        agreed = np.where(alone, USUAL, posterior[votes.items, votes.classes])
        right = (_count(votes, agreed) + IMAGINED * USUAL) / (said + IMAGINED)
    accuracy = (said * right).sum(1) / np.maximum(said.sum(1), 1)
    return Weighed(posterior, np.where(said.sum(1) > 0, accuracy, np.nan))


def _posterior(votes: Votes, prior: FloatArray, said: FloatArray, right: FloatArray) -> FloatArray:
    """Return the labels' probabilities given all votes and silences [N, K]; `said` counts and `right` rates votes [J, K]."""
    k = np.arange(votes.k)
    ratio = np.repeat(((1 - right) / (1 - prior))[:, :, None], votes.k, axis=2)  # P(y = k | j says l) / prior_k [J, K, K]
    ratio[:, k, k] = right / prior
    speaks = np.einsum("jl,jlk->jk", said / votes.n, ratio)
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
    """Return the figures of each rule; `truth` has the labels that are known [N]."""
    votes = marked.votes
    table = np.full((votes.n, votes.j), -1)
    table[votes.items, votes.sources] = votes.classes
    real = np.array([marked.labels.index(label) if label in marked.labels else -1 for label in truth])
    figures = []
    for j, rule in enumerate(rules.rules):
        mine, others = table[:, j], np.delete(table, j, axis=1)
        fires = mine >= 0
        also, known = fires & (others >= 0).any(1), fires & (real >= 0)
        against = fires & ((others >= 0) & (others != mine[:, None])).any(1)
        labels = ", ".join(marked.labels[label] for label in np.unique(mine[fires]))
        right = float((mine[known] == real[known]).mean()) if known.any() else float("nan")
        coverage, overlap, conflict = (float(part.mean()) for part in (fires, also, against))
        figures.append(RuleFigures(rule.name, labels, coverage, overlap, conflict, float(weighed.accuracy[j]), right))
    return figures
