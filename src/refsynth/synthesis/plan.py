"""Plans which prompts are sent and how many drafts each asks for.

Each prompt shows seed examples from only half of the gate's folds. So whichever fold is held out, the drafts of about half of the
prompts owe nothing to it and may be trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from refsynth.core.drafting import Way
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Example, IntArray, Prompt
from refsynth.synthesis.prompts import STYLES, class_prompt, paraphrase_prompt

LEAST_PROMPTS = 2
"""Per label, if the label gets that many drafts: then one of its prompts has not shown the fold that is held out."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and the number of drafts that it asks for."""

    prompt: Prompt
    n: int


@dataclass(frozen=True)
class Focus:
    """Where drafts are needed, as measured in earlier rounds; empty in the first.

    Attributes:
        need: the relative share of the drafts that each label gets.
        confused: for a label, the label that it is most often mistaken for.
        hard: ids of seed rows near the decision boundary. Prompts show these first.
        topics: for a label, the topics of unlabeled texts like its own, each as words.
    """

    need: Mapping[str, float] = field(default_factory=dict)
    confused: Mapping[str, str] = field(default_factory=dict)
    hard: frozenset[str] = frozenset()
    topics: Mapping[str, Sequence[str]] = field(default_factory=dict)


ANYWHERE = Focus()
"""Nothing has been measured yet."""


@dataclass(frozen=True)
class Brief:
    """What to plan: how many drafts, and how prompts are written.

    Attributes:
        drafts: over all labels.
        shots: seed examples in one prompt.
        per_prompt: most drafts from one prompt; fewer if a label would otherwise have fewer prompts than there are ways.
        ways: the ways to prompt, which alternate.
        language: of the texts.
        seed: decides which examples are shown and in which order.
        focus: where drafts are needed.
        before: how many prompts of each label were planned before; the ways continue from there.
    """

    drafts: int
    shots: int
    per_prompt: int
    ways: Sequence[Way]
    language: str
    seed: int
    focus: Focus = ANYWHERE
    before: int = 0


def quotas(total: int, needs: Sequence[float]) -> list[int]:
    """Return K whole numbers that add up to `total` and are as near as possible to the proportions of the needs [K]."""
    if not any(needs):
        needs = [1.0] * len(needs)
    exact = np.asarray(needs, float) / sum(needs) * total
    counts = np.floor(exact + 1e-9).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1  # largest remainders
    return [int(count) for count in counts]


def plan_requests(examples: Sequence[Example], folds: IntArray, descriptions: Mapping[str, str], brief: Brief) -> list[Request]:
    """Return the requests for all labels. Labels alternate, so that an early stop leaves no label without drafts.

    Args:
        examples: the N seed examples.
        folds: the fold of each example [N].
        descriptions: of each label.
        brief: what to plan.
    """
    by_label = []
    needs = [brief.focus.need.get(label, 1.0) for label in descriptions]
    for label, quota in zip(descriptions, quotas(brief.drafts, needs), strict=True):
        rows = [(example, int(fold)) for example, fold in zip(examples, folds, strict=True) if example.label == label]
        rng = np.random.default_rng(derive_seed(brief.seed, "plan", label))
        most = min(brief.per_prompt, -(-quota // max(LEAST_PROMPTS, len(brief.ways))) or 1)
        counts = [min(most, quota - start) for start in range(0, quota, most)]
        shown = _shown_sets(rows, len(counts), brief=brief, rng=rng)
        prompts = [_prompt(label, descriptions, each, turn, brief) for turn, each in enumerate(shown, start=brief.before)]
        by_label.append([Request(*parts) for parts in zip(prompts, counts, strict=True)])
    rounds = itertools.zip_longest(*by_label)
    return [request for turn in rounds for request in turn if request is not None]


def _prompt(label: str, descriptions: Mapping[str, str], shown: Sequence[Example], turn: int, brief: Brief) -> Prompt:
    """Return the prompt of a label whose way is next in turn."""
    language, way = brief.language, brief.ways[turn % len(brief.ways)]
    lap = turn // len(brief.ways)
    if way == "paraphrase" and shown:
        return paraphrase_prompt(label, shown[0], language=language)
    if way == "styles":
        styles = STYLES.get(language, STYLES["en"])
        return class_prompt(label, descriptions[label], shown, language=language, style=styles[lap % len(styles)])
    if way == "topics" and (topics := brief.focus.topics.get(label)):
        return class_prompt(label, descriptions[label], shown, language=language, topic=topics[lap % len(topics)])
    if way == "contrast":
        others = [other for other in descriptions if other != label]
        other = brief.focus.confused.get(label, others[lap % len(others)])
        return class_prompt(label, descriptions[label], shown, language=language, unlike=descriptions[other])
    return class_prompt(label, descriptions[label], shown, language=language)


def _shown_sets(rows: Sequence[tuple[Example, int]], n: int, *, brief: Brief, rng: np.random.Generator) -> list[list[Example]]:
    """Return the rows that each of a label's `n` prompts shows: up to `shots`, from half of the folds, in random order."""
    folds = sorted({fold for _, fold in rows})
    halves = list(itertools.combinations(folds, max(1, len(folds) // 2))) if folds else [()]
    chosen: list[list[Example]] = []
    turn: list[tuple[int, ...]] = []
    for _ in range(n):
        if not turn:
            turn = _alternate([halves[index] for index in rng.permutation(len(halves))])
        half = turn.pop()
        pool = [example for example, fold in rows if fold in half]
        order = [pool[index] for index in rng.permutation(len(pool))]
        order.sort(key=lambda example: example.id not in brief.focus.hard)  # stable: hard rows first, else as drawn
        taken = order[: brief.shots]
        chosen.append([taken[index] for index in rng.permutation(len(taken))] if brief.focus.hard else taken)
    return chosen


def _alternate(halves: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the halves in pairs: each followed by the remaining one that shares the fewest folds with it."""
    left, order = list(halves), []
    while left:
        first = left.pop(0)
        order.append(first)
        if left:
            order.append(left.pop(int(np.argmin([len({*first} & {*other}) for other in left]))))
    return order
