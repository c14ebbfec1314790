"""What a kind of task answers, and how its answers are counted: one label for each row, any number, or spans of its words.

Whoever gates, ships, evaluates or reports asks the task's `Kind` what answers mean. Knows nothing of models or of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from refsynth.core.types import Example, TaskKind
from refsynth.kinds.arrays import as_floats, as_json, from_json, joined
from refsynth.kinds.kind import Choices, Counts, Kind
from refsynth.kinds.labels import FEW_POSITIVES, AnyLabels, OneLabel, best_cut
from refsynth.kinds.spans import Spans

__all__ = [
    "ANY_LABELS",
    "FEW_POSITIVES",
    "KINDS",
    "ONE_LABEL",
    "SPANS",
    "Choices",
    "Counts",
    "Kind",
    "as_floats",
    "as_json",
    "best_cut",
    "from_json",
    "given_labels",
    "joined",
]

ONE_LABEL, ANY_LABELS, SPANS = OneLabel(), AnyLabels(), Spans()

KINDS: Mapping[TaskKind, Kind] = {"classify": ONE_LABEL, "pairs": ONE_LABEL, "multilabel": ANY_LABELS, "tokens": SPANS}
"""What each kind of task answers."""


def given_labels(examples: Iterable[Example]) -> list[str]:
    """Return the examples' labels, as `truth` takes them."""
    return [example.label for example in examples]
