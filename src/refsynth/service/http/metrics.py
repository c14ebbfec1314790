"""Prometheus metrics: base units, `_total` for counters, and label values from closed sets only.

With PROMETHEUS_MULTIPROC_DIR set (the supervisor does) every worker writes to files there, and any of them can answer for all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

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
"""Labels of a bundle with series of their own; the texts of all others are counted under `OTHER`."""
OTHER, NONE = "(other)", "(none)"
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _shares(said: Prediction) -> dict[str, float]:
    """Return the labels of an answer with the probability of each; `NONE` where it has none."""
    named = [entity.label for entity in said.entities] if said.entities is not None else said.labels
    if named is None:
        named = (said.label,)
    return {label: said.probabilities[label] for label in named} or {NONE: said.probability}


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"refsynth_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"refsynth_{name}", text, registry=registry, multiprocess_mode="livesum")

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"refsynth_{name}", text, labels, registry=registry, buckets=buckets)

        self._requests = counter("requests_total", "Requests by route and status", "route", "code")
        self._duration = histogram("request_duration_seconds", "First byte to reply; not of what a full queue refused", "route")
        self._rejected = counter("rejected_total", "Requests refused before the model", "reason")
        self._decisions = counter("tier_decisions_total", "Texts by the tier that answered", "tier", "outcome")
        self._predictions = counter("predictions_total", "Answered texts by label; one with several counts for each", "label")
        self._confidence = histogram("confidence", "Probability of the answers by label", "label", buckets=SHARES)
        self._explained = counter("explanations_total", "Explanations, each of which asks the model more than once")
        self._recorded = counter("record_rows_total", "Answers for the record by what became of them", "outcome")
        self._record_errors = counter("record_errors_total", "Times that the record could not be written or read", "what")
        self._log_dropped = counter("log_lines_dropped_total", "Lines of the log that nobody could be given")
        self._failing = Gauge(
            "refsynth_record_failing", "1 while the record cannot be written", registry=registry, multiprocess_mode="livemax"
        )
        self._unsure = Gauge(
            "refsynth_expected_unsure_ratio",
            "Share of texts that the bundle in use was unsure of when it was measured",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._none = counter("none_of_these_total", "Texts that are unlike the training rows of all labels")
        self._expected_none = Gauge(
            "refsynth_expected_none_ratio",
            "Share of held-out rows that the bundle in use marks as none of these, wrongly",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._wait = histogram("queue_wait_seconds", "The longest wait of a row of each batch")
        self._rows = histogram("batch_rows", "Rows of each batch", buckets=ROWS)
        self._took = histogram("batch_duration_seconds", "The model's time for each batch")
        self.inflight = gauge("inflight_requests", "Requests under way")
        self.queued = gauge("queue_rows", "Rows that wait")
        self._model = Gauge(
            "refsynth_model_info",
            "1 for the bundle in use",
            ("task", "version", "tier"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._shown: tuple[str, str, str] | None = None
        self._labels: frozenset[str] = frozenset()
        for reason in REASONS:  # seen from the start, and every file is there: a request must not be the first to make one
            self._rejected.labels(reason)

    def request(self, route: str, code: int, seconds: float | None) -> None:
        """Count a reply, and its time unless it was refused at once: in a flood those would hide how long answers take."""
        self._requests.labels(route, str(code)).inc()
        if seconds is not None:
            self._duration.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that did not come to the model."""
        self._rejected.labels(reason).inc()

    def batch(self, batch: BatchFigures) -> None:
        """Count a batch."""
        self._rows.observe(batch.rows)
        self._wait.observe(batch.waited)
        self._took.observe(batch.took)

    def answer(self, answer: Answer) -> None:
        """Count an answered text."""
        said = answer.prediction
        self._decisions.labels(answer.tier, "degraded" if said.degraded else "abstained" if said.abstain else "answered").inc()
        if said.none:
            self._none.inc()
        for label, probability in _shares(said).items():
            shown = label if label in self._labels else OTHER
            self._predictions.labels(shown).inc()
            self._confidence.labels(shown).observe(probability)

    def explained(self) -> None:
        """Count an explanation."""
        self._explained.inc()

    def recorded(self, changes: Mapping[str, int], *, failing: bool) -> None:
        """Count rows of the record by what became of them since the last call, and show whether it fails now."""
        for outcome, rows in changes.items():
            self._recorded.labels(outcome).inc(rows)
        self._failing.set(failing)

    def record_failed(self, what: str) -> None:
        """Count that the record could not be used."""
        self._record_errors.labels(what).inc()

    def log_dropped(self, lines: int) -> None:
        """Count lines of the log that were lost."""
        self._log_dropped.inc(lines)

    def failed(self, tier: str) -> None:
        """Count a text that the model failed on."""
        self._decisions.labels(tier, "failed").inc()

    def model(self, loaded: LoadedBundle) -> None:
        """Show which bundle is in use."""
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
        """Return the exposition of all workers, or of this process where it is the only one."""
        if DIRECTORY not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
