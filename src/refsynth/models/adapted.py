"""Encoders with parts that cannot be merged into their weights: bottleneck adapters, and learned prompts before each text.

Both are ordinary modules, so inference and export need no adapter library. On disk they are one safetensors file beside the
encoder's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.cache_utils import DynamicCache

from refsynth.core.errors import ModelError

PARTS = "parts.safetensors"
PLACES = ("attention.output", "output")
"""The places of the two adapters in a layer of a BERT-like encoder."""


class Bottleneck(torch.nn.Module):
    """An adapter, x + U gelu(D x), as in Houlsby et al. (2019, section 2.1); it starts as the identity."""

    def __init__(self, dimension: int, width: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.down = torch.nn.Linear(dimension, width, device=device)
        self.up = torch.nn.Linear(width, dimension, device=device)
        torch.nn.init.normal_(self.down.weight, std=1e-2)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(parameter)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the adapted states [..., D]."""
        change: torch.Tensor = self.up(torch.nn.functional.gelu(self.down(states)))
        return states + change


def insert_bottlenecks(transformer: Any, width: int) -> list[Bottleneck]:
    """Insert two adapters into each layer, after attention and after the feed-forward part, before the residual; return them."""
    added = []
    for layer in transformer.encoder.layer:
        for place in PLACES:
            part = layer.get_submodule(place)
            adapter = Bottleneck(int(transformer.config.hidden_size), width, transformer.device)
            part.dropout = torch.nn.Sequential(part.dropout, adapter)
            added.append(adapter)
    return added


class PromptedTransformer(torch.nn.Module):
    """An encoder that reads learned vectors before each text; its output leaves out their states.

    Args:
        base: the encoder, a BERT-like model.
        vectors: P token embeddings before each text [P, D] (prompt tuning: Lester et al., 2021; P-tuning: Liu et al., 2021), or
            keys and values in each of L layers, [P, 2 L D] (prefix tuning: Li and Liang, 2021).
    """

    def __init__(self, base: Any, vectors: torch.Tensor) -> None:
        super().__init__()
        self.base, self.vectors = base, torch.nn.Parameter(vectors.detach().clone().to(base.device), requires_grad=False)

    @property
    def config(self) -> Any:
        """The configuration of the base."""
        return self.base.config

    def set_attn_implementation(self, name: str) -> None:
        """Set the attention of the base, as in transformers."""
        self.base.set_attn_implementation(name)

    def get_input_embeddings(self) -> Any:
        """Return the input embeddings of the base."""
        return self.base.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Return the output of the base with the last states of the text only [N, T, D]."""
        n, count = input_ids.shape[0], self.vectors.shape[0]
        mask = torch.cat([attention_mask.new_ones((n, count)), attention_mask], dim=1)
        if self.vectors.shape[1] == self.config.hidden_size:
            words = self.base.get_input_embeddings()(input_ids)
            words = torch.cat([self.vectors.unsqueeze(0).expand(n, -1, -1), words], dim=1)
            out = self.base(inputs_embeds=words, attention_mask=mask)
            out.last_hidden_state = out.last_hidden_state[:, count:]
            return out
        return self.base(input_ids=input_ids, attention_mask=mask, past_key_values=self._cache(n))

    def _cache(self, n: int) -> Any:
        heads = self.config.num_attention_heads
        parts = self.vectors.view(len(self.vectors), 2 * self.config.num_hidden_layers, heads, -1).permute(1, 2, 0, 3)
        cache = DynamicCache()
        for layer in range(self.config.num_hidden_layers):
            keys, values = (part.unsqueeze(0).expand(n, -1, -1, -1) for part in parts[2 * layer : 2 * layer + 2])
            cache.update(keys, values, layer)
        return cache


def has_parts(transformer: Any) -> bool:
    """Return whether an encoder has added parts."""
    return any(isinstance(module, (PromptedTransformer, Bottleneck)) for module in transformer.modules())


def write_transformer(transformer: Any, folder: Path) -> None:
    """Write an encoder as a folder that `transformers` loads (safetensors), and a file of the added parts if it has any."""
    if isinstance(transformer, PromptedTransformer):
        transformer.base.save_pretrained(folder, safe_serialization=True)
        save_file({"vectors": transformer.vectors.data.contiguous()}, folder / PARTS, metadata={"kind": "prompts"})
        return
    adapters = {name: module for name, module in transformer.named_modules() if isinstance(module, Bottleneck)}
    if not adapters:
        transformer.save_pretrained(folder, safe_serialization=True)
        return
    state = transformer.state_dict()
    own = {name: value for name, value in state.items() if not name.startswith(tuple(f"{adapter}." for adapter in adapters))}
    transformer.save_pretrained(folder, state_dict=own, safe_serialization=True)
    added = {name: value.contiguous() for name, value in state.items() if name not in own}
    save_file(added, folder / PARTS, metadata={"kind": "houlsby"})


def read_parts(transformer: Any, folder: Path) -> Any:
    """Return an encoder with the added parts in its folder, if there are any.

    Raises:
        ModelError: `write_transformer` writes no such parts.
    """
    path = folder / PARTS
    if not path.exists():
        return transformer
    with safe_open(path, framework="pt") as stored:
        kind, parts = stored.metadata()["kind"], {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    if kind == "prompts":
        return PromptedTransformer(transformer, parts["vectors"])
    if kind != "houlsby":
        raise ModelError(f"{path}: parts of the kind {kind!r}", expected="prompts or houlsby")
    insert_bottlenecks(transformer, next(value for name, value in parts.items() if name.endswith("down.bias")).numel())
    transformer.load_state_dict(parts, strict=False)
    return transformer
