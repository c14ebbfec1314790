"""The bundle behind the queue. It is opened with its version and golden texts, and switched between two batches.

A circuit breaker guards the second tier of a cascade. If that tier keeps failing, or if the queue is long, the first tier answers
alone and marks as `degraded` the answers that it would have passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pybreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerListener, CircuitBreakerState

from refsynth.bundle import Contributions, Model, load
from refsynth.bundle.golden import TOLERATED, Golden
from refsynth.bundle.manifest import MANIFEST
from refsynth.core.hashes import digest, file_digest
from refsynth.core.types import Prediction
from refsynth.core.windows import REACH
from refsynth.core.words import words_of
from refsynth.service.http.logs import event

BYTES_PER_TOKEN = 4
VERSION_DIGITS = 12
FAILURES = 5
"""Consecutive failures after which the second tier of a cascade is no longer asked. One bad text causes one or two failures."""
REST = 10.0
"""Seconds until it is tried again."""


class Question(NamedTuple):
    """A text, and whether to explain its label. `label` is the label to explain; None explains the predicted one."""

    text: str
    explain: bool = False
    label: str | None = None


class Answer(NamedTuple):
    """A bundle's answer to one question."""

    prediction: Prediction
    version: str
    tier: str
    contributions: Contributions | None = None


@dataclass(frozen=True)
class LoadedBundle:
    """An open bundle that passed its self-test. `version` is the start of the hash of its manifest."""

    model: Model
    version: str

    @property
    def task(self) -> str:
        """An id shared by bundles with the same task kind and labels: the start of a hash over both."""
        return digest([self.model.manifest.task, self.model.labels])[:VERSION_DIGITS]

    @property
    def golden(self) -> Golden:
        """The golden texts with the first tier's answers."""
        return self.model.golden("")

    @classmethod
    def open(cls, folder: Path, *, threads: int, threshold: float | None = None) -> Self:
        """Open a bundle.

        Raises:
            BundleError: the bundle is damaged, or does not reproduce its golden outputs on this machine.
        """
        model = load(folder, threads=threads, threshold=threshold)
        model.check()  # loads every tier now, not at the first text that needs the second one
        return cls(model, file_digest(folder / MANIFEST)[:VERSION_DIGITS])

    def agrees(self, index: int, prediction: Prediction) -> bool:
        """Tell whether a prediction for golden text `index` equals the golden output, up to rounding."""
        manifest, golden = self.model.manifest, self.model.golden(prediction.tier)
        if manifest.answers.words:
            return self._agrees_on_spans(index, prediction, golden)
        row = np.array([[prediction.probabilities[label] for label in self.model.labels]])
        one = Golden(golden.texts[index : index + 1], golden.probabilities[index : index + 1])
        return one.share_off(row, limit=manifest.golden_limit, several=manifest.answers.several) <= TOLERATED

    def _agrees_on_spans(self, index: int, prediction: Prediction, golden: Golden) -> bool:
        """Do the same for a token classification bundle; entities of a confidence around one half may differ."""
        manifest = self.model.manifest
        starts = np.cumsum([0, *(len(words_of(text)) for text in golden.texts)])
        probabilities = np.empty(1, object)
        probabilities[0] = golden.probabilities[starts[index] : starts[index + 1]]
        answer = manifest.answers.decide(probabilities)
        confidence = float(manifest.answers.confidence(probabilities, answer)[0])
        same = prediction.label == manifest.answers.shown(answer[0], self.model.labels)
        close = abs(prediction.probability - confidence) <= 2 * manifest.golden_limit
        return close and (same or confidence <= 0.5 + manifest.golden_limit)


class _BreakerLog(CircuitBreakerListener):
    def state_change(self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState) -> None:
        event("second tier", breaker=new_state.name)


class Engine:
    """Answers batches of questions with the bundle that is current when the batch starts.

    Args:
        loaded: the bundle.
        pressed: returns whether the queue is so long that only the first tier of a cascade should answer.
    """

    def __init__(self, loaded: LoadedBundle, *, pressed: Callable[[], bool] = lambda: False) -> None:
        self._pressed = pressed
        self.switch(loaded)

    def switch(self, loaded: LoadedBundle) -> None:
        """Use another bundle from the next batch on."""
        self.current = loaded
        self._breaker = CircuitBreaker(
            fail_max=FAILURES, reset_timeout=REST, listeners=[_BreakerLog()], throw_new_error_on_trip=False
        )

    @property
    def degraded(self) -> bool:
        """Whether the first tier of a cascade answers alone now."""
        return self._breaker.current_state == "open" or (self.current.model.cascade and self._pressed())

    def run(self, questions: Sequence[Question]) -> list[Answer]:
        """Return an answer for each question, in order."""
        loaded = self.current  # read once: a switch takes effect between batches
        predictions = self._predict(loaded.model, [question.text for question in questions])
        return [
            Answer(prediction, loaded.version, prediction.tier, _contributions(loaded.model, question, prediction))
            for question, prediction in zip(questions, predictions, strict=True)
        ]

    def _predict(self, model: Model, texts: Sequence[str]) -> list[Prediction]:
        answers = model.answer(texts, shallow=True)
        if not answers.passed.any() or self._pressed():
            return model.predictions(texts, answers, shallow=True)
        try:
            answers = self._breaker.call(model.deepened, texts, answers)
        except CircuitBreakerError:
            return model.predictions(texts, answers, shallow=True)
        except Exception:
            if len(texts) > 1:  # the batcher asks again text by text, so that one bad text does not affect the others
                raise
            return model.predictions(texts, answers, shallow=True)
        return model.predictions(texts, answers)

    def cost(self, text: str) -> int:
        """Return about how many tokens of a text the model reads."""
        tokens = 1 + len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN
        tiers = self.current.model.manifest.tiers  # a tier without `max_tokens` reads all of a text
        return max(min(tokens, (REACH if tier.windows == "mean" else 1) * (tier.max_tokens or tokens)) for tier in tiers)


def _contributions(model: Model, question: Question, prediction: Prediction) -> Contributions | None:
    return model.contributions(question.text, question.label or prediction.likeliest) if question.explain else None
