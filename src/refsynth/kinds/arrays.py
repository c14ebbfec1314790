"""Answers, logits and probabilities of any kind as JSON, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refsynth.core.types import Array
from refsynth.kinds.spans import ragged

DIGITS = 6
"""Decimal places of the logits and probabilities of words in JSON, of which there are many."""


def as_json(values: Array) -> list[Any]:
    """Return an array as lists."""
    if values.dtype != object:
        return list(values.tolist())
    return [each if isinstance(each, str) else np.round(each, DIGITS).tolist() for each in values]


def from_json(values: Sequence[Any]) -> Array:
    """Return the array that `as_json` was given."""
    if not len(values) or not isinstance(values[0], (str, list)):
        return np.array(values)
    if isinstance(values[0], str):
        return np.array(values, object)
    # Numbers of words are [N][T][C]; a text without words has an empty list.
    words = any(len(each) and isinstance(each[0], list) for each in values) or not any(map(len, values))
    return ragged([np.array(each, float) for each in values]) if words else np.array(values)


def as_floats(values: Array) -> Array:
    """Return numbers in double precision; an array of arrays is returned unchanged."""
    return values if values.dtype == object else np.asarray(values, float)
