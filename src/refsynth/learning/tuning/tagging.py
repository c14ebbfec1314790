"""The loss of fine-tuning for token classification: weighted cross-entropy over all words that the encoder reads.

A step of n rows minimizes sum_i w_i sum_t l_it / (n W T), where T is the mean number of words of all rows and W their mean
weight. So all words count the same, not all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from refsynth.core.spans import split_spans, tag_names, tags_of
from refsynth.core.types import Example, IntArray
from refsynth.learning.head import row_weights
from refsynth.learning.tuning.batches import in_passes
from refsynth.models.network import TransformerEncoder
from refsynth.models.tokenizer import Pieces


def tags_read(examples: Sequence[Example], rows: Sequence[Pieces], labels: Sequence[str]) -> list[IntArray]:
    """Return for each example the tag numbers of its words that have tokens."""
    number = {tag: index for index, tag in enumerate(tag_names(labels))}
    tags = [tags_of(split_spans(example.label), row.n) for example, row in zip(examples, rows, strict=True)]
    return [np.array([number[of_row[word]] for word in row.words], int) for of_row, row in zip(tags, rows, strict=True)]


class TagObjective:
    """The loss of a head on the states of words, over some rows."""

    def __init__(
        self,
        encoder: TransformerEncoder,
        head: torch.nn.Module,
        examples: Sequence[Example],
        labels: Sequence[str],
        *,
        dropout: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        self._encoder, self._head, self._dropout, self._smoothing = encoder, head, dropout, smoothing
        self._rows = encoder.words([example.text for example in examples])
        self._tags = tags_read(examples, self._rows, labels)
        words = np.mean([len(tags) for tags in self._tags])
        weights = row_weights(examples)
        self._weights = weights / weights.mean() / max(float(words), 1.0)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row [N]."""
        return [len(row.ids) for row in self._rows]

    def passes(self, rows: IntArray, *, passes: int, of: int) -> Iterator[Callable[[], torch.Tensor]]:
        """Yield losses that sum to the share of `rows` in the loss of a step of `of` rows."""
        for part in in_passes(rows, passes):
            yield partial(self._loss, part, of)

    def _loss(self, part: IntArray, of: int) -> torch.Tensor:
        states = self._encoder.word_states([self._rows[row] for row in part])
        logits = self._head(torch.nn.functional.dropout(states, self._dropout)).float()
        truth = torch.tensor(np.concatenate([self._tags[row] for row in part]), device=logits.device)
        losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none", label_smoothing=self._smoothing)
        weights = np.concatenate([np.full(len(self._tags[row]), self._weights[row]) for row in part])
        return (losses * torch.tensor(weights, dtype=losses.dtype, device=losses.device)).sum() / of
