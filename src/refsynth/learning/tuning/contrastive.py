"""Contrastive fine-tuning of an encoder from few labelled texts, then a logistic head on its embeddings.

The recipe of SetFit (Tunstall et al., 2022) with the supervised contrastive loss (Khosla et al., 2020, eq. 2) in place of pairs:
a batch of a few texts of several classes yields all its pairs from one pass. What each label means, in plain words, is one more
text of its class: the encoder knows from pretraining what those words are about, which a handful of examples cannot tell.

What the recipe leaves out takes three quarters of the time: dropout (random numbers are a quarter of a step), texts beyond 64
tokens (the head reads them at full length), and steps: 40 do for few classes, `STEPS_PER_CLASS` for each of many. On training
rows of four sets as a test, 8 per class, two seeds, 60 steps with dropout come to -7.8 points (financial_phrasebank), -0.3
(ag_news), +0.2 (snips) and +0.9 (bitext, 27 classes, where 100 steps without dropout come to +1.2). On four sets that no table
is about, no other number of steps, anchors or rate could be told from these (design/022-constants.md).
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
"""How often each label's description is among the rows."""

REMEMBERED = 8
"""Tuned encoders that are kept, the latest: of each fold and of the whole. One takes 90 MB."""

LEAST_STEPS, MOST_STEPS = 40, 120
STEPS_PER_CLASS = 3
"""A batch holds a few classes; with many, each must have its turns."""

TUNING_TOKENS = 64
"""The longest text that the encoder is tuned on."""


def contrastive_loss(embeddings: torch.Tensor, classes: torch.Tensor, *, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return the supervised contrastive loss, L_out of Khosla et al. (2020), eq. 2.

    Args:
        embeddings: unit-length rows [N, D].
        classes: of the rows [N]; a row without another of its class does not count.
        temperature: divides the similarities.
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
    """Yield `steps` batches of row indices with equally many rows of each class in them, as far as the size allows.

    A batch holds at least 2 rows of each class that it holds; with more classes than fit, they take turns.
    """
    rng = np.random.default_rng(seed)
    present = np.unique(classes)
    rows = {int(c): np.flatnonzero(classes == c) for c in present}
    queues: dict[int, list[int]] = {int(c): [] for c in present}
    turn: list[int] = []
    for _ in range(steps):
        wanted = min(len(present), max(2, size // 4)) if len(present) > 1 else 1
        while len(turn) < wanted:
            turn.extend(int(c) for c in rng.permutation(present))
        chosen, turn = list(dict.fromkeys(turn[:wanted])), turn[wanted:]
        each = max(2, size // len(chosen))
        batch: list[int] = []
        for c in chosen:
            take = min(each, max(2, len(rows[c])))
            while len(queues[c]) < take:
                queues[c].extend(int(row) for row in rng.permutation(rows[c]))
            batch.extend(queues[c][:take])
            del queues[c][:take]
        yield np.array(batch)


class ContrastiveLearner:
    """Fine-tunes a copy of the encoder on the real rows and fits the head to all rows, drafts included.

    Drafts do not tune the encoder: in trials on three data sets a round of tuning on them was no better than the head alone, at
    twice the cost. Where there are too few real rows to form pairs, the encoder is tuned on all there is.
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
        """Take the encoder to start from, which stays as it is; `steps` follow from the number of labels if left out."""
        self._labels, self._encoder = labels, encoder
        self._anchors = [Example(f"label-{label}", descriptions[label], label) for label in labels] * ANCHORS
        self._steps = steps or min(MOST_STEPS, max(LEAST_STEPS, STEPS_PER_CLASS * len(labels)))
        self._batch, self._rate = batch, rate
        self._tuned: dict[object, TransformerEncoder] = {}

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples; `dev` has no effect."""
        del dev
        rows = [*(example for example in train if not example.id.startswith("label-")), *self._anchors]
        real = [example for example in rows if example.provenance is None]
        enough = len(real) > len(self._anchors) and len({example.label for example in real}) > 1
        encoder = self._tune(real if enough else rows, seed=seed)
        features = encoder.encode([example.text for example in rows])
        return EncoderPredictor(self._labels, encoder, fit_head_to(features, rows, self._labels))

    @from_seed
    def _tune(self, rows: Sequence[Example], *, seed: int) -> TransformerEncoder:
        """Return the encoder tuned on the rows; asked again for the same rows and seed, the one that is there.

        A run asks for as many as it has folds, and again in each round of drafts.
        """
        if len(rows) == len(self._anchors):
            return self._encoder
        key = (seed, tuple(rows))
        if key not in self._tuned:
            encoder = copy.deepcopy(self._encoder)
            encoder.transformer.embeddings.requires_grad_(False)  # few rows meet few of its words
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
