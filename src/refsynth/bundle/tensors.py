"""The tensors of a bundle: what is kept of the numbers of a head, and the head that comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from refsynth.core.types import FloatArray
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor

Fast = TypeVar("Fast", bound=StaticPredictor | TfidfPredictor | CrfPredictor)


def tensors_of(head: LinearHead, **further: FloatArray) -> dict[str, FloatArray]:
    """Return what is stored of a head, in fp32."""
    # safetensors writes an array's bytes as they lie in memory: those of a transposed one would be read in another order.
    parts = {"weights": head.weights, "bias": head.bias, **further}
    return {name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()}


def votes_of(head: LinearHead) -> dict[str, FloatArray]:
    """Return a static head as it is stored: half precision is far below what a vote is known to."""
    return {"weights": head.weights.astype(np.float16), "bias": head.bias.astype(np.float32)}


def as_stored(predictor: Fast) -> Fast:
    """Return a predictor with the numbers that a bundle gives back: whatever is fitted to its answers is fitted to these."""
    kept = votes_of(predictor.head) if isinstance(predictor, StaticPredictor) else tensors_of(predictor.head)
    head = LinearHead(kept["weights"].astype(np.float32), kept["bias"])
    if isinstance(predictor, CrfPredictor):
        return replace(predictor, head=head, transitions=np.ascontiguousarray(predictor.transitions, np.float32))
    return replace(predictor, head=head)
