"""The policy: a causal language model with a LoRA adapter, trained by policy gradient and kept near the model it came from.

The adapter off is the reference, so one set of weights serves both. Knows nothing of rewards, prompts or rollouts.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from refsynth.core.extras import require
from refsynth.core.sections import DeviceName
from refsynth.core.types import FloatArray
from refsynth.models.device import array_of, device_named, has_bfloat16, in_bfloat16
from refsynth.models.seeding import seeded

RANK, ALPHA = 8, 16
TARGETS = ("q_proj", "v_proj")
CLIP = 1.0
MICRO = 16
"""Texts in one pass: a pass holds the logits of all their tokens over the whole vocabulary."""

ADAPTER, STATE = "adapter.safetensors", "optimiser.safetensors"


class Rollout(NamedTuple):
    """A text under its prompt, as token ids."""

    prompt: tuple[int, ...]
    text: tuple[int, ...]


class Policy:
    """A model in a Hugging Face folder with a fresh adapter on its attention, or one that was saved."""

    def __init__(
        self,
        folder: Path,
        *,
        start: str | None = None,
        rate: float = 1e-3,
        kl: float = 0.15,
        batch: int = 8,
        seed: int = 0,
        device: DeviceName = "cpu",
    ) -> None:
        """Load the model; its own weights stay as they are.

        Args:
            folder: causal language model, safetensors.
            start: the token that opens a document in its pretraining; the one that its tokenizer names if left out.
            rate: learning rate.
            kl: weight of the divergence from the reference in the loss.
            batch: texts of one step, at least; siblings stay together.
            seed: of the adapter.
            device: where it is trained.
        """
        transformers, peft = require("transformers", extra="train"), require("peft", extra="train")
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        opening = start or self.tokenizer.bos_token
        self._start = [self.tokenizer.convert_tokens_to_ids(opening)] if opening else []
        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), lora_dropout=0.0, bias="none")
        with warnings.catch_warnings(), seeded(seed):
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in an older way
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
            self._device = device_named(device)
            self._model: Any = peft.get_peft_model(model, config).to(self._device)
        self._model.eval()  # no dropout: the policy that is trained is the one that wrote
        self._weights = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=rate, weight_decay=0.0)
        self._kl, self._batch = kl, batch

    def rollout(self, prompt: str, text: str) -> Rollout:
        """Return a prompt and its continuation as token ids."""
        head, tail = (self.tokenizer(part, add_special_tokens=False, split_special_tokens=True) for part in (prompt, text))
        return Rollout((*self._start, *head["input_ids"]), tuple(tail["input_ids"]))

    def update(self, rollouts: Sequence[Rollout], advantages: FloatArray) -> float:
        """Take steps up sum_i A_i log P(text_i) less `kl` times the divergence from the reference, `batch` texts a step.

        The divergence is the k3 estimator of Schulman (2020), as in GRPO (Shao et al., 2024, eq. 4): exp(d) - d - 1 with
        d = log reference - log policy, per token, never negative. Within the steps of one call the policy moves away from the one
        that wrote by so little that their ratio is left out. Returned is the mean log P per token, in nats, each text as the
        policy was before its step.

        Args:
            rollouts: M texts that the policy wrote as it is now.
            advantages: of each over its siblings [M].
        """
        likelihood = 0.0
        tokens = sum(len(rollout.text) for rollout in rollouts)
        for groups in _steps(rollouts, self._batch):
            self._optimiser.zero_grad()
            count = sum(len(rollouts[row].text) for rows in groups for row in rows)
            for rows in groups:
                likelihood += self._backward([rollouts[row] for row in rows], advantages[rows], count) / tokens
            torch.nn.utils.clip_grad_norm_(self._weights.values(), CLIP)
            self._optimiser.step()
        return likelihood

    def _backward(self, batch: Sequence[Rollout], advantages: FloatArray, tokens: int) -> float:
        """Add the gradient of siblings to a step over `tokens` tokens; return their log P."""
        with in_bfloat16(self._device, wanted=has_bfloat16(self._device)):
            logs, held = self._logs(batch)
            kl = _divergence(self._reference(batch), logs, held) if self._kl else logs.new_zeros(())
        gain = torch.tensor(advantages, dtype=torch.float32, device=self._device)
        loss = (self._kl * kl - (gain * (logs * held).sum(1)).sum()) / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        return float((logs * held).sum().detach())

    def divergence(self, rollouts: Sequence[Rollout]) -> float:
        """Return the divergence of the policy as it is now from the reference, in nats per token of texts that it wrote.

        Of texts that it has just learnt from it would be too large: after a first turn of SmolLM2 four times that of fresh ones.
        """
        total = 0.0
        with torch.inference_mode():
            for rows in _siblings(rollouts):
                batch = [rollouts[row] for row in rows]
                total += float(_divergence(self._reference(batch), *self._logs(batch)))
        return total / max(sum(len(rollout.text) for rollout in rollouts), 1)

    def draw_back(self, share: float) -> None:
        """Keep so much of the difference from the reference, of every adapted weight."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                if "lora_B" in name:  # the difference is B A
                    weight.mul_(share)

    def _reference(self, batch: Sequence[Rollout]) -> torch.Tensor:
        """Return log P of the tokens of texts under one prompt [M, T] by the reference."""
        with torch.no_grad(), self._model.disable_adapter():
            return self._logs(batch)[0]

    def log_likelihoods(self, rollouts: Sequence[Rollout]) -> FloatArray:
        """Return log P(text | prompt) of each rollout, in nats, summed over its tokens: [M]."""
        out = np.zeros(len(rollouts))
        with torch.inference_mode():
            for rows in _siblings(rollouts):
                logs, held = self._logs([rollouts[row] for row in rows])
                out[rows] = array_of((logs * held).sum(1))
        return out

    def _logs(self, batch: Sequence[Rollout]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log P of the tokens of texts under one prompt, padded on the right [M, T], and which of them are tokens.

        The prompt is read once for all of them, and gradients flow through what was read.
        """
        head = torch.tensor([batch[0].prompt]).to(self._device)
        longest = max(len(one.text) for one in batch)
        ids, held = torch.zeros((len(batch), longest), dtype=torch.long), torch.zeros((len(batch), longest))
        for row, one in enumerate(batch):
            ids[row, : len(one.text)] = torch.tensor(one.text)
            held[row, : len(one.text)] = 1
        ids, held = ids.to(self._device), held.to(self._device)
        model = self._model.get_base_model()
        prefix = model.model(input_ids=head, use_cache=True)
        states = prefix.last_hidden_state[:, -1:].expand(len(batch), -1, -1)
        if longest > 1:
            cache = prefix.past_key_values
            cache.batch_repeat_interleave(len(batch))
            mask = torch.cat([head.new_ones(len(batch), head.shape[1]), held[:, :-1].long()], dim=1)
            after = model.model(input_ids=ids[:, :-1], attention_mask=mask, past_key_values=cache).last_hidden_state
            states = torch.cat([states, after], dim=1)
        logits = model.lm_head(states).float()
        return logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1), held

    def save(self, folder: Path) -> None:
        """Write the adapter and the optimiser's state, as safetensors."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().contiguous() for name, weight in self._weights.items()}, folder / ADAPTER)
        states = self._optimiser.state_dict()["state"]
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
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": states})

    def export(self, folder: Path) -> None:
        """Write the model with the adapter added to its weights, as a Hugging Face folder in half precision.

        The sums are made aside: adding to the weights and taking away again would leave rounding in them.
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


def _divergence(reference: torch.Tensor, logs: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Return the k3 estimator summed over tokens, given their log P [M, T] by the reference and by the policy that wrote them."""
    difference = (reference - logs) * held
    return ((difference.exp() - difference - 1) * held).sum()


def _siblings(rollouts: Sequence[Rollout]) -> Iterator[list[int]]:
    """Yield rows that share a prompt, `MICRO` at a time and of like length: padding is work too."""
    order = sorted(range(len(rollouts)), key=lambda row: (rollouts[row].prompt, len(rollouts[row].text)))
    for _, group in itertools.groupby(order, key=lambda row: rollouts[row].prompt):
        while rows := list(itertools.islice(group, MICRO)):
            yield rows


def _steps(rollouts: Sequence[Rollout], batch: int) -> Iterator[list[list[int]]]:
    """Yield the rows of each step, as passes over siblings."""
    groups: list[list[int]] = []
    for rows in _siblings(rollouts):
        if groups and sum(map(len, groups)) >= batch and rollouts[rows[0]].prompt != rollouts[groups[-1][0]].prompt:
            yield groups
            groups = []
        groups.append(rows)
    yield groups
