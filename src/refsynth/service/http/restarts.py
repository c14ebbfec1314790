"""The supervisor's own metrics: workers that were replaced. In the folder where those of the workers are; knows no worker."""

from __future__ import annotations

import contextlib
from typing import Any

from refsynth.core.extras import require


class Restarts:
    """Counts them. Made after the environment names the folder."""

    def __init__(self) -> None:
        self._prometheus: Any = require("prometheus_client", extra="serve")
        self._multiprocess = require("prometheus_client.multiprocess", extra="serve")
        self.renew()

    def renew(self) -> None:
        """Begin again, in a folder that was made again."""
        values: Any = require("prometheus_client.values", extra="serve")
        values.ValueClass = values.get_value_class()  # the old one writes to files that are gone
        text = "Workers that were replaced"
        registry = self._prometheus.CollectorRegistry()
        self._restarts = self._prometheus.Counter("refsynth_worker_restarts_total", text, ("reason",), registry=registry)

    def restart(self, reason: str) -> None:
        """Count a replaced worker."""
        with contextlib.suppress(OSError):  # the folder is gone; it is made again soon
            self._restarts.labels(reason).inc()

    def gone(self, process: int) -> None:
        """Forget what only a living worker has: its requests under way and its queue."""
        self._multiprocess.mark_process_dead(process)
