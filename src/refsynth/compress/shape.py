"""Makes smaller encoders from parts of a larger one: fewer layers, fewer heads, narrower feed-forward parts.

The larger encoder stays unchanged. The smaller one needs training (`learning.tuning.distill`). Knows nothing of heads and labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from refsynth.core.errors import InputError
from refsynth.models.network import TransformerEncoder

Losses = Callable[[TransformerEncoder], Iterable[torch.Tensor]]


def spread(count: int, of: int) -> tuple[int, ...]:
    """Return which `count` of `of` layers to keep: evenly spread and including the last, such as 1, 3, 5 of six."""
    return tuple((number + 1) * of // count - 1 for number in range(count))


def keep_layers(encoder: TransformerEncoder, kept: Sequence[int]) -> TransformerEncoder:
    """Return a copy with these layers of the encoder, counted from 0, in this order.

    Raises:
        InputError: a layer does not exist, or no layer is given.
    """
    layers = encoder.transformer.encoder.layer
    if not kept or not set(kept) <= set(range(len(layers))):
        raise InputError(f"layers {list(kept)} of an encoder with {len(layers)}", expected=f"some of 0 to {len(layers) - 1}")
    smaller = copy.deepcopy(encoder)
    smaller.transformer.encoder.layer = torch.nn.ModuleList(smaller.transformer.encoder.layer[place] for place in kept)
    smaller.transformer.config.num_hidden_layers = len(kept)
    return smaller


def narrow(encoder: TransformerEncoder, width: int, losses: Losses) -> TransformerEncoder:
    """Return a copy whose feed-forward parts keep the `width` most important units.

    The importance of a unit is the mean of |gradient of the loss with respect to a mask on the unit, at 1|, as Michel et al.
    (2019, eq. 5) define it for attention heads.

    Args:
        encoder: the larger encoder.
        width: number of units that stay in each layer.
        losses: yields the loss of the given encoder, batch by batch.

    Raises:
        InputError: there are fewer units.
    """
    config = encoder.transformer.config
    if not 0 < width <= config.intermediate_size:
        raise InputError(f"{width} of {config.intermediate_size} units", expected=f"1 to {config.intermediate_size}")
    smaller = copy.deepcopy(encoder).eval()
    layers = smaller.transformer.encoder.layer
    readers = [layer.output.dense for layer in layers]
    for layer, importance in zip(layers, _importance(smaller, readers, config.intermediate_size, losses), strict=True):
        kept = importance.topk(width).indices.sort().values
        inner, outer = layer.intermediate.dense, layer.output.dense
        layer.intermediate.dense = _linear(inner.weight[kept], inner.bias[kept])
        layer.output.dense = _linear(outer.weight[:, kept], outer.bias)
    smaller.transformer.config.intermediate_size = width
    return smaller


def drop_heads(encoder: TransformerEncoder, count: int, losses: Losses) -> TransformerEncoder:
    """Return a copy with `count` attention heads over all layers, at least one in each; the others compute nothing.

    Heads are ranked by the importance of `narrow`, scaled to unit length in each layer (Michel et al., 2019, section 2.3). All
    weights of a dropped head are zero. Their gradients are zero too, so training does not revive it; an export leaves it out.

    Args:
        encoder: the larger encoder.
        count: number of heads that stay.
        losses: yields the loss of the given encoder, batch by batch.

    Raises:
        InputError: there are fewer heads, or fewer heads than layers would stay.
    """
    config = encoder.transformer.config
    heads, depth = config.num_attention_heads, config.num_hidden_layers
    if not depth <= count <= heads * depth:
        raise InputError(f"{count} of {heads * depth} heads", expected=f"{depth} to {heads * depth}")
    smaller = copy.deepcopy(encoder).eval()
    layers = smaller.transformer.encoder.layer
    readers = [layer.attention.output.dense for layer in layers]
    importance = torch.stack([one / one.norm().clamp(min=1e-12) for one in _importance(smaller, readers, heads, losses)])
    importance.scatter_(1, importance.argmax(1, keepdim=True), float("inf"))
    kept = torch.zeros(heads * depth, dtype=torch.bool, device=encoder.device)
    kept[importance.flatten().topk(count).indices] = True
    with torch.no_grad():
        for layer, stays in zip(layers, kept.view(depth, heads), strict=True):
            empty = ~stays.repeat_interleave(config.hidden_size // heads)
            inner = layer.attention.self
            for part in (inner.query, inner.key, inner.value):
                part.weight[empty], part.bias[empty] = 0.0, 0.0
            layer.attention.output.dense.weight[:, empty] = 0.0
    return smaller


def _importance(encoder: TransformerEncoder, readers: Sequence[Any], parts: int, losses: Losses) -> list[torch.Tensor]:
    """Return for each linear map the importance of the equal parts of its input [parts]."""
    masks = [torch.ones(parts, device=encoder.device, requires_grad=True) for _ in readers]

    def masked(mask: torch.Tensor) -> Callable[..., tuple[torch.Tensor]]:
        return lambda module, inputs: (inputs[0] * mask.repeat_interleave(module.in_features // parts),)

    hooks = [reader.register_forward_pre_hook(masked(mask)) for reader, mask in zip(readers, masks, strict=True)]
    totals = [torch.zeros_like(mask) for mask in masks]
    try:
        for loss in losses(encoder):
            for total, slope in zip(totals, torch.autograd.grad(loss, masks), strict=True):
                total += slope.abs()
    finally:
        for hook in hooks:
            hook.remove()
    return [total.detach() for total in totals]


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Linear:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    linear.weight.data.copy_(weight)
    linear.bias.data.copy_(bias)
    return linear
