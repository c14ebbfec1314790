"""Distillation: a smaller encoder learns the predictions of its teachers, and the states and attention of the first one.

It needs no labels, only texts like those of the task. The loss is a sum of three, as in TinyBERT (Jiao et al., 2020) and MiniLM
(Wang et al., 2020): soft predictions at a temperature (Hinton et al., 2015), hidden states of matched layers (mean squared error)
and attention of matched layers (KL divergence). A student as deep as its teacher is self-distillation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

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
"""Tokens of a text that the student is trained on; it predicts texts at full length."""


class Transfer(NamedTuple):
    """How a student learns: softmax temperature, weights of the losses of states and attention, steps, learning rate.

    The loss of predictions has weight 1.
    """

    temperature: float = 2.0
    hidden: float = 1.0
    attention: float = 1.0
    steps: int = 300
    rate: float = 3e-4


def soft_loss(logits: torch.Tensor, targets: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return T^2 KL(teacher || student) in nats, the mean over the first dimension (Hinton et al., 2015, section 2).

    Args:
        logits: the student's logits [N, K]; for independent labels [N, K, 2], and the divergences of the labels are added.
        targets: the teacher's probabilities at the temperature, in the same shape.
        temperature: T.
    """
    log_shares = torch.log_softmax(logits / temperature, dim=-1)
    return temperature**2 * torch.nn.functional.kl_div(log_shares, targets, reduction="batchmean")


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
    """Train the student in place and return it with a head, which starts as a copy of the first teacher's head.

    Args:
        teachers: predictors with a transformer; their probabilities are averaged.
        student: a smaller encoder with the first teacher's width and tokenizer.
        texts: the texts to learn from.
        matched: for each layer of the student, the number of the first teacher's layer that it should resemble, from 0.
        seed: seed of the order of texts.
        transfer: temperature, weights, steps.
        answered_by: the predictor to learn from in place of the teachers' averaged predictions.
        link: how the teachers' logits for texts become probabilities; for tags it is always softmax.

    Raises:
        InputError: there is no text, or `matched` does not fit the layers.
    """
    layers = student.transformer.config.num_hidden_layers
    if not texts or len(matched) != layers:
        raise InputError(f"{len(texts)} texts, {len(matched)} matched layers", expected=f"texts, and {layers} layers")
    first, head = _encoder_of(teachers[0]).eval(), _torch_head(teachers[0].head).to(student.device)
    sources: Sequence[Predictor] = teachers if answered_by is None else [answered_by]
    targets = (
        _WordTargets(student, texts, sources, temperature=transfer.temperature)
        if isinstance(teachers[0], TagPredictor)
        else _TextTargets(student, texts, sources, temperature=transfer.temperature, link=link)
    )
    student.eval().requires_grad_(True)  # no dropout: few steps do not overfit
    student.transformer.embeddings.requires_grad_(False)  # they are the teacher's own
    tuner = Tuner([student, head], rate=transfer.rate, steps=transfer.steps)
    deep = bool(transfer.hidden or transfer.attention)

    def loss(batch: Sequence[int]) -> torch.Tensor:
        own = _forward(student, targets, batch, deep=deep)
        logits = targets.shaped(head(own.features).float())
        value = soft_loss(logits, targets.probabilities(batch), temperature=transfer.temperature)
        if not deep:
            return value
        with torch.inference_mode():
            teacher = _forward(first, targets, batch, deep=True)
        if transfer.hidden:
            value = value + transfer.hidden * _state_loss(own, teacher, matched)
        if transfer.attention:
            value = value + transfer.attention * _attention_loss(own, teacher, matched)
        return value

    for batch in _batches(targets.rows, steps=transfer.steps, seed=seed):
        tuner.step(partial(loss, batch))
    student.requires_grad_(False)
    weights, bias = array_of(head.weight).T.astype(float), array_of(head.bias).astype(float)
    return type(teachers[0])(teachers[0].labels, student, LinearHead(weights, bias))


class _TextTargets:
    """Texts as token ids `rows`, and the teachers' probabilities of the labels at the temperature.

    Their shape is [N, K], or [N, K, 2] for the no and yes of independent labels; `shaped` gives logits this shape. `features` are
    the head's input [M, D] from the states [N, T, D] of a batch.
    """

    def __init__(
        self, student: TransformerEncoder, texts: Sequence[str], teachers: Sequence[Predictor], *, temperature: float, link: Link
    ) -> None:
        self.rows: Sequence[Sequence[int]] = student.tokenize(texts, limit=TUNING_TOKENS)
        self._link = link
        logits = [self.shaped(torch.from_numpy(np.asarray(teacher.logits(texts), np.float32))) for teacher in teachers]
        shares = torch.stack([torch.softmax(one / temperature, dim=-1) for one in logits]).mean(0)
        self._shares = shares.to(student.device)

    def features(self, encoder: TransformerEncoder, states: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        _, mask = encoder.padded([self.rows[index] for index in batch])
        return encoder.pool(states, mask)

    def shaped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self._link == "softmax" else torch.stack([torch.zeros_like(logits), logits], dim=-1)

    def probabilities(self, batch: Sequence[int]) -> torch.Tensor:
        return self._shares[torch.tensor(batch)]


class _WordTargets:
    """The same for the words of texts that have any: probabilities of the tags, word after word [M, C]."""

    def __init__(
        self, student: TransformerEncoder, texts: Sequence[str], teachers: Sequence[Predictor], *, temperature: float
    ) -> None:
        pieces = student.words(texts, limit=TUNING_TOKENS)
        texts = [text for text, row in zip(texts, pieces, strict=True) if row.words]
        if not texts:
            raise InputError("texts without words", expected="texts to learn from")
        self._pieces = [row for row in pieces if row.words]
        self.rows: Sequence[Sequence[int]] = [row.ids for row in self._pieces]
        by_teacher = [teacher.logits(texts) for teacher in teachers]

        def shares(text: int, words: Sequence[int]) -> torch.Tensor:
            logits = torch.from_numpy(np.stack([logits[text][words] for logits in by_teacher]).astype(np.float32))
            return torch.softmax(logits / temperature, dim=-1).mean(0).to(student.device)

        self._shares = [shares(text, row.words) for text, row in enumerate(self._pieces)]

    def features(self, encoder: TransformerEncoder, states: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        return encoder.pool_words(states, [self._pieces[index] for index in batch])

    def shaped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def probabilities(self, batch: Sequence[int]) -> torch.Tensor:
        return torch.cat([self._shares[index] for index in batch])


class _Outputs(NamedTuple):
    """An encoder's outputs for a batch: features for the head [M, D], states of each layer [N, T, D], attention [N, H, T, T]."""

    features: torch.Tensor
    states: Sequence[torch.Tensor]
    attention: Sequence[torch.Tensor]
    mask: torch.Tensor


def _forward(encoder: TransformerEncoder, targets: _TextTargets | _WordTargets, batch: Sequence[int], *, deep: bool) -> _Outputs:
    ids, mask = encoder.padded([targets.rows[index] for index in batch])
    out = encoder.transformer(input_ids=ids, attention_mask=mask, output_hidden_states=deep, output_attentions=deep)
    features = targets.features(encoder, out.last_hidden_state, batch)
    return _Outputs(features, (out.hidden_states or ())[1:], out.attentions or (), mask)


def _state_loss(student: _Outputs, teacher: _Outputs, matched: Sequence[int]) -> torch.Tensor:
    """Return the mean squared error of hidden states, over matched layers, tokens and dimensions."""
    token = student.mask.unsqueeze(-1).float()
    losses = [
        (token * (own.float() - teacher.states[layer].float()) ** 2).sum() / (token.sum() * own.shape[-1])
        for own, layer in zip(student.states, matched, strict=True)
    ]
    return torch.stack(losses).mean()


def _attention_loss(student: _Outputs, teacher: _Outputs, matched: Sequence[int]) -> torch.Tensor:
    """Return KL(teacher || student) of the attention in nats, the mean over matched layers, heads and tokens."""
    token = student.mask[:, None, :].float()
    losses = []
    for own, layer in zip(student.attention, matched, strict=True):
        target = teacher.attention[layer].float().clamp(min=1e-9)
        divergence = (target * (target.log() - own.float().clamp(min=1e-9).log())).sum(-1)
        losses.append((token * divergence).sum() / (token.sum() * own.shape[1]))
    return torch.stack(losses).mean()


def _batches(rows: Sequence[Sequence[int]], *, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield `steps` batches of texts of similar length; each pass over all texts batches and orders them again."""
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
