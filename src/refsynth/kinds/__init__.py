"""What each task kind predicts, and how predictions are counted: one label for each row, any number, or spans of its words.

Everything that depends on the form of predictions asks the task's `Kind`. Knows nothing of models or of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.registry import load
from refsynth.core.types import Example
from refsynth.kinds.arrays import as_floats, as_json, from_json
from refsynth.kinds.kind import Choices, Counts, Kind
from refsynth.kinds.labels import ANY_LABELS, FEW_POSITIVES, ONE_LABEL, best_threshold
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
    "best_threshold",
    "from_json",
    "given_labels",
]


@cache
def _imported(place: str) -> Kind:
    found: Kind = load(place)
    return found


class _Kinds(Mapping[KindName, Kind]):
    """The `Kind` of each task kind, imported on first use."""

    def __getitem__(self, name: KindName) -> Kind:
        return _imported(TASK_KINDS[name].answers)

    def __iter__(self) -> Iterator[KindName]:
        return iter(TASK_KINDS)

    def __len__(self) -> int:
        return len(TASK_KINDS)


KINDS: Mapping[KindName, Kind] = _Kinds()
"""The `Kind` of each task kind."""


def given_labels(examples: Iterable[Example]) -> list[str]:
    """Return the examples' labels, as `Kind.truth` takes them."""
    return [example.label for example in examples]
