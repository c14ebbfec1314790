"""Continued pretraining of an encoder: masked language modeling of unlabeled texts (Devlin et al., 2019, section 3.1).

The embedded encoders come without the head that predicts words. One is fitted first to the unchanged encoder, so that the
measurements before and after differ by the encoder alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling

from refsynth.core.errors import ModelError
from refsynth.core.hashes import derive_seed
from refsynth.core.types import IntArray
from refsynth.learning.tuning.batches import in_passes
from refsynth.learning.tuning.trainer import SAVE_SECONDS, Trainer, TrainingRecipe
from refsynth.models.network import TransformerEncoder
from refsynth.models.seeding import seeded
from refsynth.models.tokenizer import length_batches

MASKED = 0.15
"""Share of the tokens that are masked."""

EPOCHS = 40
"""The most passes over the texts; the time budget or early stopping ends training sooner."""

HEAD_SHARE = 0.25
"""Share of the time budget for the head alone."""

HEAD_RATE, RATE = 2e-3, 1e-4

TOKENS_PER_PASS = 2048


class WordHead(torch.nn.Module):
    """Predicts words from states [M, D], as BERT's head does: logits [M, V] over the encoder's own word embeddings."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        config = encoder.transformer.config
        self.dense = torch.nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = torch.nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = torch.nn.Parameter(torch.zeros(encoder.transformer.get_input_embeddings().weight.shape[0]))

    def forward(self, states: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return the logits of states [M, D] over words [V, D]."""
        logits: torch.Tensor = self.norm(torch.nn.functional.gelu(self.dense(states))) @ words.T + self.bias
        return logits


class WordModel(torch.nn.Module):
    """An encoder with a head that predicts words."""

    def __init__(self, encoder: TransformerEncoder, *, seed: int) -> None:
        super().__init__()
        if encoder.tokenizer.mask_token_id is None:
            raise ModelError("the encoder's tokenizer has no token for a masked word", remedy="leave pretrain.encoder out")
        with seeded(seed):
            self.encoder, self.head = encoder, WordHead(encoder).to(encoder.device)

    def loss(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean of -log P in nats over the masked tokens, those with a label [N, T] other than -100; 0 if none has."""
        ids, mask, labels = (part.to(self.encoder.device) for part in (ids, mask, labels))
        states = self.encoder.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        masked = labels != -100
        words = self.encoder.transformer.get_input_embeddings().weight
        losses = torch.nn.functional.cross_entropy(self.head(states[masked], words).float(), labels[masked], reduction="sum")
        return losses / max(1, int(masked.sum()))


class MaskedLoss:
    """The loss of a model over texts; each step masks other tokens. See `trainer.Loss`."""

    def __init__(self, model: WordModel, rows: Sequence[Sequence[int]]) -> None:
        self._model, self._rows = model, rows
        self._mask = DataCollatorForLanguageModeling(model.encoder.tokenizer, mlm_probability=MASKED)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row [N]."""
        return [len(row) for row in self._rows]

    def passes(self, rows: IntArray, *, passes: int, of: int) -> Iterator[Callable[[], torch.Tensor]]:
        """Yield losses that sum to the share of `rows` in the loss of a step of `of` rows."""
        for part in in_passes(rows, passes):
            yield partial(self._share, part, of=of)

    def _share(self, part: IntArray, *, of: int) -> torch.Tensor:
        batch = self._mask([{"input_ids": list(self._rows[row])} for row in part])
        return self._model.loss(batch["input_ids"], batch["attention_mask"], batch["labels"]) * len(part) / of


def pseudo_perplexity(model: WordModel, rows: Sequence[Sequence[int]]) -> float:
    """Return exp of the mean of -log P(token | the other tokens of its text), each masked in turn (Salazar et al., 2020)."""
    tokenizer: Any = model.encoder.tokenizer
    special = set(tokenizer.all_special_ids)
    cells = [(row, place) for row, ids in enumerate(rows) for place, token in enumerate(ids) if token not in special]
    total, was_training = 0.0, model.training
    model.eval()
    with torch.inference_mode():
        for batch in length_batches([rows[row] for row, _ in cells], tokens=TOKENS_PER_PASS):
            picked = [cells[index] for index in batch]
            ids, mask = model.encoder.padded([rows[row] for row, _ in picked])
            labels = torch.full_like(ids, -100)
            for line, (_, place) in enumerate(picked):
                labels[line, place] = ids[line, place]
                ids[line, place] = tokenizer.mask_token_id
            total += float(model.loss(ids, mask, labels)) * len(picked)
    model.train(was_training)
    return float(np.exp(total / max(1, len(cells))))


class Held(NamedTuple):
    """Token ids of held-out texts: some for early stopping, and others to measure perplexity on."""

    validation: Sequence[Sequence[int]]
    measured: Sequence[Sequence[int]]


class TimeBudget(NamedTuple):
    """Minutes in all, the checkpoint file of a killed training, and the seconds between two checkpoints."""

    minutes: float
    checkpoint: Path
    every: float = SAVE_SECONDS


def fit_head(model: WordModel, rows: Sequence[Sequence[int]], held: Held, budget: TimeBudget, *, seed: int) -> None:
    """Fit the head alone."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    _train(model, rows, held, budget, rate=HEAD_RATE, share=HEAD_SHARE, seed=derive_seed(seed, "head"))


def fit_words(model: WordModel, rows: Sequence[Sequence[int]], held: Held, budget: TimeBudget, *, seed: int) -> None:
    """Fit encoder and head."""
    model.requires_grad_(True)
    _train(model, rows, held, budget, rate=RATE, share=1 - HEAD_SHARE, seed=derive_seed(seed, "words"))
    model.requires_grad_(False)


def _train(
    model: WordModel, rows: Sequence[Sequence[int]], held: Held, budget: TimeBudget, *, rate: float, share: float, seed: int
) -> None:
    recipe = TrainingRecipe(epochs=EPOCHS, batch_size=32, learning_rate=rate, patience=2)
    trainer = Trainer(
        model,
        torch.nn.Module(),  # no module learns at the head's rate: this recipe already has the rate of what it trains
        recipe,
        seed=seed,
        checkpoint=budget.checkpoint,
        every=budget.every,
        limit=60 * share * budget.minutes,
    )
    mask = DataCollatorForLanguageModeling(model.encoder.tokenizer, mlm_probability=MASKED, seed=0)
    batches = length_batches(held.validation, tokens=TOKENS_PER_PASS)
    masked = [mask([{"input_ids": list(held.validation[row])} for row in batch]) for batch in batches]
    model.train()
    trainer.fit(MaskedLoss(model, rows), lambda: (_validation_loss(model, masked),))
    model.eval()


def _validation_loss(model: WordModel, batches: Sequence[Any]) -> float:
    model.eval()
    with torch.inference_mode():
        losses = [float(model.loss(b["input_ids"], b["attention_mask"], b["labels"])) for b in batches]
    model.train()
    counts = [int((b["labels"] != -100).sum()) for b in batches]
    return float(np.average(losses, weights=np.maximum(counts, 1)))
