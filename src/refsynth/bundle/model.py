"""A loaded bundle. `load` checks every file, parses only what it checked, opens the model and lets it test itself.

A bundle may come from anywhere: whatever it holds, the worst outcome is a BundleError. Nothing in it is executed except the
operators of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.bundle.certificate import exit_confidence
from refsynth.bundle.files import Files
from refsynth.bundle.golden import Golden
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.tiers import Tier, open_tier
from refsynth.core.chain import Chain, occurrences
from refsynth.core.errors import BundleError, InputError
from refsynth.core.marks import places_in
from refsynth.core.protocols import Additive
from refsynth.core.spans import split_spans
from refsynth.core.types import Array, Entity, FloatArray, IntArray, Prediction
from refsynth.data.empty import refuse_empty
from refsynth.data.text import clean
from refsynth.kinds.metrics import LEAST


class Contributions(NamedTuple):
    """Why a label: `base` and the values of all terms sum to log p(label) minus the mean of log p over the labels.

    Where a text may have any number of labels they sum to log p - log(1 - p) of the label.
    """

    base: float
    terms: tuple[tuple[str, float], ...]


class Answered(NamedTuple):
    """What a bundle answers for N texts.

    Attributes:
        probabilities: calibrated probabilities [N, K], or of the words of each text [N].
        answers: the answers, as the task's `Kind` has them [N].
        certainty: the probability of each whole answer [N].
        unsure: whether that is below the threshold of the tier that answered [N].
        none: whether the answering tier marks the text as about none of the labels [N].
        tiers: the place of the tier that answered [N].
        passed: whether the first tier passes the text on [N].
        exit_confidence: the first tier's confidence, which decides that [N].
    """

    probabilities: Array
    answers: Array
    certainty: FloatArray
    unsure: NDArray[np.bool_]
    none: NDArray[np.bool_]
    tiers: IntArray
    passed: NDArray[np.bool_]
    exit_confidence: FloatArray


class Model:
    """A loaded bundle, ready to predict. A tier after the first is opened when the first text needs it."""

    def __init__(self, folder: Path, manifest: Manifest, first: Tier, *, threads: int, threshold: float | None = None) -> None:
        self.manifest, self._threshold = manifest, threshold
        self._folder, self._threads = folder, threads
        self._tiers = {0: first}
        self._opening = Lock()

    @property
    def variant(self) -> str:
        """Which arithmetic runs: int8, safe, exact (TF-IDF and CRF), static, or a cascade of several tiers."""
        return "cascade" if self.cascade else self._first.variant

    @property
    def cascade(self) -> bool:
        """Whether it has more than one tier."""
        return len(self.manifest.tiers) > 1

    @property
    def threshold(self) -> float:
        """The confidence below which the model is unsure; for a cascade, that of the last tier."""
        return self.manifest.calibration.threshold if self._threshold is None else self._threshold

    @property
    def tells_none(self) -> bool:
        """Whether it can tell that a text is about none of its labels."""
        return self._first.near is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of the columns of `logits`."""
        return tuple(label.name for label in self.manifest.labels)

    @property
    def opened(self) -> tuple[str, ...]:
        """The tiers that have been opened so far."""
        return tuple(tier.variant for tier in self._tiers.values())

    def logits(self, texts: Sequence[str]) -> Array:
        """Return unnormalized log-probabilities before calibration: [N, K], or of the words of each text [N]."""
        if not self.cascade:
            return self._first.predictor.logits([clean(text) for text in texts])  # training rows were cleaned in the same way
        return np.asarray(self.manifest.calibration.temperature * self.manifest.answers.logits(self.probabilities(texts)))

    def probabilities(self, texts: Sequence[str]) -> Array:
        """Return calibrated probabilities [N, K], or of the words of each text [N]."""
        if not self.cascade:
            return self._first.probabilities([clean(text) for text in texts])
        return self.answer(texts).probabilities

    def answer(self, texts: Sequence[str], *, shallow: bool = False) -> Answered:
        """Return the answers to N texts; with `shallow` the first tier answers all of them.

        Raises:
            BundleError: a later tier was needed and has changed since the bundle was loaded.
        """
        first = self._answered(0, [clean(text) for text in texts])
        return first if shallow else self.deepened(texts, first)

    def deepened(self, texts: Sequence[str], first: Answered) -> Answered:
        """Return the first tier's answers with those of later tiers in place of the ones that it passed on.

        Raises:
            BundleError: a later tier was needed and has changed since the bundle was loaded.
        """
        late = np.flatnonzero(first.passed)
        if not len(late):
            return first
        whole = Answered(*(np.array(part) for part in first))
        for place in range(1, len(self.manifest.tiers)):
            deep = self._answered(place, [clean(texts[each]) for each in late.tolist()])
            for part, own in zip(whole[:6], deep[:6], strict=True):
                part[late] = own
            late = late[deep.passed]
            if not len(late):
                break
        return whole

    def truncates(self, text: str) -> bool:
        """Return whether an open tier reads only part of a text."""
        return any(tier.truncates(clean(text)) for tier in self._tiers.values())

    def by_tier(self, texts: Sequence[str]) -> list[Answered]:
        """Return the answers of each tier to all texts, whether or not the tier before would pass them on.

        Raises:
            BundleError: a later tier has changed since the bundle was loaded.
        """
        ready = [clean(text) for text in texts]
        return [self._answered(place, ready) for place in range(len(self.manifest.tiers))]

    def _answered(self, place: int, texts: Sequence[str]) -> Answered:
        """Return the answers of the tier in a place to clean texts."""
        tier = self._opened(place)
        early, (probabilities, none) = tier.early, tier.answer(texts)
        answers = self.decide(probabilities)
        certainty = self.manifest.answers.confidence(probabilities, answers)
        # A copy, since `deepened` overwrites the certainty of texts that are passed on.
        confidence = np.array(certainty if early is None else exit_confidence(early.confidence, probabilities, certainty))
        passed = np.zeros(len(answers), bool) if early is None else confidence < early.threshold
        unsure = certainty < (tier.calibration.threshold if self._threshold is None else self._threshold)
        return Answered(probabilities, answers, certainty, unsure, none, np.full(len(answers), place), passed, confidence)

    def predict(self, texts: Sequence[str], *, shallow: bool = False) -> list[Prediction]:
        """Return one prediction per text; it abstains if its probability is below the threshold.

        With `shallow` the first tier of a cascade answers all texts; predictions that it would pass on are marked `degraded`.

        Raises:
            ArgumentError: a text is empty, so that the model could only give its prior.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes a sequence of texts: model.predict([text])")
        refuse_empty(texts, pairs=self.manifest.pairs)
        return self.predictions(texts, self.answer(texts, shallow=shallow), shallow=shallow)

    def predictions(self, texts: Sequence[str], answered: Answered, *, shallow: bool = False) -> list[Prediction]:
        """Return the answers to N texts as predictions."""
        labels, kind = self.labels, self.manifest.answers
        tiers = [self._opened(place) for place in answered.tiers.tolist()]
        named = [kind.shown(answer, labels) for answer in answered.answers]
        parts = (answered.probabilities, answered.certainty, answered.unsure, tiers, answered.passed, answered.none)
        rows = zip(texts, named, *parts, strict=True)
        if kind.words:
            return [self._span_prediction(*row[:6], degraded=shallow and bool(row[6])) for row in rows]
        return [
            Prediction(
                label,
                dict(zip(labels, probabilities.tolist(), strict=True)),
                bool(unsure),
                tier.variant,
                kind.names(label) if kind.several else None,
                degraded=shallow and bool(late),
                truncated=tier.truncates(clean(text)),
                none=bool(none),
            )
            for text, label, probabilities, _, unsure, tier, late, none in rows
        ]

    def _span_prediction(
        self, text: str, label: str, probabilities: FloatArray, certainty: float, unsure: bool, tier: Tier, *, degraded: bool
    ) -> Prediction:
        """Return the spans of words as entities with places in the original text; `probabilities` are of words [T, C]."""
        spans = split_spans(label)
        scores = np.log(np.maximum(probabilities, LEAST)).reshape(-1, self.manifest.width)
        chain = Chain.of(scores) if spans else None
        anywhere = dict(zip(self.labels, occurrences(scores).tolist(), strict=True))
        entities = tuple(
            Entity(*place, chain.span(span.start, span.end, self.labels.index(span.label)) if chain else 0.0)
            for place, span in zip(places_in(text, spans), spans, strict=True)
        )
        return Prediction(
            label,
            anywhere,
            bool(unsure),
            tier.variant,
            entities=entities,
            certainty=float(certainty),
            degraded=degraded,
            truncated=tier.truncates(clean(text)),
        )

    def decide(self, probabilities: Array) -> Array:
        """Return the answers for calibrated probabilities, as the task's `Kind` decides them."""
        return self.manifest.answers.decide(probabilities, self.manifest.calibration.label_thresholds)

    def additive(self, text: str) -> bool:
        """Return whether the tier that answers a text can tell what each part of it contributes."""
        if not isinstance(self._first.predictor, Additive):
            return False
        return not self.answer([text], shallow=True).passed[0]

    def contributions(self, text: str, label: str) -> Contributions | None:
        """Return the exact contribution of each n-gram or token to a label; None if an encoder answers, which is not additive."""
        predictor = self._first.predictor
        if not isinstance(predictor, Additive) or not self.additive(text):
            return None
        terms, parts = predictor.parts(clean(text))
        column, temperature = self.labels.index(label), self._first.calibration.temperature
        bias = predictor.bias
        own, base = parts[:, column], bias[column]
        if not self.manifest.answers.several:
            own, base = own - parts.mean(1), base - bias.mean()
        return Contributions(float(base) / temperature, tuple(zip(terms, (own / temperature).tolist(), strict=True)))

    def check(self) -> None:
        """Open all tiers, which tests them.

        Raises:
            BundleError: a tier does not give its golden outputs on this machine.
        """
        for place in range(len(self.manifest.tiers)):
            self._opened(place)

    def golden(self, tier: str) -> Golden:
        """Return the golden texts with the answers of a tier."""
        return next((each.golden for each in self._tiers.values() if each.variant == tier), self._first.golden)

    @property
    def _first(self) -> Tier:
        return self._tiers[0]

    def _opened(self, place: int) -> Tier:
        with self._opening:
            if place not in self._tiers:
                files = Files(self._folder)
                if files.manifest != self.manifest:
                    raise BundleError(f"{self._folder}: another bundle took its place", remedy="load it again")
                tier = open_tier(files, place, self._threads)
                files.check_unread()
                self._tiers[place] = tier
            return self._tiers[place]


def load(folder: str | Path, *, threads: int = 0, threshold: float | None = None) -> Model:
    """Open a bundle.

    Args:
        folder: the bundle.
        threads: threads for one batch of texts; 0 for one per core.
        threshold: the confidence below which the model is unsure, in [0, 1]; by default the bundle's own.

    Raises:
        InputError: the threshold is not in [0, 1].
        BundleError: the folder is not a bundle, or the bundle is damaged, altered or of another format, or does not give its
            golden outputs on this machine.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold:g}", expected="a confidence from 0 to 1")
    files = Files(Path(folder))
    first = open_tier(files, 0, threads)
    files.check_unread()
    return Model(files.folder, files.manifest, first, threads=threads, threshold=threshold)
