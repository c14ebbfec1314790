"""Checks what a Python caller passes: texts, labels and weights of any library become lists, or an error names the row."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from refsynth.core.errors import ArgumentError, counted
from refsynth.core.types import Array, FloatArray
from refsynth.data.empty import refuse_empty
from refsynth.data.frame import column_of
from refsynth.data.labels import as_label
from refsynth.data.text import clean

LEAST_LABELS = 2


def texts_of(values: Any, name: str = "X") -> list[str]:
    """Return a column of texts [N].

    Raises:
        ArgumentError: it is not one column, or holds something else than strings.
    """
    column = column_of(values, name)
    bad = [place for place, value in enumerate(column) if not isinstance(value, str)]
    _refuse(bad, column, name, "a text", secret=True)
    return column


def filled(texts: list[str], name: str = "X") -> list[str]:
    """Return the cleaned texts [N]: a lone surrogate could not be written to a file.

    Raises:
        ArgumentError: a text is empty.
    """
    refuse_empty(texts, name=name)
    return [clean(text) for text in texts]


def same_length(n: int, labels: Sized) -> None:
    """Check that there is one label for each of `n` texts.

    Raises:
        ArgumentError: there are more or fewer labels.
    """
    if n != len(labels):
        raise ArgumentError(f"{n:,} texts and {len(labels):,} labels", expected="one label for each text")


def labels_of(values: Any) -> list[Any]:
    """Return a column of labels [N] unchanged: all strings, all whole numbers, or all booleans.

    Raises:
        ArgumentError: it is not one column; a label is missing, invalid, or of another type than the first.
    """
    for place, value in enumerate(values) if isinstance(values, (list, tuple)) else ():
        if isinstance(value, (list, tuple, set, frozenset, dict)):
            raise ArgumentError(f"y[{place}]: found {type(value).__name__}", expected="one label for each text")
    column = [value.item() if isinstance(value, np.generic) else value for value in column_of(values, "y")]
    bad = [place for place, value in enumerate(column) if not _is_label(value)]
    _refuse(bad, column, "y", "a label: a word or a whole number, not a continuous value")
    kinds = [_type(value) for value in column]
    if (other := next((place for place, kind in enumerate(kinds) if kind != kinds[0]), None)) is not None:
        raise ArgumentError(
            f"y: labels of different types, {column[0]!r} at y[0] and {column[other]!r} at y[{other}]",
            expected="all words or all numbers",
            remedy="write all of them as words: [str(label) for label in y]",
        )
    return column


def classes_of(column: Sequence[Any]) -> Array:
    """Return the K labels of a column, sorted.

    Raises:
        ArgumentError: there are fewer than two, or some differ only in spaces.
    """
    classes = np.unique(np.asarray(column)) if column else np.zeros(0)
    if len(classes) < LEAST_LABELS:
        found = f"only the label {classes.tolist()[0]!r}" if len(classes) else "no labels"
        expected = "at least two labels: with one class there is nothing to learn"
        raise ArgumentError(f"y: found {found} in {counted(len(column), 'row')}", expected=expected)
    names = names_of(classes)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError("y: labels that differ only in spaces or type", expected=f"one way to write {', '.join(twice)}")
    return classes


def names_of(values: Sequence[Any] | Array) -> list[str]:
    """Return labels as a data file would name them: `2` for the numbers 2 and 2.0."""
    return [as_label(value.item() if isinstance(value, np.generic) else value) or "" for value in values]


def weights_of(values: Any, n: int) -> FloatArray:
    """Return the weights of `n` rows [N].

    Raises:
        ArgumentError: these are not `n` numbers of 0 or more, or all of them are 0.
    """
    column = column_of([values] * n if np.isscalar(values) else values, "sample_weight")
    if len(column) != n:
        raise ArgumentError(f"sample_weight: {len(column):,} weights and {n:,} texts", expected="one weight for each text")
    bad = [place for place, value in enumerate(column) if not _is_weight(value)]
    _refuse(bad, column, "sample_weight", "a number, 0 or more")
    if not any(column):
        raise ArgumentError("sample_weight: all weights are zero", expected="some rows that count")
    return np.asarray(column, float)


def _refuse(bad: Sequence[int], column: Sequence[Any], name: str, expected: str, *, secret: bool = False) -> None:
    if not bad:
        return
    value = column[bad[0]]
    found = type(value).__name__
    if isinstance(value, float) or (not secret and (value is None or isinstance(value, (int, str)) or str(value) == "<NA>")):
        found = repr(value)[:60]  # never a user's text
    more = f" (and {counted(len(bad) - 1, 'more row')})" if len(bad) > 1 else ""
    raise ArgumentError(f"{name}[{bad[0]}]: found {found}{more}", expected=expected)


def _type(value: Any) -> str:
    return "truth" if isinstance(value, bool) else "word" if isinstance(value, str) else "number"


def _is_label(value: Any) -> bool:
    if isinstance(value, float) and not value.is_integer():  # NaN too
        return False
    return isinstance(value, (str, int, float)) and bool(as_label(value))


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(0 <= value < np.inf)
