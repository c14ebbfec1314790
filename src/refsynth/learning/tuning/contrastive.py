"""Contrastive fine-tuning of an encoder on few labeled texts, then a logistic head on its embeddings.

This is the recipe of SetFit (Tunstall et al., 2022) with the supervised contrastive loss (Khosla et al., 2020, eq. 2) in place of
pairs: one pass over a batch of texts of several classes yields all of its pairs. The description of each label is one more text
of its class, because the encoder knows the meaning of its words from pretraining, which a handful of examples cannot teach.

Three omissions save three quarters of the time: no dropout (random numbers are a quarter of a step), no tokens beyond 64 (the
head reads texts at full length), and few steps: 40 are enough for few classes, `STEPS_PER_CLASS` for each of many. Measured on
training rows of four sets, 8 per class, two seeds: 60 steps with dropout change the accuracy by -7.8 points
(financial_phrasebank), -0.3 (ag_news), +0.2 (snips) and +0.9 (bitext, 27 classes; 100 steps without dropout: +1.2). On four other
sets, no other number of steps, anchors or learning rate differed measurably (design/022-constants.md).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from refsynth.core.types import Example, IntArray
from refsynth.learning.head import classes_of, fit_head_to
from refsynth.learning.tuning.schedule import Tuner
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.seeding import from_seed

TEMPERATURE = 0.1

ANCHORS = 2
"""How many times each label's description is among the rows."""

REMEMBERED = 8
"""The number of tuned encoders that are kept, the latest ones: of the folds and of all rows. One takes 90 MB."""

LEAST_STEPS, MOST_STEPS = 40, 120
STEPS_PER_CLASS = 3
"""A batch holds few classes, so more classes need more steps."""

TUNING_TOKENS = 64
"""Tokens of a text that the encoder is tuned on."""


def contrastive_loss(embeddings: torch.Tensor, classes: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return the supervised contrastive loss, L_out of Khosla et al. (2020), eq. 2.

    Args:
        embeddings: unit-length rows [N, D].
        classes: class of each row [N]; a row without another of its class does not count.
        temperature: divisor of the similarities.
    """
    similarity = embeddings @ embeddings.T / temperature
    same = classes[:, None] == classes[None, :]
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    log_share = similarity - torch.logsumexp(similarity.masked_fill(itself, -torch.inf), dim=1, keepdim=True)
    positive = same & ~itself
    count = positive.sum(1)
    per_row = -(log_share * positive).sum(1) / count.clamp(min=1)
    return per_row[count > 0].mean()


def balanced_batches(classes: IntArray, *, size: int, steps: int, seed: int) -> Iterator[IntArray]:
    """Yield `steps` batches of row numbers with about as many rows of each class in a batch.

    A batch holds at least 2 rows of each of its classes; if there are more classes than fit, they alternate.
    """
    rng = np.random.default_rng(seed)
    present = np.unique(classes)
    rows = {int(c): np.flatnonzero(classes == c) for c in present}
    queues: dict[int, list[int]] = {int(c): [] for c in present}
    class_queue: list[int] = []
    per_batch = min(len(present), max(2, size // 4)) if len(present) > 1 else 1
    for _ in range(steps):
        while len(class_queue) < per_batch:
            class_queue.extend(int(c) for c in rng.permutation(present))
        chosen, class_queue = list(dict.fromkeys(class_queue[:per_batch])), class_queue[per_batch:]
        per_class = max(2, size // len(chosen))
        batch: list[int] = []
        for c in chosen:
            take = min(per_class, max(2, len(rows[c])))
            while len(queues[c]) < take:
                queues[c].extend(int(row) for row in rng.permutation(rows[c]))
            batch.extend(queues[c][:take])
            del queues[c][:take]
        yield np.array(batch)


class ContrastiveLearner:
    """Fine-tunes a copy of the encoder on the real rows and fits the head to all rows, drafts included.

    Drafts do not tune the encoder: on three data sets tuning on them was no better than the head alone, at twice the cost. If
    there are too few real rows to form pairs, all rows tune the encoder.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        encoder: TransformerEncoder,
        descriptions: Mapping[str, str],
        *,
        steps: int | None = None,
        batch: int = 32,
        rate: float = 1e-4,
    ) -> None:
        """Take the encoder to start from, which is not changed. By default `steps` depends on the number of labels."""
        self._labels, self._encoder = labels, encoder
        self._anchors = [Example(f"label-{label}", descriptions[label], label) for label in labels] * ANCHORS
        self._steps = steps or min(MOST_STEPS, max(LEAST_STEPS, STEPS_PER_CLASS * len(labels)))
        self._batch, self._rate = batch, rate
        self._tuned: dict[object, TransformerEncoder] = {}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples; `dev` has no effect."""
        rows = [*(example for example in train if not example.id.startswith("label-")), *self._anchors]
        real = [example for example in rows if example.provenance is None]
        enough = len(real) > len(self._anchors) and len({example.label for example in real}) > 1
        encoder = self._tune(real if enough else rows, seed=seed)
        features = encoder.encode([example.text for example in rows])
        return EncoderPredictor(self._labels, encoder, fit_head_to(features, rows, self._labels))

    @from_seed
    def _tune(self, rows: Sequence[Example], *, seed: int) -> TransformerEncoder:
        """Return the encoder tuned on the rows. The latest are kept: a run tunes one for each fold, in each round of drafts."""
        if len(rows) == len(self._anchors):
            return self._encoder
        key = (seed, tuple(rows))
        if key not in self._tuned:
            encoder = copy.deepcopy(self._encoder)
            encoder.transformer.embeddings.requires_grad_(False)  # few rows have few of its words
            tokens = encoder.tokenize([example.text for example in rows], limit=TUNING_TOKENS)
            self._descend(encoder, tokens, classes_of(rows, self._labels), seed=seed)
            while len(self._tuned) >= REMEMBERED:
                del self._tuned[next(iter(self._tuned))]
            self._tuned[key] = encoder
        return self._tuned[key]

    def _descend(self, encoder: TransformerEncoder, rows: Sequence[Sequence[int]], classes: IntArray, *, seed: int) -> None:
        encoder.eval()  # no dropout
        tuner = Tuner([encoder], rate=self._rate, steps=self._steps)

        def loss(batch: IntArray) -> torch.Tensor:
            embeddings = encoder.embed([rows[index] for index in batch])
            return contrastive_loss(embeddings.float(), torch.tensor(classes[batch], device=encoder.device))

        for batch in balanced_batches(classes, size=self._batch, steps=self._steps, seed=seed):
            tuner.step(partial(loss, batch))
