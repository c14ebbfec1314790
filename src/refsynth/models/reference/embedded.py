"""EmbeddedGenerator: the reference in this process, int8 on CTranslate2, on one thread per worker.

Prompts are plain text to be continued. What looks like a control token in them is read as the characters it is made of.

CTranslate2 draws from one generator per worker thread, which takes the process-wide seed when that thread first samples and never
again: seeding a living model changes nothing, and which of two workers takes a batch is a race. So each unit of work gets a model
of its own with one fresh thread (0.13 s to load), seeded under a lock by a first token that is thrown away.
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
from refsynth.core.run import derive_seed
from refsynth.core.types import Completion, FloatArray, Prompt
from refsynth.models.manifest import model_hash
from refsynth.models.reference.seam import completion_of, continuation, ids_holding

START = "<|endoftext|>"
"""Opens a document in the pretraining of SmolLM2. With it, mean log P of three plain texts rose from -3.5 to -3.0."""

TOP_K = 100
"""Tokens that the nucleus is cut from. Sorting all 49,152 for it took longer than running the model (3.8 against 1.6 s)."""

UNIT = 4
"""Prompts that share a freshly loaded model: loading is then a few percent of the work, and 8 keep two workers evenly busy."""

SCORE_TOKENS = 2048
"""Padded tokens in one scoring batch."""

_SEEDING = threading.Lock()


class EmbeddedGenerator:
    """SmolLM2 out of the store's ready folder.

    Texts are a pure function of (prompts, n, seed) and the decoding settings, whatever ran before or beside it. They may differ
    between processor families, whose int8 kernels round differently.
    """

    def __init__(
        self,
        folder: Path,
        *,
        temperature: float = 1.0,
        top_p: float = 0.95,
        max_tokens: int = 64,
        stop: str = "\n",
        workers: int = 2,
        name: str | None = None,
    ) -> None:
        """Read the tokenizer; the model loads with the first call.

        Args:
            folder: the ready folder.
            temperature: of the sampling.
            top_p: the nucleus.
            max_tokens: the longest completion.
            stop: where a completion ends; it is not part of it. Empty: only the model ends it.
            workers: threads, one model each.
            name: the identity of weights that are not the store's.

        Raises:
            ExtraError: the extra `train` is not installed.
            ModelError: the folder is no ready model.
        """
        from tokenizers import Tokenizer

        self._ctranslate2 = require("ctranslate2", extra="train")
        self._folder, self._workers, self._stop = folder, workers, stop
        self._name = name or f"embedded:smollm2:{model_hash(folder)[:12]}"
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._special = sorted(self._tokenizer.get_added_tokens_decoder())
        self._tokenizer.encode_special_tokens = True  # control tokens in a prompt are text
        self._ends = frozenset(self._special) | ids_holding(stop, self._tokenizer.decode, self._tokenizer.get_vocab_size())
        self._decoding = {
            "beam_size": 1,
            "max_length": max_tokens,
            "min_length": 1,  # a prompt is never answered with nothing
            "sampling_temperature": temperature,
            "sampling_topk": min(TOP_K, self._tokenizer.get_vocab_size()) if top_p < 1 else 0,
            "sampling_topp": top_p,
            "include_prompt_in_result": False,
            "end_token": sorted(self._ends),
            "return_end_token": True,
            "max_batch_size": 1,  # prompts of unlike length cost each other more than they share
        }

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return self._name

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt; a prompt's prefix is computed once for them."""
        tokens = [self._tokens(prompt.text, start=True) for prompt in prompts]
        units = [tokens[start : start + UNIT] for start in range(0, len(tokens), UNIT)]
        with ThreadPoolExecutor(self._workers) as pool:
            answers = pool.map(lambda unit: self._sample(unit[1], n, derive_seed(seed, unit[0])), enumerate(units))
            return [[self._completion(ids) for ids in row] for unit in answers for row in unit]

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N]; NaN for a text without tokens.

        Each pair is one forward pass over prompt and text: CTranslate2 can keep no shared prefix between scored texts. It runs at
        some 700 tokens per second and thread, so short prompts are cheap prompts.
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
        """A model for scoring, which draws no random numbers and so may live on."""
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
        """Return `n` sequences of ids for each tokenised prompt, by a model made for this call."""
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
        return completion_of(self._tokenizer.decode(ids, skip_special_tokens=True), stop=self._stop, finished=finished)


def to_ctranslate2(weights: Path, out: Path) -> None:
    """Convert a Hugging Face folder of the same kind of model to what `EmbeddedGenerator` reads: int8, with its tokenizer."""
    converters = require("ctranslate2", extra="train").converters
    converters.TransformersConverter(str(weights)).convert(str(out), quantization="int8", force=True)
    shutil.copy(weights / "tokenizer.json", out / "tokenizer.json")
