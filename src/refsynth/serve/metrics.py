"""Prometheus metrics: base units, `_total` for counters, and label values from closed sets only.

With PROMETHEUS_MULTIPROC_DIR set (the supervisor does) every worker writes to files there, and any of them can answer for all.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from refsynth.serve.batching import Batch
from refsynth.serve.engine import Answer, Loaded

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


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
        self._wait = histogram("queue_wait_seconds", "The longest wait of a row of each batch")
        self._rows = histogram("batch_rows", "Rows of each batch", buckets=ROWS)
        self._took = histogram("batch_duration_seconds", "The model's time for each batch")
        self.inflight = gauge("inflight_requests", "Requests under way")
        self.queued = gauge("queue_rows", "Rows that wait")
        self._model = Gauge(
            "refsynth_model_info", "1 for the bundle in use", ("version", "tier"), registry=registry, multiprocess_mode="livemax"
        )
        self._shown: tuple[str, str] | None = None

    def request(self, route: str, code: int, seconds: float | None) -> None:
        """Count a reply, and its time unless it was refused at once: in a flood those would hide how long answers take."""
        self._requests.labels(route, str(code)).inc()
        if seconds is not None:
            self._duration.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that did not come to the model."""
        self._rejected.labels(reason).inc()

    def batch(self, batch: Batch) -> None:
        """Count a batch."""
        self._rows.observe(batch.rows)
        self._wait.observe(batch.waited)
        self._took.observe(batch.took)

    def answer(self, answer: Answer) -> None:
        """Count an answered text."""
        said = answer.prediction
        self._decisions.labels(answer.tier, "degraded" if said.degraded else "abstained" if said.abstain else "answered").inc()

    def failed(self, tier: str) -> None:
        """Count a text that the model failed on."""
        self._decisions.labels(tier, "failed").inc()

    def model(self, loaded: Loaded) -> None:
        """Show which bundle is in use."""
        if self._shown is not None:
            self._model.labels(*self._shown).set(0)
        self._shown = (loaded.version, loaded.model.variant)
        self._model.labels(*self._shown).set(1)

    def text(self) -> bytes:
        """Return the exposition of all workers, or of this process where it is the only one."""
        if DIRECTORY not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
