"""Which labels drafts are asked for: each label, and for multi-label tasks also the sets of labels in the real rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from refsynth.core.labelset import NONE, split_labels
from refsynth.core.task import Task
from refsynth.learning.rows import Rows
from refsynth.synthesis.plan import ANYWHERE, Focus

LEAST_DRAFTS = 4
"""Smallest mean number of drafts per set of labels. If there are more sets, only the most frequent are asked for."""

_AND = {"zh": "，并且"}
_OTHER = {"zh": "别的事情"}


class Demand(NamedTuple):
    """The labels, or sets of labels, that drafts are asked for: each with its description, and how much it needs."""

    meanings: Mapping[str, str]
    focus: Focus


def demand_of(task: Task, rows: Rows, focus: Focus = ANYWHERE) -> Demand:
    """Return what drafts to ask for.

    A set of labels gets drafts in proportion to the rows that have exactly this set, plus one: the head of each label learns the
    label's frequency from the rows.
    """
    if rows.kind.words:
        return _demand_of_spans(task, rows)
    if not rows.kind.several:
        return Demand(task.meanings, focus)
    counts = Counter(example.label for example in rows.examples)
    room = max(0, task.config.synthesis.drafts // LEAST_DRAFTS - len(task.labels))
    sets = [label for label, _ in counts.most_common() if label not in task.labels][:room]
    meanings = meanings_of(task, rows, (*task.labels, *sets))
    return Demand(meanings, Focus(need={label: 1.0 + counts[label] for label in meanings}))


def _demand_of_spans(task: Task, rows: Rows) -> Demand:
    """Return the sets of labels that occur together, by their rows. The reference marks only what examples show marked."""
    counts = Counter(rows.kind.group(example.label) for example in rows.examples)
    del counts[NONE]
    sets = counts.most_common(max(1, task.config.synthesis.drafts // LEAST_DRAFTS))
    also = _AND.get(rows.language, ", and ")
    meanings = {label: also.join(task.meanings[name] for name in split_labels(label)) for label, _ in sets}
    return Demand(meanings, Focus(need={label: float(count) for label, count in sets}))


def meanings_of(task: Task, rows: Rows, labels: Iterable[str]) -> dict[str, str]:
    """Return each label, or set of labels, with the description that a prompt gives of its texts."""
    also, other = _AND.get(rows.language, ", and "), _OTHER.get(rows.language, "something else is said")
    return {label: also.join(task.meanings[name] for name in rows.kind.names(label)) or other for label in labels}
