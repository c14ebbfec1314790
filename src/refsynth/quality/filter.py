"""The filter: each draft is kept, or dropped for one named reason. No draft disappears.

`screen` needs no model: form, copies of seed rows, duplicates. `select` compares the drafts with a model of the real rows and
evens the classes out. Both give back every draft that they were given, in the same order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from refsynth.core.types import Draft, Example, FloatArray
from refsynth.data.text import near_groups, nearest_overlap, normalise
from refsynth.quality.sanity import form_check

COPY = "copies a seed row"
DUPLICATE = "duplicate of another draft"
NEAR_DUPLICATE = "near-duplicate of another draft"
TWO_LABELS = "written for two labels"
LEAKED = "resembles a test row"
OTHER_CLASS = "other class"
UNSURE = "class unclear"
UNLIKELY = "unlikely for its label"
SURPLUS = "more than its class needs"

NEAR = 0.7
"""Jaccard overlap of character n-grams from which two texts count as the same (Lee et al., 2022, use 0.8 on longer texts)."""


def screen(drafts: Sequence[Example], seeds: Sequence[Example], *, longest: int, forget: Collection[str] = ()) -> list[Draft]:
    """Return the drafts with what is wrong with them apart from their meaning.

    Args:
        drafts: in the order of the plan; of duplicates the first stays.
        seeds: the user's rows.
        longest: the most words that a draft may have.
        forget: ids of drafts that are to go because they resemble a test row.
    """
    seed_texts = [example.text for example in seeds]
    check = form_check(seed_texts, longest=longest)
    texts = [draft.text for draft in drafts]
    overlap = nearest_overlap(texts, seed_texts) if seeds and drafts else np.zeros(len(drafts))
    twofold = _written_twice(drafts)
    seen: set[str] = set()
    results = []
    for draft, nearness in zip(drafts, overlap, strict=True):
        key = normalise(draft.text)
        reason = LEAKED if draft.id in forget else check(draft.text)
        if reason is None and nearness >= NEAR:
            reason = COPY
        if reason is None and key in twofold:
            reason = TWO_LABELS
        if reason is None and key in seen:
            reason = DUPLICATE
        seen.add(key)
        results.append(Draft(draft, {"nearest seed": float(nearness)}, reason))
    return _thin(results)


def _written_twice(drafts: Iterable[Example]) -> set[str]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        labels[normalise(draft.text)].add(draft.label)
    return {text for text, names in labels.items() if len(names) > 1}


def _thin(drafts: Sequence[Draft]) -> list[Draft]:
    """Drop all but the first of each group of near-duplicates."""
    alive = [index for index, draft in enumerate(drafts) if draft.dropped is None]
    results = list(drafts)
    groups: set[int] = set()
    for index, group in zip(alive, near_groups([drafts[i].example.text for i in alive], threshold=NEAR), strict=True):
        if int(group) in groups:
            results[index] = replace(drafts[index], dropped=NEAR_DUPLICATE)
        groups.add(int(group))
    return results


def drop_unlikely(drafts: Sequence[Draft], ratios: FloatArray, *, floor: float) -> list[Draft]:
    """Drop drafts whose log-likelihood ratio is below the floor; one that could not be scored (NaN) stays.

    Args:
        drafts: as `screen` left them.
        ratios: of the drafts that are still in, in their order.
        floor: in nats per token.
    """
    alive = [index for index, draft in enumerate(drafts) if draft.dropped is None]
    results = list(drafts)
    for index, ratio in zip(alive, ratios, strict=True):
        scores = {**drafts[index].scores, "likelihood ratio": float(ratio)} if np.isfinite(ratio) else drafts[index].scores
        results[index] = replace(drafts[index], scores=scores, dropped=UNLIKELY if ratio < floor else None)
    return results


def select(
    drafts: Sequence[Draft], scores: Mapping[str, FloatArray], *, labels: Sequence[str], floor: float, margin: float
) -> list[Draft]:
    """Drop what a model of the real rows takes for another class, and even the classes out.

    Args:
        drafts: as `screen` left them.
        scores: named scores of the drafts that are still in, in their order; `agreement` is that of
            `AgreementScorer`, above 0.5 where the model says the same label.
        labels: of the task.
        floor: the least agreement.
        margin: a class keeps at most this many times the median number of drafts of all classes, the most agreed first.
    """
    alive = [index for index, draft in enumerate(drafts) if draft.dropped is None]
    results = list(drafts)
    for place, index in enumerate(alive):
        named = {name: float(values[place]) for name, values in scores.items()}
        reason = None if named["agreement"] >= floor else OTHER_CLASS if named["agreement"] < 0.5 else UNSURE
        results[index] = replace(drafts[index], scores={**drafts[index].scores, **named}, dropped=reason)
    counts = Counter(draft.example.label for draft in results if draft.dropped is None)
    most = max(1, int(margin * float(np.median([counts[label] for label in labels]))))
    for label in labels:
        mine = [index for index in alive if results[index].dropped is None and results[index].example.label == label]
        for index in sorted(mine, key=lambda i: -results[i].scores["agreement"])[most:]:
            results[index] = replace(results[index], dropped=SURPLUS)
    return results


def kept(drafts: Iterable[Draft]) -> list[Example]:
    """Return the examples of the drafts that are still in."""
    return [draft.example for draft in drafts if draft.dropped is None]
