"""The filter: each draft is kept, or dropped for one named reason. No draft disappears.

`screen` checks form, copies of seed rows and duplicates without a model. `drop_by` compares scores with the scorer's number in
task.yaml. `even_out` limits large classes. Each returns all the drafts that it gets, in the same order.
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
    """Return the drafts, each kept or dropped for a reason that does not depend on its meaning.

    Args:
        drafts: in the order of the plan; of duplicates the first is kept.
        seeds: the user's rows.
        longest: most words in a draft.
        forget: ids of drafts to drop because they resemble a test row.
        none: normalized texts that no label fits.
        paired: whether each draft must be a pair of texts.
    """
    seed_texts = [example.text for example in seeds]
    check = form_check(seed_texts, longest=longest)
    texts = [draft.text for draft in drafts]
    overlap = (
        nearest_overlap(texts, seed_texts, except_for=_sources(drafts, seeds)) if seeds and drafts else np.zeros(len(drafts))
    )
    exact = {normalize(text) for text in seed_texts}
    ambiguous = _with_two_labels(drafts)
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
        if reason is None and key in ambiguous:
            reason = TWO_LABELS
        if reason is None and key in seen:
            reason = DUPLICATE
        seen.add(key)
        results.append(Draft(draft, {"nearest seed": float(nearness)}, reason))
    return _drop_near_duplicates(results)


def _sources(drafts: Sequence[Example], seeds: Sequence[Example]) -> IntArray:
    """Return the place of the seed row that each draft rewords, or -1 [N]. A draft may resemble that row, but not equal it."""
    place = {seed.id: index for index, seed in enumerate(seeds)}
    origins = [draft.provenance for draft in drafts]
    return np.array([place.get(origin.shown[0], -1) if origin and origin.reworded else -1 for origin in origins])


def _with_two_labels(drafts: Iterable[Example]) -> set[str]:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        labels[normalize(draft.text)].add(draft.label)
    return {text for text, names in labels.items() if len(names) > 1}


def _drop_near_duplicates(drafts: Sequence[Draft]) -> list[Draft]:
    alive = [index for index, draft in enumerate(drafts) if draft.dropped is None]
    results = list(drafts)
    groups: set[int] = set()
    for index, group in zip(alive, near_groups([drafts[i].example.text for i in alive], threshold=NEAR), strict=True):
        if int(group) in groups:
            results[index] = replace(drafts[index], dropped=NEAR_DUPLICATE)
        groups.add(int(group))
    return results


def drop_by(spec: ScorerSpec, drafts: Sequence[Draft], values: FloatArray, number: float) -> list[Draft]:
    """Record the score of each draft and drop those with bad scores. A draft without a finite score stays.

    Args:
        spec: of the scorer.
        drafts: kept and dropped ones.
        values: the scores of the kept drafts, in their order.
        number: from task.yaml: the bound on the scores, or the share of each label's drafts to drop.
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
    """Return for each value [N] the smallest value of its label that is not in the label's worst share."""
    out = np.full(len(labels), -np.inf)
    for label in set(labels):
        mine = np.array([each == label for each in labels]) & np.isfinite(values)
        if mine.any():
            out[mine] = np.quantile(values[mine], share)
    return out


def even_out(drafts: Sequence[Draft], labels: Sequence[str], *, margin: float) -> list[Draft]:
    """Keep for each label at most `margin` times the median number of drafts: those with the highest agreement.

    The median covers only labels that kept a draft. Over all labels, one label with drafts among many without would lose all but
    one. A draft without an agreement score counts as full agreement.
    """
    counts = Counter(draft.example.label for draft in drafts if draft.dropped is None)
    most = max(1, int(margin * float(np.median([counts[label] for label in labels if counts[label]] or [0]))))
    results = list(drafts)
    for label in labels:
        mine = [index for index, draft in enumerate(drafts) if draft.dropped is None and draft.example.label == label]
        for index in sorted(mine, key=lambda i: -drafts[i].scores.get("agreement", 1.0))[most:]:
            results[index] = replace(drafts[index], dropped=SURPLUS)
    return results
