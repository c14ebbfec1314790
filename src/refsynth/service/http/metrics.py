"""Prometheus metrics. They use base units, `_total` for counters, and label values from closed sets only.

If PROMETHEUS_MULTIPROC_DIR is set, as the supervisor does, every worker writes to files there and each can report for all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from refsynth.core.types import Prediction
from refsynth.service.http.batching import BatchFigures
from refsynth.service.http.engine import Answer, LoadedBundle

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REASONS = ("queue", "busy", "quota", "deadline")
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MOST_LABELS = 100
"""Labels of a bundle that get series of their own; all others are counted as `OTHER`."""
OTHER, NONE = "(other)", "(none)"
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _label_probabilities(prediction: Prediction) -> dict[str, float]:
    """Return the labels of an answer with the probability of each; `NONE` if it has no label."""
    if prediction.entities is not None:
        labels = [entity.label for entity in prediction.entities]
    else:
        labels = [prediction.label] if prediction.labels is None else list(prediction.labels)
    return {label: prediction.probabilities[label] for label in labels} or {NONE: prediction.probability}


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"refsynth_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: Literal["livesum", "livemax"] = "livemax") -> Gauge:
            return Gauge(f"refsynth_{name}", text, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"refsynth_{name}", text, labels, registry=registry, buckets=buckets)

        self._requests = counter("requests_total", "Requests by route and status", "route", "code")
        self._duration = histogram("request_duration_seconds", "First byte to reply, without refusals of a full queue", "route")
        self._rejected = counter("rejected_total", "Requests refused before they reached the model", "reason")
        self._decisions = counter("tier_decisions_total", "Texts by the tier that answered", "tier", "outcome")
        self._predictions = counter("predictions_total", "Answered texts by label; several labels count once each", "label")
        self._confidence = histogram("confidence", "Probability of the answers by label", "label", buckets=SHARES)
        self.explanations = counter("explanations_total", "Explanations, each of which asks the model more than once")
        self._recorded = counter("record_rows_total", "Answers for the record by outcome", "outcome")
        self.record_errors = counter("record_errors_total", "Failures to write or read the record", "what")
        self.log_lines_dropped = counter("log_lines_dropped_total", "Log lines that could not be written")
        self._failing = gauge("record_failing", "1 while the record cannot be written")
        self._unsure = gauge("expected_unsure_ratio", "Share of texts that the bundle was unsure of when it was measured")
        self._none = counter("none_of_these_total", "Texts that are unlike the training rows of every label")
        self._expected_none = gauge(
            "expected_none_ratio", "Share of held-out rows that the bundle wrongly marks as none of these"
        )
        self._wait = histogram("queue_wait_seconds", "The longest wait of a row of each batch")
        self._rows = histogram("batch_rows", "Rows of each batch", buckets=ROWS)
        self._took = histogram("batch_duration_seconds", "The model's time for each batch")
        self.inflight = gauge("inflight_requests", "Requests under way", mode="livesum")
        self.queued = gauge("queue_rows", "Rows that wait", mode="livesum")
        self._model = gauge("model_info", "1 for the bundle in use", "task", "version", "tier")
        self._shown: tuple[str, str, str] | None = None
        self._labels: frozenset[str] = frozenset()
        for reason in REASONS:  # so that the series exist from the start, and no request has to create their file
            self._rejected.labels(reason)

    def request(self, route: str, code: int, seconds: float | None) -> None:
        """Count a reply, and its time unless it was refused at once: many refusals would hide how long answers take."""
        self._requests.labels(route, str(code)).inc()
        if seconds is not None:
            self._duration.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that did not reach the model."""
        self._rejected.labels(reason).inc()

    def batch(self, batch: BatchFigures) -> None:
        """Count a batch."""
        self._rows.observe(batch.rows)
        self._wait.observe(batch.waited)
        self._took.observe(batch.took)

    def answer(self, answer: Answer) -> None:
        """Count an answered text."""
        prediction = answer.prediction
        outcome = "degraded" if prediction.degraded else "abstained" if prediction.abstain else "answered"
        self._decisions.labels(answer.tier, outcome).inc()
        if prediction.none:
            self._none.inc()
        for label, probability in _label_probabilities(prediction).items():
            shown = label if label in self._labels else OTHER
            self._predictions.labels(shown).inc()
            self._confidence.labels(shown).observe(probability)

    def recorded(self, changes: Mapping[str, int], *, failing: bool) -> None:
        """Count rows of the record by outcome since the last call, and show whether the record fails now."""
        for outcome, rows in changes.items():
            self._recorded.labels(outcome).inc(rows)
        self._failing.set(failing)

    def failed(self, tier: str) -> None:
        """Count a text that the model failed on."""
        self._decisions.labels(tier, "failed").inc()

    def model(self, loaded: LoadedBundle) -> None:
        """Show the bundle in use."""
        if self._shown is not None:
            self._model.labels(*self._shown).set(0)
        self._labels = frozenset(loaded.model.labels[:MOST_LABELS]) | {NONE}
        coverage = loaded.model.manifest.calibration.coverage
        self._unsure.set(float("nan") if coverage is None else 1 - coverage)
        rule = loaded.model.manifest.none.rule if loaded.model.tells_none else None
        self._expected_none.set(float("nan") if rule is None else rule.flagged)
        self._shown = (loaded.task, loaded.version, loaded.model.variant)
        self._model.labels(*self._shown).set(1)

    def text(self) -> bytes:
        """Return the metrics of all workers, or of this process if it runs alone, in Prometheus's text format."""
        if DIRECTORY not in os.environ:
            return generate_latest(self._registry)
        all_workers = CollectorRegistry()
        MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
        return generate_latest(all_workers)
