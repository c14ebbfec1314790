"""The loss of fine-tuning: weighted cross-entropy to classes or probabilities, with options for robustness.

With weights w and losses l, a step of n rows minimizes sum_i w_i l_i / (n W), where W is the mean weight of all rows. So a row of
weight 2 counts as two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from refsynth.core.types import Example, IntArray
from refsynth.learning.head import Link, row_weights, targets_of
from refsynth.learning.tuning.batches import in_passes
from refsynth.models.network import TransformerEncoder

SCALE = 10.0
"""The factor of the unit-length embeddings, which gives the first logits a range that a softmax can use."""


@dataclass(frozen=True)
class Robust:
    """Options of the loss; all are off by default.

    Attributes:
        smoothing: share of the targets that is spread evenly over the labels (Szegedy et al., 2016, section 7).
        mixup: a of Beta(a, a), the distribution of the share in which embeddings and targets of two rows are mixed (Zhang et al.,
            2018; for sentence embeddings, Guo et al., 2019).
        adversarial: length e of the perturbation r = e g / |g| that a second pass adds to the token embeddings of each text,
            along the gradient g (fast gradient method, Miyato et al., 2017, eq. 5).
        rdrop: weight a of the divergence between two passes with different dropout (Liang et al., 2021, eq. 4, halved):
            (CE_1 + CE_2) / 2 + a (KL(p_1 | p_2) + KL(p_2 | p_1)) / 4.
    """

    smoothing: float = 0.0
    mixup: float = 0.0
    adversarial: float = 0.0
    rdrop: float = 0.0


PLAIN = Robust()


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k t_k log p_k per row [N], from logits and target probabilities [N, K]."""
    return -(targets * torch.log_softmax(logits.float(), -1)).sum(-1)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -sum_k t_k log p_k + (1 - t_k) log(1 - p_k) per row [N], for independent labels."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(-1)


LOSSES: Mapping[Link, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "softmax": cross_entropy,
    "sigmoid": binary_cross_entropy,
}


def symmetric_divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return (KL(p | q) + KL(q | p)) / 2 per row [N] in nats, from two sets of logits [N, K]."""
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
        self._adversary = _Adversary(encoder, robust.adversarial) if robust.adversarial else None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row [N]."""
        return [len(row) for row in self._rows]

    def passes(self, rows: IntArray, *, passes: int, of: int) -> Iterator[Callable[[], torch.Tensor]]:
        """Yield losses that sum to the share of `rows` in the loss of a step of `of` rows; more `passes` take less memory.

        With an adversary, each must be differentiated before the next one, which is that of the same rows, perturbed.
        """
        for part in in_passes(rows, passes):
            loss = partial(self._mean, self._losses, part, of=of)
            if self._adversary is None:
                yield loss
                continue
            yield partial(self._adversary.observed, loss)
            yield partial(self._adversary.perturbed, partial(self._mean, self._plain, part, of=of))

    @staticmethod
    def _mean(losses: Callable[[IntArray], torch.Tensor], part: IntArray, *, of: int) -> torch.Tensor:
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
        share = torch.distributions.Dirichlet(concentration).sample()[0]  # with two components it is Beta(a, a)
        other = torch.randperm(len(part))
        features, targets, weights = (share * one + (1 - share) * one[other] for one in (features, targets, weights))
        return weights * self._loss(self._head(features), targets)

    def _rdrop(self, part: IntArray) -> torch.Tensor:
        first, second = self._head(self._features(np.concatenate([part, part]))).chunk(2)
        truth = self._targets[part]
        fit = (self._loss(first, truth) + self._loss(second, truth)) / 2
        return self._weights[part] * (fit + self._robust.rdrop / 2 * symmetric_divergence(first, second))

    def _features(self, part: IntArray) -> torch.Tensor:
        embeddings = self._encoder.embed([self._rows[row] for row in part])
        return torch.nn.functional.dropout(SCALE * embeddings, self._dropout)


class _Adversary:
    """Adds the perturbation r to the token embeddings of a pass, from the gradient of the pass before."""

    def __init__(self, encoder: TransformerEncoder, length: float) -> None:
        self._table, self._length = encoder.transformer.get_input_embeddings(), length
        self._added: torch.Tensor | None = None

    def observed(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a loss with r = 0, and keep the gradient for r."""
        with self._hooked(self._observe):
            return loss()

    def perturbed(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a loss with r = e g / |g|, where the norm is over all tokens of a text."""
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
        self._added = torch.zeros_like(out, requires_grad=True)
        return out + self._added

    def _add(self, module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        gradient = self._added.grad if self._added is not None else None
        if gradient is None:
            raise RuntimeError("an adversarial pass must follow the differentiated pass over the same rows")
        gradient = gradient[: len(out)]  # with R-Drop the batch has each row twice
        norm = gradient.flatten(1).norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        perturbed: torch.Tensor = out + self._length * gradient / norm[:, None, None]
        return perturbed
