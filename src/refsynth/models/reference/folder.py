"""FolderGenerator: any causal language model in a local Hugging Face folder, on torch.

It reads only safetensors weights, runs no code from the folder, and downloads nothing. It takes three to four times as long as
the embedded reference for a model of the same size; it is meant for larger or fine-tuned models.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.extras import require
from refsynth.core.hashes import derive_seed, digest, file_digest
from refsynth.core.sections import DeviceName
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.device import array_of, device_named
from refsynth.models.reference.continuation import completion_of, continuation, stop_ids
from refsynth.models.seeding import seeded

SCORE_BATCH = 16
"""Texts that are scored at once after one prompt."""


def weights_digest(folder: Path) -> str:
    """Return one sha256 in hex over a model's configuration and weights; missing files do not count."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return digest([[path.name, file_digest(path)] for path in files if path.is_file()])


class FolderGenerator:
    """A folder's model with its decoding settings. Texts depend only on the arguments and the settings."""

    def __init__(
        self,
        folder: Path,
        *,
        temperature: float = 1.0,
        top_p: float = 0.95,
        max_tokens: int = 64,
        device: DeviceName = "cpu",
    ) -> None:
        """Load the model from a folder with config.json, *.safetensors and a tokenizer.

        Raises:
            ExtraError: the extra `train` is not installed.
            ModelError: the folder holds no causal language model in safetensors.
        """
        self._torch = require("torch", extra="train")
        transformers, safetensors = require("transformers", extra="train"), require("safetensors", extra="train")
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not weights:
            raise ModelError(
                f"{folder}: not a model folder",
                expected="config.json, *.safetensors and a tokenizer",
                remedy="save the model there with save_pretrained",
            )
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, dtype=self._torch.float32, **options
            )
        except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(f"{folder}: does not load as a causal language model ({error})") from error
        self._device = device_named(device)
        self._model = model.eval().to(self._device)
        self._hash = weights_digest(folder)
        self._start = [index for index in [self._tokenizer.bos_token_id] if index is not None]
        ends = self._model.generation_config.eos_token_id
        model_ends = [ends] if isinstance(ends, int) else ends or ()
        self._ends = frozenset(model_ends) | stop_ids(self._tokenizer.decode, len(self._tokenizer))
        self._decoding: dict[str, Any] = {
            "do_sample": True,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": 0,
            "max_new_tokens": max_tokens,
            "pad_token_id": self._padding(),
            "eos_token_id": sorted(self._ends) or None,
        }

    @property
    def name(self) -> str:
        """The name in the provenance of drafts."""
        return f"folder:{self._hash[:12]}"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt."""
        rows = []
        for index, prompt in enumerate(prompts):
            ids = self._torch.tensor([self._ids(prompt.text, start=True)]).to(self._device)
            with seeded(derive_seed(seed, index)), self._torch.inference_mode():
                mask = self._torch.ones_like(ids)
                out = self._model.generate(ids, attention_mask=mask, num_return_sequences=n, **self._decoding)
            rows.append([self._completion(row[ids.shape[1] :].tolist()) for row in out])
        return rows

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N]; NaN for a text without tokens.

        Each prompt is computed once for all of its texts, and the common prefix of all prompts once.
        """
        pairs = list(zip(prompts, texts, strict=True))
        values = np.full(len(pairs), np.nan)
        order = sorted(range(len(pairs)), key=lambda row: pairs[row][0].text)
        heads = {prompt.text: self._ids(prompt.text, start=True) or [self._padding()] for prompt, _ in pairs}
        with self._torch.inference_mode():
            shared = _shared(list(heads.values()))
            opening = self._read(shared).past_key_values if shared else None
            for text, group in itertools.groupby(order, key=lambda row: pairs[row][0].text):
                prefix = self._read(heads[text][len(shared) :], after=opening)
                rows = [(row, self._ids(continuation(text, pairs[row][1]), start=False)) for row in group]
                rows = sorted((row for row in rows if row[1]), key=lambda row: len(row[1]))
                for start in range(0, len(rows), SCORE_BATCH):
                    batch = rows[start : start + SCORE_BATCH]
                    values[[row for row, _ in batch]] = self._score(prefix, len(heads[text]), [ids for _, ids in batch])
        return values

    def _read(self, ids: list[int], *, after: Any = None) -> Any:
        """Return the model's output for tokens after a cache: the logits of the last token, and a new cache."""
        tokens = self._torch.tensor([ids]).to(self._device)
        return self._model(tokens, past_key_values=copy.deepcopy(after), use_cache=True, logits_to_keep=1)

    def _score(self, prefix: Any, length: int, tails: list[list[int]]) -> FloatArray:
        """Return the mean log P of token lists after a computed prefix of `length` tokens."""
        torch = self._torch
        longest = max(map(len, tails))
        ids = torch.tensor([tail + [0] * (longest - len(tail)) for tail in tails]).to(self._device)
        present = torch.tensor([[1] * len(tail) + [0] * (longest - len(tail)) for tail in tails]).to(self._device)
        logits = prefix.logits.expand(len(tails), -1, -1)
        if longest > 1:  # the last token of a text predicts nothing that is scored
            cache = copy.deepcopy(prefix.past_key_values)
            cache.batch_repeat_interleave(len(tails))
            mask = torch.cat([present.new_ones(len(tails), length), present[:, :-1]], dim=1)
            logits = torch.cat([logits, self._model(ids[:, :-1], attention_mask=mask, past_key_values=cache).logits], dim=1)
        logs = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        return np.asarray(array_of((logs * present).sum(1) / present.sum(1)), float)

    def _padding(self) -> int:
        candidates = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        return int(next(index for index in candidates if index is not None))

    def _ids(self, text: str, *, start: bool) -> list[int]:
        ids = list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        return self._start + ids if start else ids

    def _completion(self, ids: list[int]) -> Completion:
        end = next((place for place, token in enumerate(ids, start=1) if token in self._ends), None)  # what follows is padding
        text = self._tokenizer.decode(ids[:end], skip_special_tokens=True)
        return completion_of(text, finished=end is not None)


def _shared(heads: list[list[int]]) -> list[int]:
    """Return the common prefix of several prompts, without the last token of the shortest; empty for one prompt."""
    first, last = min(heads, default=[]), max(heads, default=[])
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return first[: min(same, min(map(len, heads)) - 1)] if len(heads) > 1 else []
