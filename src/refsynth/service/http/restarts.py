"""The supervisor's own metric: workers that were replaced. It is written to the same folder as the workers' metrics."""

from __future__ import annotations

import contextlib
from typing import Any

from refsynth.core.extras import require


class Restarts:
    """Counts replaced workers. Create it after PROMETHEUS_MULTIPROC_DIR is set."""

    def __init__(self) -> None:
        self._prometheus: Any = require("prometheus_client", extra="serve")
        self._multiprocess = require("prometheus_client.multiprocess", extra="serve")
        self.renew()

    def renew(self) -> None:
        """Start anew in a restored folder."""
        values: Any = require("prometheus_client.values", extra="serve")
        values.ValueClass = values.get_value_class()  # the old class writes to the deleted files
        text = "Workers that were replaced"
        registry = self._prometheus.CollectorRegistry()
        self._restarts = self._prometheus.Counter("refsynth_worker_restarts_total", text, ("reason",), registry=registry)

    def restart(self, reason: str) -> None:
        """Count a replaced worker."""
        with contextlib.suppress(OSError):  # the folder is gone, but `upkeep` restores it soon
            self._restarts.labels(reason).inc()

    def gone(self, process: int) -> None:
        """Drop the gauges of a dead worker: its requests under way and its queue."""
        self._multiprocess.mark_process_dead(process)
