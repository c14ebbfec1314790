"""A static student: votes of single tokens, started from the teacher's own view of each token and taught on texts.

The table of token embeddings is model2vec's (each token alone through the teacher, PCA, weights by rank); it and a linear head
are then trained on the teacher's probabilities. Table times head is all that is kept: V x K votes. Word pairs as further features
were tried and left out, see design/009-static-and-cascade.md. Knows nothing of bundles.
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
"""Standard deviation that the table starts with; that of model2vec differs by encoder."""
EPOCHS = 15
LEAST_STEPS = 600
"""Where texts are few, they are passed over more often."""
BATCH = 64
RATE = 5e-3
DROPOUT = 0.2
MIXTURES, ENOUGH, ALONE = 4, 5000, 0.6
"""How often a text is mixed with another, how many texts need no mixtures, and the share of the steps, the last, without them
(design/009-static-and-cascade.md)."""


def token_table(encoder: TransformerEncoder) -> FloatArray:
    """Return what the encoder makes of each of its tokens alone: [V, D]. Special and unused tokens have zeros.

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
    logging.getLogger("skeletoken").setLevel(logging.ERROR)  # it warns of what BERT's own tokenizers have
    # The library resizes the model that it is given, and shows its progress.
    with redirect_stderr(io.StringIO()):
        return distill.distill_from_model(
            copy.deepcopy(encoder.transformer).cpu(), encoder.tokenizer, device="cpu", pca_dims=width, quantize_to="float32"
        )


def table_of(made: Any, encoder: TransformerEncoder) -> FloatArray:
    """Return the table of a static model by the ids of the encoder's own tokens [V, D]."""
    places, table = made.tokenizer.get_vocab(), np.asarray(made.embedding, np.float32)
    tokens = encoder.tokenizer.get_vocab()
    out = np.zeros((max(tokens.values()) + 1, table.shape[1]), np.float32)
    for token, place in tokens.items():
        if token in places:
            out[place] = table[places[token]]
    return out * (SPREAD / max(float(table.std()), 1e-9))


def lessons(texts: Sequence[str], *, seed: int) -> list[str]:
    """Return the N texts, and mixtures of them where they are few: a piece of one before a piece of another.

    A teacher answers whatever it is asked, so its students need not stop at the texts at hand (Tang et al., 2019). Each text is
    mixed at most `MIXTURES` times, until there are `ENOUGH` in all; a piece is a quarter to three quarters of the words.
    """
    found = list(texts)
    if len(found) >= ENOUGH:
        return found
    rng, words = np.random.default_rng(seed), [words_of(text) for text in texts]
    readable = [place for place, each in enumerate(words) if each]
    for _ in range(MIXTURES):
        for first, second in zip(readable, rng.permutation(readable), strict=True):
            if len(found) >= ENOUGH:
                return found
            found.append(" ".join(_piece(texts[place], words[place], rng) for place in (first, second)))
    return found


def _piece(text: str, words: Sequence[Word], rng: np.random.Generator) -> str:
    size = max(1, int(len(words) * rng.uniform(1 / 4, 3 / 4)))
    start = int(rng.integers(len(words) - size + 1))
    return text[words[start].start : words[start + size - 1].end]


@from_seed
def fit_static(
    table: FloatArray, rows: Sequence[Sequence[int]], targets: FloatArray, *, texts: int, seed: int, several: bool = False
) -> LinearHead:
    """Return votes [V, K] and bias [K] that were taught by cross-entropy.

    Tokens that no row has keep their place in the table: what they vote for is what the head makes of their neighbours.

    Args:
        table: where each token starts [V, D].
        rows: token ids of the N lessons, at least one each, without special tokens.
        targets: what the teacher says of the lessons, probabilities [N, K].
        texts: how many of the lessons, the first, are texts and not mixtures.
        seed: of the order and the dropout.
        several: whether each label is a question of its own.
    """
    seen = np.unique(np.fromiter(chain.from_iterable(rows), np.intp))
    place = np.zeros(len(table), np.intp)
    place[seen] = np.arange(len(seen))
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(np.asarray(table, np.float32)[seen]), freeze=False, mode="mean")
    head = torch.nn.Linear(table.shape[1], targets.shape[1])
    optimiser = torch.optim.Adam([{"params": bag.parameters(), "lr": RATE}, {"params": head.parameters(), "lr": 2 * RATE}])
    steps = max(EPOCHS, LEAST_STEPS * BATCH // len(rows)) * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    wanted = torch.from_numpy(np.asarray(targets, np.float32))
    for chosen in _batches(len(rows), texts, steps, seed):
        lengths = np.array([len(rows[i]) for i in chosen])
        tokens = place[np.fromiter(chain.from_iterable(rows[i] for i in chosen), np.intp)]
        features = bag(torch.from_numpy(tokens), torch.from_numpy(np.cumsum(lengths) - lengths))
        logits = head(torch.nn.functional.dropout(features, DROPOUT))
        loss = _cross_entropy(logits, wanted[chosen], several=several)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    tuned = np.array(table, np.float32)
    tuned[seen] = bag.weight.detach().numpy()
    return LinearHead(tuned @ head.weight.detach().numpy().T, head.bias.detach().numpy())


def _batches(lessons: int, texts: int, steps: int, seed: int) -> Iterator[IntArray]:
    """Yield places of lessons for so many steps, pass by pass; passes that begin in the last of them are of texts alone."""
    rng, done = np.random.default_rng(seed), 0
    while done < steps:
        order = rng.permutation(lessons if done < (1 - ALONE) * steps else texts)
        for start in range(0, len(order), BATCH)[: steps - done]:
            yield order[start : start + BATCH]
            done += 1


def _cross_entropy(logits: torch.Tensor, wanted: torch.Tensor, *, several: bool) -> torch.Tensor:
    """Return the mean over texts of -sum_k t_k log p_k, or of each label's by itself."""
    if not several:
        return torch.nn.functional.cross_entropy(logits, wanted)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()
