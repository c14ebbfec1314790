"""The predictions of an encoder in int8 without exporting it, by the same rounding in torch.

Matrices are rounded by output channel, embedding tables by row, activations by token, as in `compress.quantize`. So the effect of
int8 can be measured for every model, also in a fold of cross-validation.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from refsynth.core.protocols import Predictor
from refsynth.core.types import FloatArray
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, logits_of
from refsynth.models.tagger import TagPredictor

LEAST_ROWS = 128
"""The fewest rows of an embedding table that is rounded."""

Name = TypeVar("Name", bound=Hashable)


def in_int8(encoder: TransformerEncoder) -> TransformerEncoder:
    """Return a copy that rounds its weights and the input of each matrix."""
    rounded = copy.deepcopy(encoder)
    for module in rounded.transformer.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = _rounded(module.weight.data)
            module.register_forward_pre_hook(_round_input)
        elif isinstance(module, torch.nn.Embedding) and len(module.weight) >= LEAST_ROWS:
            module.weight.data = _rounded(module.weight.data)
    return rounded


def int8_logits_of(predictors: Mapping[Name, Predictor], texts: Sequence[str]) -> dict[Name, FloatArray]:
    """Return the logits in int8 of each predictor that has a transformer encoder."""
    logits: dict[Name, FloatArray] = {}
    for encoder in {id(one): one for one in map(_encoder_of, predictors.values()) if one is not None}.values():
        rounded = in_int8(encoder)
        sharing = {
            name: type(one)(one.labels, rounded, one.head)
            for name, one in predictors.items()
            if isinstance(one, (EncoderPredictor, TagPredictor)) and one.encoder is encoder
        }
        logits |= logits_of(sharing, texts)
    return logits


def _encoder_of(predictor: Predictor) -> TransformerEncoder | None:
    encoder = predictor.encoder if isinstance(predictor, (EncoderPredictor, TagPredictor)) else None
    return encoder if isinstance(encoder, TransformerEncoder) else None


def _round_input(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (_rounded(inputs[0]),)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """Return the values [..., D] as multiples of 1/127 of the largest in each row."""
    steps = (values.abs().amax(-1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (values / steps).round() * steps
