"""EmbeddedGenerator: the reference in this process, int8 on CTranslate2, with one thread per worker.

Prompts are plain text to be continued. Control tokens in them are read as ordinary characters.

CTranslate2 has one random generator per worker thread, which takes the process-wide seed only when that thread first samples. So
seeding a model in use changes nothing, and which of two workers takes a batch is a race. Each unit of work therefore gets its own
model with one new thread (0.13 s to load), which is seeded under a lock by a first token that is discarded.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import ModelError
from refsynth.core.extras import require
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.manifest import model_hash
from refsynth.models.reference.continuation import completion_of, continuation, stop_ids

START = "<|endoftext|>"
"""Starts a document in the pretraining of SmolLM2. With it, mean log P of three plain texts rose from -3.5 to -3.0."""

TOP_K = 100
"""Most probable tokens for the nucleus. Sorting all 49,152 took longer than running the model (3.8 against 1.6 s)."""

UNIT = 4
"""Prompts that share a loaded model: loading is then a few percent of the work, and 8 prompts keep two workers evenly busy."""

SCORE_TOKENS = 2048
"""Padded tokens in one scoring batch."""

_SEEDING = threading.Lock()


class EmbeddedGenerator:
    """SmolLM2 from the store's ready folder.

    Texts depend only on the prompts, n, the seed and the decoding settings. They may differ between processor families, whose
    int8 kernels round differently.
    """

    def __init__(
        self,
        folder: Path,
        *,
        temperature: float = 1.0,
        top_p: float = 0.95,
        max_tokens: int = 64,
        workers: int = 2,
        name: str | None = None,
    ) -> None:
        """Read the tokenizer of a ready folder; the model loads with the first call.

        `workers` is the number of threads, each with a model. `name` is the name of weights that are not the store's.

        Raises:
            ExtraError: the extra `train` is not installed.
            ModelError: the folder is not a ready model.
        """
        from tokenizers import Tokenizer

        self._ctranslate2 = require("ctranslate2", extra="train")
        self._folder, self._workers = folder, workers
        self._name = name or f"embedded:smollm2:{model_hash(folder)[:12]}"
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._special = sorted(self._tokenizer.get_added_tokens_decoder())
        self._tokenizer.encode_special_tokens = True  # control tokens in a prompt are text
        self._ends = frozenset(self._special) | stop_ids(self._tokenizer.decode, self._tokenizer.get_vocab_size())
        self._decoding = {
            "beam_size": 1,
            "max_length": max_tokens,
            "min_length": 1,  # no completion is empty
            "sampling_temperature": temperature,
            "sampling_topk": min(TOP_K, self._tokenizer.get_vocab_size()) if top_p < 1 else 0,
            "sampling_topp": top_p,
            "include_prompt_in_result": False,
            "end_token": sorted(self._ends),
            "return_end_token": True,
            "max_batch_size": 1,  # padding prompts of different lengths costs more than a batch saves
        }

    @property
    def name(self) -> str:
        """The name in the provenance of drafts."""
        return self._name

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt; the prompt is computed once for them."""
        tokens = [self._tokens(prompt.text, start=True) for prompt in prompts]
        units = [tokens[start : start + UNIT] for start in range(0, len(tokens), UNIT)]
        with ThreadPoolExecutor(self._workers) as pool:
            answers = pool.map(lambda unit: self._sample(unit[1], n, derive_seed(seed, unit[0])), enumerate(units))
            return [[self._completion(ids) for ids in row] for unit in answers for row in unit]

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N]; NaN for a text without tokens.

        Each pair is one forward pass over prompt and text, since CTranslate2 cannot reuse a common prefix. It runs at some 700
        tokens per second and thread, so short prompts are cheap.
        """
        if not texts:
            return np.zeros(0)
        before = [self._tokens(prompt.text, start=True) for prompt in prompts]
        after = [self._tokens(continuation(prompt.text, text), start=False) for prompt, text in zip(prompts, texts, strict=True)]
        pairs = [head + tail for head, tail in zip(before, after, strict=True)]
        results = self._scoring.score_batch(pairs, max_batch_size=SCORE_TOKENS, batch_type="tokens", max_input_length=0)
        logs = [result.log_probs[-len(tail) :] if tail else [np.nan] for result, tail in zip(results, after, strict=True)]
        return np.asarray([np.mean(values) for values in logs])

    @cached_property
    def _scoring(self) -> Any:
        """The model for scoring. It draws no random numbers, so it can be reused."""
        return self._load(self._workers)

    def _load(self, workers: int) -> Any:
        try:
            return self._ctranslate2.Generator(
                str(self._folder), device="cpu", compute_type="int8", inter_threads=workers, intra_threads=1
            )
        except (RuntimeError, ValueError) as error:
            remedy = "refsynth models fetch smollm2 --force"
            raise ModelError(f"{self._folder}: does not load ({error})", remedy=remedy) from error

    def _sample(self, tokens: list[list[str]], n: int, seed: int) -> list[list[list[int]]]:
        """Return `n` sequences of ids for each tokenized prompt, by a model that is loaded for this call."""
        model = self._load(1)
        with _SEEDING:
            self._ctranslate2.set_random_seed(seed)
            model.generate_batch([[START]], max_length=1, sampling_topk=0)
        return [result.sequences_ids for result in model.generate_batch(tokens, num_hypotheses=n, **self._decoding)]

    def _tokens(self, text: str, *, start: bool) -> list[str]:
        tokens = list(self._tokenizer.encode(text, add_special_tokens=False).tokens)
        return [START, *tokens] if start else tokens

    def _completion(self, ids: list[int]) -> Completion:
        finished = bool(ids) and ids[-1] in self._ends
        return completion_of(self._tokenizer.decode(ids, skip_special_tokens=True), finished=finished)


def to_ctranslate2(weights: Path, out: Path) -> None:
    """Convert a Hugging Face folder of the same architecture to the int8 folder of `EmbeddedGenerator`, with its tokenizer."""
    converters = require("ctranslate2", extra="train").converters
    converters.TransformersConverter(str(weights)).convert(str(out), quantization="int8", force=True)
    shutil.copy(weights / "tokenizer.json", out / "tokenizer.json")
