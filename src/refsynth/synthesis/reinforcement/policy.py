"""The policy: a causal language model with a LoRA adapter, trained by policy gradient and kept near its reference.

The model without the adapter is the reference, so both share one set of weights. The policy knows nothing of rewards or prompts.
"""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from refsynth.core.extras import require
from refsynth.core.files import write_json
from refsynth.core.sections import DeviceName
from refsynth.core.types import FloatArray
from refsynth.models.device import array_of, device_named, has_bfloat16, in_bfloat16
from refsynth.models.seeding import seeded

RANK, ALPHA = 8, 16
TARGETS = ("q_proj", "v_proj")
CLIP = 1.0
MICRO = 16
"""Texts per pass: a pass holds the logits of all their tokens over the whole vocabulary."""

ADAPTER, STATE, FIGURES = "adapter.safetensors", "optimizer.safetensors", "figures.json"


class Rollout(NamedTuple):
    """A prompt and a text that follows it, as token ids."""

    prompt: tuple[int, ...]
    text: tuple[int, ...]


class Policy:
    """A model from a Hugging Face folder with a LoRA adapter on its attention, new or restored."""

    def __init__(
        self,
        folder: Path,
        *,
        start: str | None = None,
        learning_rate: float = 1e-3,
        kl: float = 0.15,
        batch_size: int = 8,
        seed: int = 0,
        device: DeviceName = "cpu",
    ) -> None:
        """Load the model. Its own weights are frozen.

        Args:
            folder: of a causal language model in safetensors.
            start: the token that starts a document in the model's pretraining; the tokenizer's if None.
            learning_rate: of AdamW.
            kl: weight of the divergence from the reference in the loss.
            batch_size: fewest texts of a step. Texts of one prompt are in the same step.
            seed: of the adapter.
            device: of the training.
        """
        transformers, peft = require("transformers", extra="train"), require("peft", extra="train")
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        opening = start or self.tokenizer.bos_token
        self._start = [self.tokenizer.convert_tokens_to_ids(opening)] if opening else []
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0, bias="none")
        with warnings.catch_warnings(), seeded(seed):
            warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated call of transformers
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
            self._device = device_named(device)
            self._model: Any = peft.get_peft_model(model, config).to(self._device)
        self._model.eval()  # no dropout: the trained policy must be the one that wrote
        self._weights = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=learning_rate, weight_decay=0.0)
        self._kl, self._batch_size = kl, batch_size

    def rollout(self, prompt: str, text: str) -> Rollout:
        """Return a prompt and its continuation as token ids."""
        head, tail = (self.tokenizer(part, add_special_tokens=False, split_special_tokens=True) for part in (prompt, text))
        return Rollout((*self._start, *head["input_ids"]), tuple(tail["input_ids"]))

    def update(self, rollouts: Sequence[Rollout], advantages: FloatArray) -> float:
        """Maximize sum_i A_i log P(text_i) - `kl` * (divergence from the reference), in steps of `batch_size` texts.

        The divergence is the k3 estimator of Schulman (2020), as in GRPO (Shao et al., 2024, eq. 4): exp(d) - d - 1 with
        d = log reference - log policy, per token, never negative. The steps of one call change the policy so little that the
        importance ratio to the policy that wrote is left out.

        Args:
            rollouts: M texts that the current policy wrote.
            advantages: of each text within the group of its prompt [M].

        Returns:
            The mean log P per token in nats, of each text before its step.
        """
        likelihood = 0.0
        tokens = sum(len(rollout.text) for rollout in rollouts)
        for groups in _steps(rollouts, self._batch_size):
            self._optimizer.zero_grad()
            count = sum(len(rollouts[row].text) for rows in groups for row in rows)
            for rows in groups:
                likelihood += self._backward([rollouts[row] for row in rows], advantages[rows], count) / tokens
            torch.nn.utils.clip_grad_norm_(self._weights.values(), CLIP)
            self._optimizer.step()
        return likelihood

    def _backward(self, batch: Sequence[Rollout], advantages: FloatArray, tokens: int) -> float:
        """Add the gradient of texts of one prompt to a step over `tokens` tokens; return their log P."""
        with in_bfloat16(self._device, wanted=has_bfloat16(self._device)):
            logs, mask = self._logs(batch)
            kl = _divergence(self._reference(batch), logs, mask) if self._kl else logs.new_zeros(())
        gain = torch.tensor(advantages, dtype=torch.float32, device=self._device)
        loss = (self._kl * kl - (gain * (logs * mask).sum(1)).sum()) / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        return float((logs * mask).sum().detach())

    def divergence(self, rollouts: Sequence[Rollout]) -> float:
        """Return the divergence of the current policy from the reference, in nats per token of texts that it wrote.

        Texts that the policy has just learned from overstate it: after a first turn of SmolLM2, it was four times that of others.
        """
        total = 0.0
        with torch.inference_mode():
            for rows in _by_prompt(rollouts):
                batch = [rollouts[row] for row in rows]
                total += float(_divergence(self._reference(batch), *self._logs(batch)))
        return total / max(sum(len(rollout.text) for rollout in rollouts), 1)

    def draw_back(self, share: float) -> None:
        """Scale the difference from the reference by `share`, in every adapted weight."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                if "lora_B" in name:  # the difference is B A
                    weight.mul_(share)

    def _reference(self, batch: Sequence[Rollout]) -> torch.Tensor:
        """Return the reference's log P of the tokens of texts after one prompt [M, T]."""
        with torch.no_grad(), self._model.disable_adapter():
            return self._logs(batch)[0]

    def log_likelihoods(self, rollouts: Sequence[Rollout]) -> FloatArray:
        """Return log P(text | prompt) of each rollout [M], in nats, summed over its tokens."""
        out = np.zeros(len(rollouts))
        with torch.inference_mode():
            for rows in _by_prompt(rollouts):
                logs, mask = self._logs([rollouts[row] for row in rows])
                out[rows] = array_of((logs * mask).sum(1))
        return out

    def _logs(self, batch: Sequence[Rollout]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log P of the tokens of texts after one prompt, padded on the right [M, T], and the mask of the tokens.

        The prompt is read once for all texts, and gradients flow through its states.
        """
        head = torch.tensor([batch[0].prompt]).to(self._device)
        longest = max(len(one.text) for one in batch)
        ids, mask = torch.zeros((len(batch), longest), dtype=torch.long), torch.zeros((len(batch), longest))
        for row, one in enumerate(batch):
            ids[row, : len(one.text)] = torch.tensor(one.text)
            mask[row, : len(one.text)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        model = self._model.get_base_model()
        prefix = model.model(input_ids=head, use_cache=True)
        states = prefix.last_hidden_state[:, -1:].expand(len(batch), -1, -1)
        if longest > 1:
            cache = prefix.past_key_values
            cache.batch_repeat_interleave(len(batch))
            attention = torch.cat([head.new_ones(len(batch), head.shape[1]), mask[:, :-1].long()], dim=1)
            after = model.model(input_ids=ids[:, :-1], attention_mask=attention, past_key_values=cache).last_hidden_state
            states = torch.cat([states, after], dim=1)
        logits = model.lm_head(states).float()
        return logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1), mask

    def save(self, folder: Path) -> None:
        """Write the adapter and the optimizer's state as safetensors."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().contiguous() for name, weight in self._weights.items()}, folder / ADAPTER)
        states = self._optimizer.state_dict()["state"]
        moments = {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}
        save_file(moments, folder / STATE)

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        stored, moments = load_file(folder / ADAPTER), load_file(folder / STATE)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(stored[name])
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in moments.items():
            index, _, name = key.partition(".")
            states.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})

    def export(self, folder: Path) -> None:
        """Write the model with the adapter merged into its weights, as a Hugging Face folder in half precision.

        The weights are merged in a copy: merging in place and undoing it would leave rounding errors.
        """
        base = self._model.get_base_model()
        with torch.no_grad():
            deltas = {
                f"{name}.weight": module.get_delta_weight("default")
                for name, module in base.named_modules()
                if hasattr(module, "get_delta_weight")
            }
            weights = {
                name.replace(".base_layer", ""): weight for name, weight in base.state_dict().items() if "lora_" not in name
            }
            merged = {name: (weight + deltas.get(name, 0.0)).half() for name, weight in weights.items()}
        base.save_pretrained(folder, state_dict=merged, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)


def save_turn(policy: Policy, figures: Any, place: Path) -> None:
    """Write a turn: the policy and the JSON-ready figures. The folder appears whole or not at all."""
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save(partial)
    write_json(partial / FIGURES, figures)
    shutil.rmtree(place, ignore_errors=True)
    partial.replace(place)


def _divergence(reference: torch.Tensor, logs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the k3 estimator summed over tokens, from their log P [M, T] by the reference and by the policy."""
    difference = (reference - logs) * mask
    return ((difference.exp() - difference - 1) * mask).sum()


def _by_prompt(rollouts: Sequence[Rollout]) -> Iterator[list[int]]:
    """Yield rows that share a prompt, at most `MICRO` at a time, sorted by length to save padding."""
    order = sorted(range(len(rollouts)), key=lambda row: (rollouts[row].prompt, len(rollouts[row].text)))
    for _, group in itertools.groupby(order, key=lambda row: rollouts[row].prompt):
        while rows := list(itertools.islice(group, MICRO)):
            yield rows


def _steps(rollouts: Sequence[Rollout], batch: int) -> Iterator[list[list[int]]]:
    """Yield the rows of each step, in passes over texts of one prompt."""
    groups: list[list[int]] = []
    for rows in _by_prompt(rollouts):
        if groups and sum(map(len, groups)) >= batch and rollouts[rows[0]].prompt != rollouts[groups[-1][0]].prompt:
            yield groups
            groups = []
        groups.append(rows)
    yield groups
