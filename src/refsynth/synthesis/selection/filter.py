"""The filter: each draft is kept, or dropped for one named reason. No draft disappears.

`screen` needs no model: form, copies of seed rows, duplicates. `drop_by` holds scores against the number that task.yaml has for
their scorer, and `even_out` evens the classes out. All return every draft that they were given, in the same order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from refsynth.core.pair import split_pair
from refsynth.core.scorers import ScorerSpec
from refsynth.core.types import Draft, Example, FloatArray, IntArray
from refsynth.data.text import NEAR, near_groups, nearest_overlap, normalize
from refsynth.evaluation.leakage import LEAKED
from refsynth.synthesis.selection.sanity import form_check

COPY = "copies a seed row"
DUPLICATE = "duplicate of another draft"
NO_LABEL = "text of data.none"
NEAR_DUPLICATE = "near-duplicate of another draft"
NO_PAIR = "not two texts"
TWO_LABELS = "written for two labels"
SURPLUS = "more than its class needs"


def screen(
    drafts: Sequence[Example],
    seeds: Sequence[Example],
    *,
    longest: int,
    forget: Collection[str] = (),
    none: Collection[str] = (),
    paired: bool = False,
) -> list[Draft]:
    """Return the drafts with what is wrong with them apart from their meaning.

    Args:
        drafts: in the order of the plan; of duplicates the first stays.
        seeds: the user's rows.
        longest: the most words that a draft may have.
        forget: ids of drafts that are to go because they resemble a test row.
        none: texts that no label fits, as they are compared.
        paired: whether each has to be a pair of texts.
    """
    seed_texts = [example.text for example in seeds]
    check = form_check(seed_texts, longest=longest)
    texts = [draft.text for draft in drafts]
    overlap = (
        nearest_overlap(texts, seed_texts, except_for=_sources(drafts, seeds)) if seeds and drafts else np.zeros(len(drafts))
    )
    exact = {normalize(text) for text in seed_texts}
    twofold = _written_twice(drafts)
    seen: set[str] = set()
    results = []
    for draft, nearness in zip(drafts, overlap, strict=True):
        key = normalize(draft.text)
        reason = LEAKED if draft.id in forget else check(draft.text)
        if reason is None and paired and split_pair(draft.text) is None:
            reason = NO_PAIR
        if reason is None and (nearness >= NEAR or key in exact):
            reason = COPY
        if reason is None and key in none:
            reason = NO_LABEL
        if reason is None and key in twofold:
            reason = TWO_LABELS
        if reason is None and key in seen:
            reason = DUPLICATE
        seen.add(key)
        results.append(Draft(draft, {"nearest seed": float(nearness)}, reason))
    return _thin(results)


def _sources(drafts: Sequence[Example], seeds: Sequence[Example]) -> IntArray:
    """Return for each draft the seed row that it is another form of, or -1 [N]: it may resemble that one, but not be it."""
    place = {seed.id: index for index, seed in enumerate(seeds)}
    origins = [draft.provenance for draft in drafts]
    return np.array([place.get(origin.shown[0], -1) if origin and origin.reworded else -1 for origin in origins])


def _written_twice(drafts: Iterable[Example]) -> set[str]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        labels[normalize(draft.text)].add(draft.label)
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


def drop_by(spec: ScorerSpec, drafts: Sequence[Draft], values: FloatArray, number: float) -> list[Draft]:
    """Record a score and drop the drafts that it is too bad for; one that could not be scored (NaN, infinity) stays.

    Args:
        spec: of the scorer.
        drafts: some of which may have been dropped before.
        values: of the drafts that are still in, in their order.
        number: as task.yaml has it: the bound that values are held against, or the share of each label's drafts to drop.
    """
    alive = [index for index, draft in enumerate(drafts) if draft.dropped is None]
    sign = 1.0 if spec.better == "higher" else -1.0
    labels = [drafts[index].example.label for index in alive]
    least = np.full(len(alive), sign * number) if spec.holds == "bound" else _least(sign * values, labels, number)
    results = list(drafts)
    for index, value, low in zip(alive, values, least, strict=True):
        if np.isfinite(value):
            scores = {**drafts[index].scores, spec.name: float(value)}
            results[index] = replace(drafts[index], scores=scores, dropped=spec.why(value) if sign * value < low else None)
    return results


def _least(values: FloatArray, labels: Sequence[str], share: float) -> FloatArray:
    """Return for each value [N], of a draft of that label, the least that is not among the worst share of its label's."""
    out = np.full(len(labels), -np.inf)
    for label in set(labels):
        mine = np.array([each == label for each in labels]) & np.isfinite(values)
        if mine.any():
            out[mine] = np.quantile(values[mine], share)
    return out


def even_out(drafts: Sequence[Draft], labels: Sequence[str], *, margin: float) -> list[Draft]:
    """Leave each label at most `margin` times the median number of drafts, those with most agreement.

    The median is that of the labels that kept any draft: were it over all, one label with drafts among many without would lose
    all but one. A draft that nobody could judge counts as agreed with.
    """
    counts = Counter(draft.example.label for draft in drafts if draft.dropped is None)
    most = max(1, int(margin * float(np.median([counts[label] for label in labels if counts[label]] or [0]))))
    results = list(drafts)
    for label in labels:
        mine = [index for index, draft in enumerate(drafts) if draft.dropped is None and draft.example.label == label]
        for index in sorted(mine, key=lambda i: -drafts[i].scores.get("agreement", 1.0))[most:]:
            results[index] = replace(drafts[index], dropped=SURPLUS)
    return results
