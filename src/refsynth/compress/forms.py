"""Smaller forms of a trained model: a table of recipes, how each form is cut from the model, and how it is distilled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from refsynth.compress.shape import drop_heads, keep_layers, narrow, spread
from refsynth.compress.vocabulary import common_tokens, lower_rank, merge_words, used_tokens
from refsynth.core.types import Example
from refsynth.learning.head import Link, targets_of
from refsynth.learning.tuning.distill import Transfer, distill
from refsynth.learning.tuning.objective import LOSSES
from refsynth.learning.tuning.tagging import tags_read
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.seeding import from_seed
from refsynth.models.tagger import TagPredictor
from refsynth.models.tokenizer import split_words

FULL = "full"
RANKING_ROWS = 256
"""Rows on which the importance of heads and feed-forward units is measured."""

BATCH = 32
"""Rows in a batch of those."""


class VariantRecipe(NamedTuple):
    """The shares that a form keeps of layers, feed-forward units, attention heads, vocabulary, and embedding dimensions."""

    layers: float = 1.0
    width: float = 1.0
    heads: float = 1.0
    words: float = 1.0
    rank: float = 1.0


RECIPES: Mapping[str, VariantRecipe] = {
    "full": VariantRecipe(),
    "half the heads": VariantRecipe(heads=1 / 2),
    "low rank": VariantRecipe(rank=1 / 2),
    "few words": VariantRecipe(words=1 / 10),
    "two thirds": VariantRecipe(2 / 3),
    "half": VariantRecipe(1 / 2),
    "half, narrow": VariantRecipe(1 / 2, 1 / 2),
    "half, few words": VariantRecipe(1 / 2, words=1 / 10),
    "half, narrow, few words": VariantRecipe(1 / 2, 1 / 2, words=1 / 10),
    "third": VariantRecipe(1 / 3),
    "third, few words": VariantRecipe(1 / 3, words=1 / 10),
}
"""The forms by name; "half the heads" keeps half over all layers together, not half of each."""

TRANSFER = Transfer(steps=100)
"""More than 100 steps on a few dozen texts gain little, and every fold pays for them."""

GENTLE = Transfer(steps=40, rate=1e-4)
"""For a form that keeps all layers: it has less to learn, and forgets more than it gains at the usual learning rate."""


Shrinkable = EncoderPredictor | TagPredictor


class Teacher(NamedTuple):
    """A trained predictor on a transformer, and its training rows, from which its smaller forms learn too.

    `link` maps its logits of texts to probabilities.
    """

    predictor: Shrinkable
    encoder: TransformerEncoder
    rows: Sequence[Example]
    link: Link = "softmax"


def can_shrink(teacher: Teacher) -> bool:
    """Return whether the recipes apply to this encoder: the BERT family, without learned prompts."""
    return hasattr(teacher.encoder.transformer, "encoder") and hasattr(teacher.encoder.transformer, "embeddings")


def cut(teacher: Teacher, name: str, texts: Sequence[str]) -> tuple[Shrinkable, tuple[int, ...]]:
    """Return an untrained form, and the layers of the teacher that it keeps.

    Args:
        teacher: the model that it is cut from.
        name: the name of the form.
        texts: texts whose words it keeps in any case.
    """
    if name == FULL:
        return teacher.predictor, ()
    recipe, config = RECIPES[name], teacher.encoder.transformer.config
    depth = int(config.num_hidden_layers)
    kept = spread(max(1, round(recipe.layers * depth)), depth)
    encoder = teacher.encoder
    if recipe.heads < 1:
        encoder = drop_heads(encoder, max(depth, round(recipe.heads * depth * config.num_attention_heads)), _losses(teacher))
    if recipe.width < 1:
        encoder = narrow(encoder, round(recipe.width * config.intermediate_size), _losses(teacher))
    if recipe.rank < 1:
        encoder = lower_rank(encoder, round(recipe.rank * encoder.dimension), used_tokens(encoder, texts))
    if recipe.words < 1:
        encoder = merge_words(encoder, used_tokens(encoder, texts) | common_tokens(encoder, texts, recipe.words))
    predictor = teacher.predictor
    return type(predictor)(predictor.labels, keep_layers(encoder, kept), predictor.head), kept


@from_seed
def shrink(teacher: Teacher, name: str, texts: Sequence[str], *, seed: int) -> Shrinkable:
    """Return a form distilled from the teacher on the texts; the full form is the teacher itself.

    A form that lacks only words that no text has is not trained, since it equals the teacher on all texts.
    """
    recipe = RECIPES[name]
    student, kept = cut(teacher, name, texts)
    if recipe._replace(words=1.0) == RECIPES[FULL]:
        return student
    assert isinstance(student.encoder, TransformerEncoder)
    transfer = GENTLE if recipe.layers == 1 else TRANSFER
    return distill([teacher.predictor], student.encoder, texts, matched=kept, seed=seed, transfer=transfer, link=teacher.link)


def _losses(teacher: Teacher) -> Callable[[TransformerEncoder], Iterable[torch.Tensor]]:
    """Return a function that yields the cross-entropy of an encoder under the teacher's head, batch by batch of some rows."""
    rows = teacher.rows[:: max(1, len(teacher.rows) // RANKING_ROWS)]
    of_batch = _loss_of_texts
    if isinstance(teacher.predictor, TagPredictor):
        rows = [row for row in rows if split_words(row.text)]  # the others have no labels to predict
        of_batch = _loss_of_words
    head = teacher.predictor.head
    weights, bias = (torch.tensor(part, dtype=torch.float32) for part in (head.weights, head.bias))

    def read(features: torch.Tensor) -> torch.Tensor:
        return features @ weights.to(features) + bias.to(features)

    def losses(encoder: TransformerEncoder) -> Iterator[torch.Tensor]:
        for start in range(0, len(rows), BATCH):
            yield of_batch(teacher, encoder, rows[start : start + BATCH], read)

    return losses


Read = Callable[[torch.Tensor], torch.Tensor]


def _loss_of_texts(teacher: Teacher, encoder: TransformerEncoder, rows: Sequence[Example], read: Read) -> torch.Tensor:
    logits = read(encoder.embed(encoder.tokenize([row.text for row in rows])))
    truth = torch.tensor(targets_of(rows, teacher.predictor.labels, link=teacher.link)).to(logits)
    return LOSSES[teacher.link](logits, truth).mean()


def _loss_of_words(teacher: Teacher, encoder: TransformerEncoder, rows: Sequence[Example], read: Read) -> torch.Tensor:
    words = encoder.words([row.text for row in rows])
    truth = torch.tensor(np.concatenate(tags_read(rows, words, teacher.predictor.labels)), device=encoder.device)
    return torch.nn.functional.cross_entropy(read(encoder.word_states(words)), truth)
