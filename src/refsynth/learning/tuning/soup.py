"""Model soup: one model with the mean weights of several that were fine-tuned with different seeds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from refsynth.core.errors import InputError
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Learner
from refsynth.core.types import Example
from refsynth.learning.head import Link
from refsynth.learning.tuning.validation import faults_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead


class SoupLearner:
    """Fine-tunes several times with different seeds and averages the weights (model soup; Wortsman et al., 2022)."""

    def __init__(self, member: Learner, *, seeds: int = 3, greedy: bool = True, link: Link = "softmax") -> None:
        """Take the learner.

        Args:
            member: fine-tunes the same encoder, with a head that always starts from the same weights.
            seeds: the number of models.
            greedy: start from the best model on `dev` and add the others, best first, if the loss of the average there does not
                rise. If false, or without `dev`, all are averaged.
            link: how logits become probabilities.
        """
        self._member, self._seeds, self._greedy, self._link = member, seeds, greedy, link

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> EncoderPredictor:
        """Fit to the examples.

        Raises:
            InputError: the weights of the member's models cannot be averaged.
        """
        fitted = [self._member.fit(train, dev, seed=derive_seed(seed, "soup", number)) for number in range(self._seeds)]
        models = [model for model in fitted if isinstance(model, EncoderPredictor)]
        if len(models) < len(fitted):
            raise InputError(f"a soup of {type(fitted[0]).__name__}", expected="models of an encoder and a head")
        if not (self._greedy and dev):
            return mixed(models)
        losses = [faults_of(model, dev, link=self._link).loss for model in models]
        first, *others = (models[place] for place in np.argsort(losses, kind="stable"))
        chosen, best = [first], min(losses)
        for model in others:
            loss = faults_of(mixed([*chosen, model]), dev, link=self._link).loss
            if loss <= best:
                chosen, best = [*chosen, model], loss
        return mixed(chosen)


def mixed(models: Sequence[EncoderPredictor]) -> EncoderPredictor:
    """Return one model with the mean weights of the models, which have the same shape."""
    encoder: Any = copy.deepcopy(models[0].encoder)
    states = [model.encoder.state_dict() for model in models if isinstance(model.encoder, TransformerEncoder)]
    means = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    encoder.load_state_dict(means)
    head = LinearHead(*(np.mean([getattr(model.head, part) for model in models], axis=0) for part in ("weights", "bias")))
    return EncoderPredictor(models[0].labels, encoder, head)
