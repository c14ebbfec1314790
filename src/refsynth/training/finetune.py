"""Full fine-tuning: cross-entropy through a linear head and the whole encoder, stopped early on a validation fold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from refsynth.core.types import Example, FloatArray
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.training.head import Link, classes_of, marks_of
from refsynth.training.schedule import Tuner

SCALE = 10.0
"""Embeddings have unit length: logits start with a range that a softmax can use."""


class FinetuneLearner:
    """Fine-tunes a copy of the encoder with a head; the given encoder is left as it is.

    With a validation set the epoch with the lowest validation loss is kept, and training ends after `patience` epochs without a
    better one. Without, it runs for `epochs`.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        encoder: TransformerEncoder,
        *,
        epochs: int = 20,
        batch: int = 16,
        rate: float = 5e-5,
        dropout: float = 0.1,
        patience: int = 3,
        link: Link = "softmax",
    ) -> None:
        self._labels, self._encoder = labels, encoder
        self._epochs, self._batch, self._rate = epochs, batch, rate
        self._dropout, self._patience, self._link = dropout, patience, link

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples."""
        torch.manual_seed(seed)
        encoder = copy.deepcopy(self._encoder)
        head = torch.nn.Linear(encoder.dimension, len(self._labels))
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        rows = encoder.tokenize([example.text for example in train])
        truth = self._truth(train)
        encoder.train()
        tuner = Tuner([encoder, head], rate=self._rate, head=head, steps=self._epochs * -(-len(rows) // self._batch))
        rng = np.random.default_rng(seed)
        best: tuple[float, Any] = (np.inf, None)
        waited = 0
        for _ in range(self._epochs):
            order = rng.permutation(len(rows))
            for start in range(0, len(order), self._batch):
                chosen = order[start : start + self._batch]
                tuner.step(partial(self._batch_loss, encoder, head, [rows[i] for i in chosen], truth[chosen]))
            if not dev:
                continue
            loss = self._loss(encoder, head, dev)
            if loss < best[0]:
                best, waited = (loss, (copy.deepcopy(encoder.state_dict()), copy.deepcopy(head.state_dict()))), 0
            else:
                waited += 1
            if waited >= self._patience:
                break
        if best[1] is not None:
            encoder.load_state_dict(best[1][0])
            head.load_state_dict(best[1][1])
        encoder.eval()
        weights: FloatArray = SCALE * head.weight.detach().numpy().T
        return EncoderPredictor(self._labels, encoder, LinearHead(weights, head.bias.detach().numpy()))

    def _batch_loss(
        self, encoder: TransformerEncoder, head: torch.nn.Linear, rows: Sequence[Sequence[int]], truth: torch.Tensor
    ) -> torch.Tensor:
        features = torch.nn.functional.dropout(SCALE * encoder.embed(rows), self._dropout)
        return self._cross_entropy(head(features).float(), truth)

    def _loss(self, encoder: TransformerEncoder, head: torch.nn.Linear, dev: Sequence[Example]) -> float:
        features = torch.from_numpy(SCALE * encoder.encode([example.text for example in dev]))
        with torch.inference_mode():
            return float(self._cross_entropy(head(features), self._truth(dev)))

    def _truth(self, examples: Sequence[Example]) -> torch.Tensor:
        if self._link == "sigmoid":
            return torch.from_numpy(marks_of(examples, self._labels)).float()
        return torch.from_numpy(classes_of(examples, self._labels))

    def _cross_entropy(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows; of labels that are each a question of their own the sum."""
        if self._link == "sigmoid":
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1).mean()
        return torch.nn.functional.cross_entropy(logits, truth)
