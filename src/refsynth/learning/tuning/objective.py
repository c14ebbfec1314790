"""What fine-tuning minimises: weighted cross-entropy to classes or probabilities, and ways to make it robust.

With weights w and losses l a step of n rows minimises sum_i w_i l_i / (n W), W being the mean weight of all rows, so that a row
of weight 2 counts as two rows do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from refsynth.core.types import Example, FloatArray, IntArray
from refsynth.learning.head import Link, classes_of, marks_of, row_weights
from refsynth.models.network import TransformerEncoder

SCALE = 10.0
"""Embeddings have unit length: logits start with a range that a softmax can use."""


@dataclass(frozen=True)
class Robust:
    """Changes to the loss; all off by default.

    Attributes:
        smoothing: share e of the targets that is spread evenly over the labels (Szegedy et al., 2016, section 7).
        mixup: a of Beta(a, a), from which the share comes in which the embeddings and the targets of two rows are mixed (Zhang et
            al., 2018; of sentence embeddings, Guo et al., 2019).
        adversarial: length e of the step up the gradient that is added to the token embeddings of each text in a second pass, r =
            e g / |g| (fast gradient method, Miyato et al., 2017, eq. 5).
        rdrop: weight a of the divergence of two passes with dropout of their own (Liang et al., 2021, eq. 4, halved): (CE_1 +
            CE_2) / 2 + a (KL(p_1 | p_2) + KL(p_2 | p_1)) / 4.
    """

    smoothing: float = 0.0
    mixup: float = 0.0
    adversarial: float = 0.0
    rdrop: float = 0.0


PLAIN = Robust()


def targets_of(
    examples: Sequence[Example], labels: Sequence[str], *, smoothing: float = 0.0, link: Link = "softmax"
) -> FloatArray:
    """Return what each example is to be taken for, probabilities [N, K]: its `targets`, or certainly its label, or its labels."""
    if link == "sigmoid":
        return (1 - smoothing) * marks_of(examples, labels) + smoothing / 2
    targets = np.eye(len(labels))[classes_of(examples, labels)]
    for index, example in enumerate(examples):
        if example.targets is not None:
            targets[index] = example.targets
    return (1 - smoothing) * targets + smoothing / len(labels)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k t_k log p_k per row, [N], of logits and probabilities [N, K]."""
    return -(targets * torch.log_softmax(logits.float(), -1)).sum(-1)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k t_k log p_k + (1 - t_k) log(1 - p_k) per row, [N], each label being a question of its own."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(-1)


LOSSES: Mapping[Link, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "softmax": cross_entropy,
    "sigmoid": binary_cross_entropy,
}


def symmetric_divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return (KL(p | q) + KL(q | p)) / 2 per row, [N], in nats, of two sets of logits [N, K]."""
    p, q = torch.log_softmax(first.float(), -1), torch.log_softmax(second.float(), -1)
    return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2


class Objective:
    """The loss of a head on an encoder's embeddings, over some rows."""

    def __init__(
        self,
        encoder: TransformerEncoder,
        head: torch.nn.Module,
        examples: Sequence[Example],
        labels: Sequence[str],
        *,
        dropout: float = 0.0,
        robust: Robust = PLAIN,
        link: Link = "softmax",
    ) -> None:
        self._loss = LOSSES[link]
        self._encoder, self._head, self._dropout, self._robust = encoder, head, dropout, robust
        self._rows = encoder.tokenize([example.text for example in examples])
        targets, weights = targets_of(examples, labels, smoothing=robust.smoothing, link=link), row_weights(examples)
        self._targets = torch.tensor(targets, dtype=torch.float32, device=encoder.device)
        self._weights = torch.tensor(weights / weights.mean(), dtype=torch.float32, device=encoder.device)
        self._push = _Push(encoder, robust.adversarial) if robust.adversarial else None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row [N]."""
        return [len(row) for row in self._rows]

    def passes(self, rows: IntArray, *, passes: int, of: int) -> Iterator[Callable[[], torch.Tensor]]:
        """Yield losses whose sum is that of some of the `of` rows of a step, each of a share of them: more take less memory.

        With an adversary each is followed by that of the same rows a step away, and is to be differentiated before it.
        """
        for part in np.array_split(rows, min(passes, len(rows))) if len(rows) else ():
            share = partial(self._weighed, part, of=of)
            if self._push is None:
                yield partial(share, self._losses)
                continue
            yield partial(self._push.watching, partial(share, self._losses))
            yield partial(self._push.pushed, partial(share, self._plain))

    def _weighed(self, part: IntArray, losses: Callable[[IntArray], torch.Tensor], *, of: int) -> torch.Tensor:
        return losses(part).sum() / of

    def _plain(self, part: IntArray) -> torch.Tensor:
        return self._weights[part] * self._loss(self._head(self._features(part)), self._targets[part])

    def _losses(self, part: IntArray) -> torch.Tensor:
        if self._robust.rdrop:
            return self._rdrop(part)
        if not self._robust.mixup:
            return self._plain(part)
        features, targets, weights = self._features(part), self._targets[part], self._weights[part]
        concentration = torch.full((2,), self._robust.mixup)
        share = torch.distributions.Dirichlet(concentration).sample()[0]  # of two, it is Beta(a, a)
        other = torch.randperm(len(part))
        mixed = [share * each + (1 - share) * each[other] for each in (features, targets, weights)]
        return mixed[2] * self._loss(self._head(mixed[0]), mixed[1])

    def _rdrop(self, part: IntArray) -> torch.Tensor:
        first, second = self._head(self._features(np.concatenate([part, part]))).chunk(2)
        truth = self._targets[part]
        fit = (self._loss(first, truth) + self._loss(second, truth)) / 2
        return self._weights[part] * (fit + self._robust.rdrop / 2 * symmetric_divergence(first, second))

    def _features(self, part: IntArray) -> torch.Tensor:
        embeddings = self._encoder.embed([self._rows[row] for row in part])
        return torch.nn.functional.dropout(SCALE * embeddings, self._dropout)


class _Push:
    """Adds r to the token embeddings of a pass, from the gradient that the pass before left."""

    def __init__(self, encoder: TransformerEncoder, length: float) -> None:
        self._table, self._length = encoder.transformer.get_input_embeddings(), length
        self._added: torch.Tensor | None = None

    def watching(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a loss with r = 0, whose gradient is kept."""
        with self._hooked(self._observe):
            return loss()

    def pushed(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a loss with r = e g / |g|, the norm being over all tokens of a text."""
        with self._hooked(self._add):
            return loss()

    @contextmanager
    def _hooked(self, hook: Callable[..., torch.Tensor]) -> Iterator[None]:
        handle = self._table.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _observe(self, module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        del module, inputs
        self._added = torch.zeros_like(out, requires_grad=True)
        return out + self._added

    def _add(self, module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        del module, inputs
        gradient = self._added.grad if self._added is not None else None
        if gradient is None:
            raise RuntimeError("an adversarial pass must follow the differentiated pass over the same rows")
        gradient = gradient[: len(out)]  # with R-Drop each row was there twice
        norm = gradient.flatten(1).norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        pushed: torch.Tensor = out + self._length * gradient / norm[:, None, None]
        return pushed
