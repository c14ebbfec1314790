"""The bundle behind the queue: opened with its version and golden texts, switched between two batches.

The second tier of a cascade is behind a breaker: where it fails again and again, or where the queue is long, the first tier
answers alone and says `degraded` of what it would have passed on.
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
from refsynth.core.run import digest, file_digest
from refsynth.core.types import Prediction
from refsynth.core.windows import REACH
from refsynth.core.words import words_of
from refsynth.service.http.logs import event

BYTES_PER_TOKEN = 4
VERSION_DIGITS = 12
FAILURES = 5
"""Failures in a row after which the second tier of a cascade is left alone: one bad text is one failure, or two."""
REST = 10.0
"""Seconds until it is tried again."""


class Question(NamedTuple):
    """A text, and whether to say why. `label` is the one to explain; the predicted one where it is None."""

    text: str
    explain: bool = False
    label: str | None = None


class Answer(NamedTuple):
    """What one bundle said of one text."""

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
        """What two bundles share that answer the same question: the start of a hash over the kind of task and the labels."""
        return digest([self.model.manifest.task, self.model.labels])[:VERSION_DIGITS]

    @property
    def golden(self) -> Golden:
        """The golden texts."""
        return self.model.golden("")

    @classmethod
    def open(cls, folder: Path, *, threads: int, threshold: float | None = None) -> Self:
        """Open a bundle.

        Raises:
            BundleError: it is damaged, or does not give its golden outputs here.
        """
        model = load(folder, threads=threads, threshold=threshold)
        model.check()  # a server finds out now, not at the first text that needs the second tier
        return cls(model, file_digest(folder / MANIFEST)[:VERSION_DIGITS])

    def agrees(self, index: int, prediction: Prediction) -> bool:
        """Tell whether a prediction for golden text `index` is what it should be, up to rounding."""
        if self.model.manifest.answers.spans:
            return self._finds(index, prediction)
        row = np.array([[prediction.probabilities[label] for label in self.model.labels]])
        golden = self.model.golden(prediction.tier)
        one = Golden(golden.texts[index : index + 1], golden.probabilities[index : index + 1])
        manifest = self.model.manifest
        return one.share_off(row, limit=manifest.golden_limit, several=manifest.answers.several) <= TOLERATED

    def _finds(self, index: int, prediction: Prediction) -> bool:
        """Tell whether what was found in golden text `index` is what should be; what is hardly probable may be found or not."""
        golden, manifest = self.model.golden(prediction.tier), self.model.manifest
        starts = np.cumsum([0, *(len(words_of(text)) for text in golden.texts)])
        said = np.empty(1, object)
        said[0] = golden.probabilities[starts[index] : starts[index + 1]]
        answer = manifest.answers.decide(said)
        sure = float(manifest.answers.confidence(said, answer)[0])
        same = prediction.label == manifest.answers.shown(answer[0], self.model.labels)
        return abs(prediction.probability - sure) <= 2 * manifest.golden_limit and (same or sure <= 0.5 + manifest.golden_limit)


class _Logged(CircuitBreakerListener):
    def state_change(self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState) -> None:
        event("second tier", breaker=new_state.name)


class Engine:
    """Answers batches of questions with the bundle that is current when the batch begins.

    Args:
        loaded: the bundle.
        pressed: tells whether so much waits that only the first tier of a cascade should answer.
    """

    def __init__(self, loaded: LoadedBundle, *, pressed: Callable[[], bool] = lambda: False) -> None:
        self._pressed = pressed
        self.switch(loaded)

    def switch(self, loaded: LoadedBundle) -> None:
        """Answer the next batch, and all after it, with another bundle."""
        self.current = loaded
        self._breaker = CircuitBreaker(
            fail_max=FAILURES, reset_timeout=REST, listeners=[_Logged()], throw_new_error_on_trip=False
        )

    @property
    def degraded(self) -> bool:
        """Whether the second tier of a cascade is left alone."""
        return self._breaker.current_state == "open" or (self.current.model.cascade and self._pressed())

    def run(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer each question."""
        loaded = self.current  # read once: a switch falls between batches
        predictions = self._predict(loaded.model, [question.text for question in questions])
        return [
            Answer(prediction, loaded.version, prediction.tier, _why(loaded.model, question, prediction))
            for question, prediction in zip(questions, predictions, strict=True)
        ]

    def _predict(self, model: Model, texts: Sequence[str]) -> list[Prediction]:
        found = model.answer(texts, shallow=True)
        if not found.passed.any() or self._pressed():
            return model.predictions(texts, found, shallow=True)
        try:
            found = self._breaker.call(model.deepened, texts, found)
        except CircuitBreakerError:
            return model.predictions(texts, found, shallow=True)
        except Exception:
            if len(texts) > 1:  # asked again one by one, so that a bad text costs its neighbours nothing
                raise
            return model.predictions(texts, found, shallow=True)
        return model.predictions(texts, found)

    def cost(self, text: str) -> int:
        """Return about how many tokens of a text are read."""
        tokens = 1 + len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN
        tiers = self.current.model.manifest.tiers  # what has no `max_tokens` reads all of a text
        return max(min(tokens, (REACH if tier.windows == "mean" else 1) * (tier.max_tokens or tokens)) for tier in tiers)


def _why(model: Model, question: Question, prediction: Prediction) -> Contributions | None:
    return model.contributions(question.text, question.label or prediction.likeliest) if question.explain else None
