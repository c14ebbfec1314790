"""Pooling the states of tokens to one vector per text: their mean, or the last state of a causal model."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_causal(config: Any) -> bool:
    """Return whether a model of this configuration is causal: a token attends only to those before it."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def pooled(states: torch.Tensor, mask: torch.Tensor, config: Any) -> torch.Tensor:
    """Return one vector per text [N, D] from states [N, T, D]; the mask [N, T] is 0 for padding, which is on the right."""
    if is_causal(config):
        return states[torch.arange(states.shape[0], device=states.device), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
