"""A set of labels as one label: the names in the task's order with a sign between them that stands in no name.

Every stage passes it on like any label. Only who fits, decides or counts takes it apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

JOINER = " + "
NONE = "(none)"
"""The set without a label."""


def join_labels(names: Collection[str], labels: Sequence[str]) -> str:
    """Return the set of some of the K labels as one string, each name once and in the order of `labels`."""
    return JOINER.join(label for label in labels if label in names) or NONE


def split_labels(label: str) -> tuple[str, ...]:
    """Return the names of a set."""
    return () if label == NONE else tuple(label.split(JOINER))


def unfit_name(name: str) -> bool:
    """Return whether a label of that name could not be told from a set, or would not come out of one as it went in."""
    return JOINER in f" {name} " or name == NONE or name != name.strip()
