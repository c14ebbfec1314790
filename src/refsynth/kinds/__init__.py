"""What a kind of task answers, and how its answers are counted: one label for each row, any number, or spans of its words.

Whoever gates, ships, evaluates or reports asks the task's `Kind` what answers mean. Knows nothing of models or of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.registry import load
from refsynth.core.types import Example
from refsynth.kinds.arrays import as_floats, as_json, from_json, joined
from refsynth.kinds.kind import Choices, Counts, Kind
from refsynth.kinds.labels import ANY_LABELS, FEW_POSITIVES, ONE_LABEL, best_cut
from refsynth.kinds.spans import SPANS

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


@cache
def _imported(place: str) -> Kind:
    found: Kind = load(place)
    return found


class _Kinds(Mapping[KindName, Kind]):
    """What each kind of task answers; imported when it is asked for."""

    def __getitem__(self, name: KindName) -> Kind:
        return _imported(TASK_KINDS[name].answers)

    def __iter__(self) -> Iterator[KindName]:
        return iter(TASK_KINDS)

    def __len__(self) -> int:
        return len(TASK_KINDS)


KINDS: Mapping[KindName, Kind] = _Kinds()
"""What each kind of task answers."""


def given_labels(examples: Iterable[Example]) -> list[str]:
    """Return the examples' labels, as `truth` takes them."""
    return [example.label for example in examples]
