"""What drafts are asked for: texts of each label, or of the sets of labels that occur in the real rows and each label alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from refsynth.core.labelset import NONE, split_labels
from refsynth.core.task import Task
from refsynth.learning.rows import Rows
from refsynth.synthesis.plan import ANYWHERE, Focus

LEAST_DRAFTS = 4
"""Drafts of a set, on average: with fewer than that to go round, only the most frequent sets are asked for."""

_AND = {"zh": "，并且"}
_OTHER = {"zh": "别的事情"}


class Demand(NamedTuple):
    """What a prompt says of the texts of each label, or set, that drafts are asked for; and where they are needed."""

    meanings: Mapping[str, str]
    focus: Focus


def wanted(task: Task, rows: Rows, focus: Focus = ANYWHERE) -> Demand:
    """Return what to ask for.

    Of a set in proportion to the rows that have just this set, and one more: heads of each label learn from how frequent it is.
    """
    if rows.kind.spans:
        return _of_spans(task, rows)
    if not rows.kind.several:
        return Demand(task.meanings, focus)
    found = Counter(example.label for example in rows.examples)
    room = max(0, task.config.synthesis.drafts // LEAST_DRAFTS - len(task.labels))
    sets = [label for label, _ in found.most_common() if label not in task.labels][:room]
    named = meanings_of(task, rows, (*task.labels, *sets))
    return Demand(named, Focus(need={label: 1.0 + found[label] for label in named}))


def _of_spans(task: Task, rows: Rows) -> Demand:
    """Return the sets of labels that occur together, in proportion to their rows: only what is shown with marks is marked."""
    found = Counter(rows.kind.group(example.label) for example in rows.examples)
    del found[NONE]
    sets = found.most_common(max(1, task.config.synthesis.drafts // LEAST_DRAFTS))
    also = _AND.get(rows.language, ", and ")
    named = {each: also.join(task.meanings[name] for name in split_labels(each)) for each, _ in sets}
    return Demand(named, Focus(need={each: float(count) for each, count in sets}))


def meanings_of(task: Task, rows: Rows, labels: Iterable[str]) -> dict[str, str]:
    """Return each label, or set, with what a prompt says of its texts."""
    also, other = _AND.get(rows.language, ", and "), _OTHER.get(rows.language, "something else is said")
    return {label: also.join(task.meanings[name] for name in rows.kind.names(label)) or other for label in labels}
