"""Distillation: a smaller encoder learns to say what teachers say, and to see what the first of them sees on the way there.

Needs no labels: any text of the task's kind teaches. Three losses are added, as in TinyBERT (Jiao et al., 2020) and MiniLM (Wang
et al., 2020): soft answers at a temperature (Hinton et al., 2015), hidden states of matched layers (mean squared error) and
attention of matched layers (divergence). A student as deep as its teacher is self-distillation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from refsynth.core.errors import InputError
from refsynth.core.protocols import Predictor
from refsynth.learning.head import Link
from refsynth.learning.tuning.schedule import Tuner
from refsynth.models.device import array_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.seeding import from_seed
from refsynth.models.tagger import TagPredictor
from refsynth.models.tokenizer import length_batches

Taught = TypeVar("Taught", bound=EncoderPredictor | TagPredictor)

TOKENS_PER_STEP = 768
TUNING_TOKENS = 64
"""The longest text that is learnt from; the student reads texts at full length."""


class Transfer(NamedTuple):
    """How a student learns: softmax temperature, what the losses of states and attention weigh beside that of answers, steps."""

    temperature: float = 2.0
    hidden: float = 1.0
    attention: float = 1.0
    steps: int = 300
    rate: float = 3e-4


def soft_loss(said: torch.Tensor, taught: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return T^2 KL(teacher || student) in nats, the mean over the first dimension (Hinton et al., 2015, section 2).

    Args:
        said: the student's logits [N, K]; of labels that are each a question of its own [N, K, 2], whose divergences are added.
        taught: the teacher's probabilities at the temperature, in the same shape.
        temperature: T.
    """
    log_shares = torch.log_softmax(said / temperature, dim=-1)
    return temperature**2 * torch.nn.functional.kl_div(log_shares, taught, reduction="batchmean")


@from_seed
def distill(
    teachers: Sequence[Taught],
    student: TransformerEncoder,
    texts: Sequence[str],
    *,
    matched: Sequence[int],
    seed: int,
    transfer: Transfer,
    answered_by: Predictor | None = None,
    link: Link = "softmax",
) -> Taught:
    """Train the student in place and return it with a head, which starts as that of the first teacher.

    Args:
        teachers: predictors with a transformer; their probabilities are averaged.
        student: a smaller encoder of the first teacher's width and tokenizer.
        texts: to learn from.
        matched: for each layer of the student, the layer of the first teacher, counted from 0, that it is to resemble.
        seed: of the order of texts.
        transfer: temperature, weights, steps.
        answered_by: whose answers are learnt, if not those of the teachers.
        link: how the teachers' logits of texts become probabilities; tags of words compete.

    Raises:
        InputError: there is no text, or `matched` does not fit the layers.
    """
    layers = student.transformer.config.num_hidden_layers
    if not texts or len(matched) != layers:
        raise InputError(f"{len(texts)} texts, {len(matched)} matched layers", expected=f"texts, and {layers} layers")
    first, head = _encoder_of(teachers[0]).eval(), _torch_head(teachers[0].head).to(student.device)
    answering: Sequence[Predictor] = teachers if answered_by is None else [answered_by]
    lessons: _Lessons = (
        _Words(student, texts, answering, temperature=transfer.temperature)
        if isinstance(teachers[0], TagPredictor)
        else _Texts(student, texts, answering, temperature=transfer.temperature, link=link)
    )
    student.eval().requires_grad_(True)  # no dropout: a student of few steps has nothing to forget
    student.transformer.embeddings.requires_grad_(False)  # the teacher's own, already
    tuner = Tuner([student, head], rate=transfer.rate, steps=transfer.steps)
    deep = bool(transfer.hidden or transfer.attention)

    def loss(batch: Sequence[int]) -> torch.Tensor:
        mine = _look(student, lessons, batch, deep=deep)
        value = soft_loss(lessons.said(head(mine.features).float()), lessons.taught(batch), temperature=transfer.temperature)
        if not deep:
            return value
        with torch.inference_mode():
            seen = _look(first, lessons, batch, deep=True)
        if transfer.hidden:
            value = value + transfer.hidden * _state_loss(mine, seen, matched)
        if transfer.attention:
            value = value + transfer.attention * _attention_loss(mine, seen, matched)
        return value

    for batch in _batches(lessons.rows, steps=transfer.steps, seed=seed):
        tuner.step(partial(loss, batch))
    student.requires_grad_(False)
    weights, bias = array_of(head.weight).T.astype(float), array_of(head.bias).astype(float)
    return type(teachers[0])(teachers[0].labels, student, LinearHead(weights, bias))


class _Lessons(Protocol):
    """Texts as token ids, and what the teachers say of each: shares at the temperature."""

    @property
    def rows(self) -> Sequence[Sequence[int]]:
        """Token ids of each text."""
        ...

    def features(self, encoder: TransformerEncoder, states: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        """Return what the head reads [M, D] of the states [N, T, D] of some rows."""
        ...

    def said(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits as the shares are laid out."""
        ...

    def taught(self, batch: Sequence[int]) -> torch.Tensor:
        """Return the shares of some rows."""
        ...


class _Texts:
    """Whole texts: shares of the labels [N, K], or of no and yes for each label [N, K, 2]."""

    def __init__(
        self, student: TransformerEncoder, texts: Sequence[str], teachers: Sequence[Predictor], *, temperature: float, link: Link
    ) -> None:
        self.rows: Sequence[Sequence[int]] = student.tokenize(texts, limit=TUNING_TOKENS)
        self._link = link
        answers = [self.said(torch.from_numpy(np.asarray(one.logits(texts), np.float32))) for one in teachers]
        shares = torch.stack([torch.softmax(logits / temperature, dim=-1) for logits in answers]).mean(0)
        self._shares = shares.to(student.device)

    def features(self, encoder: TransformerEncoder, states: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        _, mask = encoder.padded([self.rows[index] for index in batch])
        return encoder.pool(states, mask)

    def said(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self._link == "softmax" else torch.stack([torch.zeros_like(logits), logits], dim=-1)

    def taught(self, batch: Sequence[int]) -> torch.Tensor:
        return self._shares[torch.tensor(batch)]


class _Words:
    """The words of texts that have any: shares of the tags, word after word [M, C]."""

    def __init__(
        self, student: TransformerEncoder, texts: Sequence[str], teachers: Sequence[Predictor], *, temperature: float
    ) -> None:
        read = student.words(texts, limit=TUNING_TOKENS)
        texts = [text for text, row in zip(texts, read, strict=True) if row.words]
        if not texts:
            raise InputError("texts without words", expected="texts to learn from")
        self._pieces = [row for row in read if row.words]
        self.rows: Sequence[Sequence[int]] = [row.ids for row in self._pieces]
        answers = [teacher.logits(texts) for teacher in teachers]

        def shares(text: int, words: Sequence[int]) -> torch.Tensor:
            logits = torch.from_numpy(np.stack([said[text][words] for said in answers]).astype(np.float32))
            return torch.softmax(logits / temperature, dim=-1).mean(0).to(student.device)

        self._shares = [shares(text, row.words) for text, row in enumerate(self._pieces)]

    def features(self, encoder: TransformerEncoder, states: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        return encoder.pool_words(states, [self._pieces[index] for index in batch])

    def said(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def taught(self, batch: Sequence[int]) -> torch.Tensor:
        return torch.cat([self._shares[index] for index in batch])


class _View(NamedTuple):
    """What an encoder makes of a batch: what the head reads [M, D], states after each layer [N, T, D], attention [N, H, T, T]."""

    features: torch.Tensor
    states: Sequence[torch.Tensor]
    attention: Sequence[torch.Tensor]
    mask: torch.Tensor


def _look(encoder: TransformerEncoder, lessons: _Lessons, batch: Sequence[int], *, deep: bool) -> _View:
    ids, mask = encoder.padded([lessons.rows[index] for index in batch])
    out = encoder.transformer(input_ids=ids, attention_mask=mask, output_hidden_states=deep, output_attentions=deep)
    features = lessons.features(encoder, out.last_hidden_state, batch)
    return _View(features, (out.hidden_states or ())[1:], out.attentions or (), mask)


def _state_loss(mine: _View, seen: _View, matched: Sequence[int]) -> torch.Tensor:
    """Return the mean squared error of hidden states, over matched layers, tokens and dimensions."""
    token = mine.mask.unsqueeze(-1).float()
    each = [
        (token * (own.float() - seen.states[layer].float()) ** 2).sum() / (token.sum() * own.shape[-1])
        for own, layer in zip(mine.states, matched, strict=True)
    ]
    return torch.stack(each).mean()


def _attention_loss(mine: _View, seen: _View, matched: Sequence[int]) -> torch.Tensor:
    """Return KL(teacher || student) of where tokens attend, in nats: the mean over matched layers, heads and tokens."""
    token = mine.mask[:, None, :].float()
    each = []
    for own, layer in zip(mine.attention, matched, strict=True):
        taught = seen.attention[layer].float().clamp(min=1e-9)
        apart = (taught * (taught.log() - own.float().clamp(min=1e-9).log())).sum(-1)
        each.append((token * apart).sum() / (token.sum() * own.shape[1]))
    return torch.stack(each).mean()


def _batches(rows: Sequence[Sequence[int]], *, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield so many batches of texts of like length; each round through all texts deals and orders them anew."""
    rng = np.random.default_rng(seed)
    while steps > 0:
        order = [int(place) for place in rng.permutation(len(rows))]
        batches = list(length_batches([rows[place] for place in order], tokens=TOKENS_PER_STEP))
        for number in rng.permutation(len(batches))[:steps]:
            yield [order[place] for place in batches[number]]
        steps -= len(batches)


def _encoder_of(teacher: EncoderPredictor | TagPredictor) -> TransformerEncoder:
    if not isinstance(teacher.encoder, TransformerEncoder):
        raise InputError(f"a teacher on a {type(teacher.encoder).__name__}", expected="one on a transformer")
    return copy.deepcopy(teacher.encoder)


def _torch_head(head: LinearHead) -> Any:
    linear = torch.nn.Linear(*head.weights.shape)
    linear.weight.data.copy_(torch.from_numpy(np.asarray(head.weights.T, np.float32)))
    linear.bias.data.copy_(torch.from_numpy(np.asarray(head.bias, np.float32)))
    return linear
