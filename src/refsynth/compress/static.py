"""Fits a static student: votes of single tokens, initialized from the teacher and trained on its probabilities.

The table of token embeddings is model2vec's (each token alone through the teacher, PCA, weights by rank); it and a linear head
are then trained on the teacher's probabilities. Only the product of table and head is kept: V x K votes. Word pairs as further
features were tried and rejected, see design/009-static-and-cascade.md. Knows nothing of bundles.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from itertools import chain
from typing import Any

import numpy as np
import torch

from refsynth.core.extras import require
from refsynth.core.types import FloatArray, IntArray
from refsynth.core.words import Word, words_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.seeding import from_seed

DIMENSIONS = 256
SPREAD = 0.3
"""The initial standard deviation of the table; that of model2vec differs by encoder."""
EPOCHS = 15
LEAST_STEPS = 600
"""The smallest number of steps: few texts are repeated in more epochs."""
BATCH = 64
LEARNING_RATE = 5e-3
DROPOUT = 0.2
MIXTURES, ENOUGH, ALONE = 4, 5000, 0.6
"""How often a text is mixed with another, how many texts need no mixtures, and the share of the last steps without mixtures
(design/009-static-and-cascade.md)."""


def token_table(encoder: TransformerEncoder) -> FloatArray:
    """Return model2vec's embedding of each token of the encoder [V, D]; zeros for special and unused tokens.

    Raises:
        MissingError: model2vec is not installed.
    """
    return table_of(distilled(encoder), encoder)


def distilled(encoder: TransformerEncoder) -> Any:
    """Return the static model that model2vec makes of an encoder.

    Raises:
        MissingError: model2vec is not installed.
    """
    distill = require("model2vec.distill", extra="train")
    width = min(DIMENSIONS, encoder.dimension)
    logging.getLogger("skeletoken").setLevel(logging.ERROR)  # it warns even about BERT's own tokenizers
    # The library resizes the model that it gets, and prints its progress.
    with redirect_stderr(io.StringIO()):
        return distill.distill_from_model(
            copy.deepcopy(encoder.transformer).cpu(), encoder.tokenizer, device="cpu", pca_dims=width, quantize_to="float32"
        )


def table_of(model: Any, encoder: TransformerEncoder) -> FloatArray:
    """Return the table of a static model, ordered by the token ids of the encoder [V, D]."""
    places, table = model.tokenizer.get_vocab(), np.asarray(model.embedding, np.float32)
    tokens = encoder.tokenizer.get_vocab()
    out = np.zeros((max(tokens.values()) + 1, table.shape[1]), np.float32)
    for token, place in tokens.items():
        if token in places:
            out[place] = table[places[token]]
    return out * (SPREAD / max(float(table.std()), 1e-9))


def with_mixtures(texts: Sequence[str], *, seed: int) -> list[str]:
    """Return the N texts, followed by mixtures of them if they are few: a part of one text, then a part of another.

    A teacher can label any text, so its student can learn from more than the available ones (Tang et al., 2019). Each text is
    mixed at most `MIXTURES` times, until there are `ENOUGH` in all; a part is a quarter to three quarters of the words.
    """
    mixed = list(texts)
    if len(mixed) >= ENOUGH:
        return mixed
    rng, words = np.random.default_rng(seed), [words_of(text) for text in texts]
    readable = [place for place, each in enumerate(words) if each]
    for _ in range(MIXTURES):
        for first, second in zip(readable, rng.permutation(readable), strict=True):
            if len(mixed) >= ENOUGH:
                return mixed
            mixed.append(" ".join(_part(texts[place], words[place], rng) for place in (first, second)))
    return mixed


def _part(text: str, words: Sequence[Word], rng: np.random.Generator) -> str:
    size = max(1, int(len(words) * rng.uniform(1 / 4, 3 / 4)))
    start = int(rng.integers(len(words) - size + 1))
    return text[words[start].start : words[start + size - 1].end]


@from_seed
def fit_static(
    table: FloatArray, rows: Sequence[Sequence[int]], targets: FloatArray, *, texts: int, seed: int, several: bool = False
) -> LinearHead:
    """Return votes [V, K] and bias [K], trained by cross-entropy.

    Tokens that no row has keep their initial embedding, so they vote like their neighbors.

    Args:
        table: the initial embedding of each token [V, D].
        rows: the token ids of N texts and mixtures, at least one each, without special tokens.
        targets: the teacher's probabilities [N, K].
        texts: how many of the rows, the first ones, are texts and not mixtures.
        seed: the seed of the order and the dropout.
        several: whether a text may have any number of labels.
    """
    seen = np.unique(np.fromiter(chain.from_iterable(rows), np.intp))
    place = np.zeros(len(table), np.intp)
    place[seen] = np.arange(len(seen))
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(np.asarray(table, np.float32)[seen]), freeze=False, mode="mean")
    head = torch.nn.Linear(table.shape[1], targets.shape[1])
    groups = [{"params": bag.parameters(), "lr": LEARNING_RATE}, {"params": head.parameters(), "lr": 2 * LEARNING_RATE}]
    optimizer = torch.optim.Adam(groups)
    steps = max(EPOCHS, LEAST_STEPS * BATCH // len(rows)) * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    truth = torch.from_numpy(np.asarray(targets, np.float32))
    for chosen in _batches(len(rows), texts, steps, seed):
        lengths = np.array([len(rows[i]) for i in chosen])
        tokens = place[np.fromiter(chain.from_iterable(rows[i] for i in chosen), np.intp)]
        features = bag(torch.from_numpy(tokens), torch.from_numpy(np.cumsum(lengths) - lengths))
        logits = head(torch.nn.functional.dropout(features, DROPOUT))
        loss = _cross_entropy(logits, truth[chosen], several=several)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    tuned = np.array(table, np.float32)
    tuned[seen] = bag.weight.detach().numpy()
    return LinearHead(tuned @ head.weight.detach().numpy().T, head.bias.detach().numpy())


def _batches(rows: int, texts: int, steps: int, seed: int) -> Iterator[IntArray]:
    """Yield the places of rows for each step, epoch by epoch; epochs that begin in the last `ALONE` of the steps are of texts."""
    rng, done = np.random.default_rng(seed), 0
    while done < steps:
        order = rng.permutation(rows if done < (1 - ALONE) * steps else texts)
        for start in range(0, len(order), BATCH)[: steps - done]:
            yield order[start : start + BATCH]
            done += 1


def _cross_entropy(logits: torch.Tensor, truth: torch.Tensor, *, several: bool) -> torch.Tensor:
    """Return the mean over texts of -sum_k t_k log p_k, or of the sum of binary cross-entropies over labels."""
    if not several:
        return torch.nn.functional.cross_entropy(logits, truth)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1).mean()
