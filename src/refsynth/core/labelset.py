"""A set of labels as one label: the names in the task's order, joined by a sign that no name contains.

Every stage passes it on like any label. Only the code that fits, decides or counts takes it apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

JOINER = " + "
NONE = "(none)"
"""The empty set."""


def join_labels(names: Collection[str], labels: Sequence[str]) -> str:
    """Return a set of some of the K labels as one string, each name once and in the order of `labels`."""
    return JOINER.join(label for label in labels if label in names) or NONE


def split_labels(label: str) -> tuple[str, ...]:
    """Return the names of a set."""
    return () if label == NONE else tuple(label.split(JOINER))


def unfit_name(name: str) -> bool:
    """Return whether a label with that name would be ambiguous in a set, or would not come out of it unchanged."""
    return JOINER in f" {name} " or name == NONE or name != name.strip()
