"""Fine-tuning an encoder with a linear head by cross-entropy; the method decides which weights are trained."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from refsynth.core.code import code_of
from refsynth.core.hashes import digest
from refsynth.core.learners import MethodName
from refsynth.core.spans import tag_names
from refsynth.core.types import Example
from refsynth.learning.head import Link
from refsynth.learning.tuning.methods import METHODS, USUAL, Adapted, Size
from refsynth.learning.tuning.objective import PLAIN, SCALE, Objective, Robust
from refsynth.learning.tuning.tagging import TagObjective
from refsynth.learning.tuning.trainer import SAVE_SECONDS, Loss, Trainer, TrainingRecipe
from refsynth.learning.tuning.validation import TagLink, faults_of
from refsynth.models.device import array_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.seeding import from_seed
from refsynth.models.tagger import TagPredictor


class Effort(NamedTuple):
    """The cost of a fit: trainable parameters, including the head's; all parameters; and the seconds of each step."""

    trainable: int
    parameters: int
    steps: tuple[float, ...]


class FinetuneLearner:
    """Fine-tunes a copy of the encoder with a head.

    With a validation set, the final model is that of the epoch with the fewest errors on it, among equals with the lowest loss,
    and training ends after `patience` epochs without a better one. Without it, training runs for all epochs. Weights and targets
    of the examples count.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        encoder: TransformerEncoder,
        *,
        method: MethodName = "finetune",
        recipe: TrainingRecipe | None = None,
        size: Size = USUAL,
        dropout: float = 0.1,
        robust: Robust = PLAIN,
        checkpointing: bool = False,
        checkpoints: Path | None = None,
        every: float = SAVE_SECONDS,
        link: Link | TagLink = "softmax",
    ) -> None:
        """Take the encoder to start from.

        Args:
            labels: the labels of the task.
            encoder: the encoder, which is not changed.
            method: the method, which decides the weights that are trained.
            recipe: how they are trained; by default the usual recipe at the method's own rate.
            size: size of the parts that the method adds.
            dropout: dropout in the encoder and before the head.
            robust: options of the loss.
            checkpointing: recompute activations in the backward pass instead of storing them, which takes less memory, more time.
            checkpoints: the folder for checkpoints of a killed fit.
            every: seconds between two checkpoints.
            link: how logits become probabilities; `tags` labels words, by their states instead of the mean of all states.
        """
        self._labels, self._encoder, self._method = labels, encoder, METHODS[method]
        self._recipe = recipe or TrainingRecipe(learning_rate=METHODS[method].rate)
        self._size, self._dropout, self._robust = size, dropout, robust
        self._checkpointing, self._checkpoints, self._every = checkpointing, checkpoints, every
        self._link = link
        self._key = [method, asdict(self._recipe), size, dropout, asdict(robust), checkpointing, link, code_of(__name__)]
        self.effort: Effort | None = None

    @from_seed
    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor | TagPredictor:
        """Fit to the examples."""
        encoder = copy.deepcopy(self._encoder)
        width = len(tag_names(self._labels)) if self._link == "tags" else len(self._labels)
        head = torch.nn.Linear(encoder.dimension, width, device=encoder.device)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        adapted = self._adapt(encoder, steps=self._recipe.epochs_of(len(train)) * -(-len(train) // self._recipe.batch_size))
        trainer = Trainer(
            encoder,
            head,
            self._recipe,
            seed=seed,
            companion=adapted.companion,
            checkpoint=self._checkpoint(train, dev, seed),
            every=self._every,
        )
        encoder.train()
        validate = (lambda: faults_of(self._predictor(encoder, head), dev, link=self._link)) if dev else None
        trainer.fit(self._objective(encoder, head, train), validate)
        self.effort = _effort(encoder, head, trainer.seconds)
        encoder.eval()
        encoder.transformer = adapted.finish()
        encoder.eval().requires_grad_(False)
        return self._predictor(encoder, head)

    def _predictor(self, encoder: TransformerEncoder, head: torch.nn.Linear) -> EncoderPredictor | TagPredictor:
        weights, bias = np.ascontiguousarray(array_of(head.weight).T), array_of(head.bias)
        if self._link == "tags":
            return TagPredictor(self._labels, encoder, LinearHead(weights, bias))
        return EncoderPredictor(self._labels, encoder, LinearHead(SCALE * weights, bias))

    def _objective(self, encoder: TransformerEncoder, head: torch.nn.Linear, train: Sequence[Example]) -> Loss:
        if self._link == "tags":
            return TagObjective(encoder, head, train, self._labels, dropout=self._dropout, smoothing=self._robust.smoothing)
        return Objective(encoder, head, train, self._labels, dropout=self._dropout, robust=self._robust, link=self._link)

    def _adapt(self, encoder: TransformerEncoder, *, steps: int) -> Adapted:
        encoder.requires_grad_(True)
        adapted = self._method.adapt(encoder.transformer, self._size, steps)
        encoder.transformer = adapted.transformer
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = self._dropout
        if self._checkpointing:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # not every supported transformers has the new name
                encoder.transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return adapted

    def _checkpoint(self, train: Sequence[Example], dev: Sequence[Example], seed: int) -> Path | None:
        if self._checkpoints is None:
            return None
        rows = [[example.to_json() for example in examples] for examples in (train, dev)]
        sums = {name: float(weight.detach().sum()) for name, weight in self._encoder.named_parameters()}
        return self._checkpoints / f"{digest([self._key, self._labels, sums, rows, seed])[:24]}.safetensors"


def _effort(encoder: torch.nn.Module, head: torch.nn.Module, seconds: Sequence[float]) -> Effort:
    counts = [(p.numel(), p.requires_grad) for module in (encoder, head) for p in module.parameters()]
    return Effort(sum(n for n, trainable in counts if trainable), sum(n for n, _ in counts), tuple(seconds))
