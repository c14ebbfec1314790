"""The encoder as a torch module: a transformer whose token states are pooled to one vector for each text.

Texts are batched by length, so that the time is proportional to the number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from refsynth.core.pair import split_pair
from refsynth.core.types import FloatArray
from refsynth.core.windows import Frame, TextWindow, Windows, head_and_tail, reach_of, split_rows, word_parts
from refsynth.models.adapted import read_parts, write_transformer
from refsynth.models.device import array_of
from refsynth.models.pooling import is_causal, pooled
from refsynth.models.tokenizer import CHARS_PER_TOKEN, WORDS_PER_TOKEN, Pieces, length_batches, pieces_of, split_words

TOKENS_PER_BATCH = 1024
CPU = torch.device("cpu")


class TransformerEncoder(torch.nn.Module):
    """A BERT-like encoder or a causal language model from a folder. Gradients flow through `embed`; `encode` is for inference."""

    def __init__(
        self, folder: Path, *, prefix: str = "", max_tokens: int = 128, windows: Windows = "cut", device: torch.device = CPU
    ) -> None:
        super().__init__()
        self.prefix, self.windows = prefix, windows
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.transformer: Any = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation="eager",  # on a CPU, 0.7 times the fused kernel's time for a training step on short texts
            **({"use_cache": False} if is_causal(config) else {"add_pooling_layer": False}),
        )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.transformer = read_parts(self.transformer, folder).to(device)
        self.dimension = int(self.transformer.config.hidden_size)
        self.max_tokens = min(max_tokens, int(self.transformer.config.max_position_embeddings))
        mask = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        before = self.tokenizer(prefix.strip(), add_special_tokens=False)["input_ids"] if prefix else ()
        self.frame = Frame.of(mask, len(before))

    @property
    def device(self) -> torch.device:
        """The device of the weights and of all results."""
        device: torch.device = next(self.parameters()).device
        return device

    def tokenize(self, texts: Sequence[str], *, limit: int | None = None) -> list[list[int]]:
        """Return token ids per text, as many as `windows` allows; with a limit at most that many, in one window."""
        longest = min(self.max_tokens, limit or self.max_tokens)
        windows: Windows = "cut" if limit and self.windows == "mean" else self.windows
        reach = reach_of(longest, windows, self.frame)
        chars = self.max_tokens * CHARS_PER_TOKEN
        if windows == "head_tail":
            texts = [text if len(text) <= chars else text[: chars // 2] + text[-(chars // 2) :] for text in texts]
        halves = [split_pair(self.prefix + text) or (self.prefix + text, None) for text in texts]
        if all(second is None for _, second in halves):
            rows = list(self.tokenizer([first for first, _ in halves], truncation=True, max_length=reach)["input_ids"])
        else:
            rows = [self.tokenizer(*pair, truncation=True, max_length=reach)["input_ids"] for pair in halves]
        if windows == "head_tail":
            rows = [head_and_tail(ids, longest) for ids in rows]
        return [ids or [int(self.tokenizer.pad_token_id)] for ids in rows]

    def longer(self, texts: Sequence[str], *, words: bool = False) -> tuple[int, int]:
        """Return how many clean texts have more than `max_tokens` tokens, and how many are truncated.

        `words` is whether the words of a text are tokenized one by one.
        """
        windows: Windows = self.windows if not words or self.windows == "cut" else "mean"
        limit = self.max_tokens if windows == "head_tail" else reach_of(self.max_tokens, windows, self.frame)
        long = [text for text in texts if len(text.encode("utf-8", "replace")) > self.max_tokens - sum(self.frame)]
        pairs = [
            (split_words(text), None) if words else split_pair(self.prefix + text) or (self.prefix + text, None) for text in long
        ]
        counts = [len(self.tokenizer(*pair, is_split_into_words=words, verbose=False)["input_ids"]) for pair in pairs]
        return sum(count > self.max_tokens for count in counts), sum(count > limit for count in counts)

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids [N, T] of rows of at most T, and their mask [N, T]."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        return ids.to(self.device), mask.to(self.device)

    def pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the unit-length embeddings [N, D] of the states of tokens [N, T, D]."""
        states = states[:, -mask.shape[1] :]  # without the vectors that peft puts before a text
        return torch.nn.functional.normalize(pooled(states, mask, self.transformer.config), dim=-1)

    def embed(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return unit-length embeddings [N, D] of rows of token ids."""
        split = split_rows(rows, self.max_tokens, self.frame)
        ids, mask = self.padded(split.rows)
        vectors = self.pool(self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        if len(split.rows) == len(rows):
            return vectors
        sums = vectors.new_zeros(len(rows), self.dimension)
        sizes = torch.tensor(split.sizes, dtype=vectors.dtype, device=self.device)[:, None]
        owners = torch.tensor(split.owners, device=self.device)
        return torch.nn.functional.normalize(sums.index_add(0, owners, sizes * vectors), dim=-1)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return unit-length embeddings [N, D], float32."""
        rows = self.tokenize(texts)
        out = np.zeros((len(rows), self.dimension), np.float32)
        with self._inference():
            for batch in length_batches(rows, tokens=TOKENS_PER_BATCH):
                out[batch] = array_of(self.embed([rows[index] for index in batch]))
        return out

    def words(self, texts: Sequence[str], *, limit: int | None = None) -> list[Pieces]:
        """Return the words of each text as tokens, as many as `windows` allows; with a limit at most that many.

        Each word is tokenized by itself, so no token spans two words.
        """
        split, pad = [split_words(text) for text in texts], int(self.tokenizer.pad_token_id)
        windows: Windows = "cut" if limit or self.windows == "cut" else "mean"
        longest = reach_of(min(self.max_tokens, limit or self.max_tokens), windows, self.frame)
        if not any(split):
            return [Pieces([pad], 0, [], [], []) for _ in texts]
        words = [of_text[: WORDS_PER_TOKEN * longest] for of_text in split]
        encoded = self.tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest)
        return [pieces_of(ids, encoded.word_ids(i), len(split[i]), pad=pad) for i, ids in enumerate(encoded["input_ids"])]

    def word_states(self, rows: Sequence[Pieces]) -> torch.Tensor:
        """Return the states of all words that have tokens, text after text [M, D]."""
        longest, frame = self.max_tokens, self.frame
        parts = [part for row in rows for part in word_parts(row.ids, row.starts, row.ends, longest, frame)]
        ids, mask = self.padded([part.ids for part in parts])
        return self.pool_words(self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state, parts)

    def pool_words(self, states: torch.Tensor, rows: Sequence[Pieces | TextWindow]) -> torch.Tensor:
        """Return the mean of the states [N, T, D] over the tokens of each word that has any, text after text [M, D]."""
        width = max(len(row.ids) for row in rows)
        states = states[:, -width:]  # without the vectors that peft puts before a text
        spans = [(base * width, span) for base, row in enumerate(rows) for span in zip(row.starts, row.ends, strict=True)]
        tokens = [base + place for base, (start, end) in spans for place in range(start, end)]
        counts = np.array([end - start for _, (start, end) in spans], int)
        owners = torch.tensor(np.repeat(np.arange(len(counts)), counts), device=self.device)
        of_tokens = states.reshape(-1, self.dimension)[torch.tensor(tokens, dtype=torch.long).to(self.device)]
        sums = torch.zeros(len(counts), self.dimension, device=self.device).index_add(0, owners, of_tokens)
        return sums / torch.tensor(counts, device=self.device)[:, None]

    def states(self, rows: Sequence[Pieces]) -> list[FloatArray]:
        """Return the states of the words of each text that have tokens: [M, D] for each text, float32."""
        out: list[FloatArray] = [np.zeros((0, self.dimension), np.float32)] * len(rows)
        with self._inference():
            for batch in length_batches([row.ids for row in rows], tokens=TOKENS_PER_BATCH):
                states = array_of(self.word_states([rows[index] for index in batch]))
                stops = np.cumsum([len(rows[index].words) for index in batch])
                for index, part in zip(batch, np.split(states, stops[:-1]), strict=True):
                    out[index] = part
        return out

    @contextmanager
    def _inference(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            yield
        self.train(was_training)

    def save(self, folder: Path) -> None:
        """Write the encoder as a folder that `transformers` loads (safetensors)."""
        write_transformer(self.transformer, folder)
        backend = self.tokenizer.backend_tokenizer  # it keeps the limits of its last call, which the file must not depend on
        backend.no_truncation()
        backend.enable_padding(pad_id=int(self.tokenizer.pad_token_id), pad_token=self.tokenizer.pad_token)
        self.tokenizer.save_pretrained(folder)
