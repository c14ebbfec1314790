"""The plan: which prompts are sent, and how many drafts each is to give.

Prompts are planned around the folds of the gate. Each shows seed examples from half of the folds only, so that, whichever fold is
held out, the drafts of about half of the prompts have not seen it and may be trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refsynth.core.run import derive_seed
from refsynth.core.types import Example, IntArray, Prompt
from refsynth.synthesis.prompts import class_prompt


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and the number of drafts wanted from it."""

    prompt: Prompt
    n: int


def quotas(total: int, k: int) -> list[int]:
    """Return K counts that add up to `total` and differ by at most 1."""
    return [total // k + (index < total % k) for index in range(k)]


def plan_requests(
    examples: Sequence[Example],
    folds: IntArray,
    descriptions: Mapping[str, str],
    *,
    drafts: int,
    shots: int,
    per_prompt: int,
    language: str,
    seed: int,
) -> list[Request]:
    """Return the requests for all labels, label by label in turn so that an early stop leaves no class without drafts.

    Args:
        examples: the seed examples, N.
        folds: the fold of each example [N].
        descriptions: each label with what it means.
        drafts: how many drafts to ask for over all labels.
        shots: seed examples shown by one prompt.
        per_prompt: the most drafts asked of one prompt.
        language: of the texts.
        seed: of the choice and order of what is shown.
    """
    by_label = []
    for label, quota in zip(descriptions, quotas(drafts, len(descriptions)), strict=True):
        rows = [(example, int(fold)) for example, fold in zip(examples, folds, strict=True) if example.label == label]
        rng = np.random.default_rng(derive_seed(seed, "plan", label))
        counts = [min(per_prompt, quota - start) for start in range(0, quota, per_prompt)]
        shown = _shown_sets(rows, len(counts), shots=shots, rng=rng)
        prompts = [class_prompt(label, descriptions[label], each, language=language) for each in shown]
        by_label.append([Request(*parts) for parts in zip(prompts, counts, strict=True)])
    rounds = itertools.zip_longest(*by_label)
    return [request for turn in rounds for request in turn if request is not None]


def _shown_sets(rows: Sequence[tuple[Example, int]], n: int, *, shots: int, rng: np.random.Generator) -> list[list[Example]]:
    """Return what each of `n` prompts of a class shows: up to `shots` rows, from half of the folds, in random order."""
    folds = sorted({fold for _, fold in rows})
    halves = list(itertools.combinations(folds, max(1, len(folds) // 2))) if folds else [()]
    chosen: list[list[Example]] = []
    turn: list[tuple[int, ...]] = []
    for _ in range(n):
        if not turn:
            turn = [halves[index] for index in rng.permutation(len(halves))]
        half = turn.pop()
        pool = [example for example, fold in rows if fold in half]
        chosen.append([pool[index] for index in rng.permutation(len(pool))[:shots]])
    return chosen
