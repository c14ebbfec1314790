"""Watch the record and the log, which answers do not depend on. Problems show in metrics, log and `/health/ready`."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from refsynth.service.http import logs
from refsynth.service.http.interfaces import Recorder, RecordStatus
from refsynth.service.http.metrics import Metrics

PERIOD = 1.0
"""Seconds between two checks."""
LACK = "the record: it cannot be written"


class DependencyWatch:
    """Checks the record and the log once a second.

    Args:
        recorder: the server's recorder.
        metrics: counts the problems.
    """

    def __init__(self, recorder: Recorder, metrics: Metrics) -> None:
        self._recorder, self._metrics = recorder, metrics
        self._seen, self._dropped = RecordStatus(), 0
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def problems(self) -> list[str]:
        """Return what does not work now. Texts are still answered."""
        return [LACK] if self._seen.failing else []

    def failed(self, what: str, error: Exception) -> None:
        """Count and log that the record failed while a caller waited for it."""
        self._metrics.record_errors.labels(what).inc()
        logs.event("record failed", level=logging.ERROR, what=what, reason=str(error))

    async def close(self) -> None:
        """Check a last time, after the record was closed."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._check()
        lost = self._seen.taken - self._seen.written
        if lost:
            logs.event("record closed", level=logging.ERROR, written=self._seen.written, lost=lost)

    async def _watch(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(PERIOD)

    def _check(self) -> None:
        before, self._seen = self._seen, self._recorder.status()
        now = self._seen
        changes = {name: getattr(now, name) - getattr(before, name) for name in ("taken", "written", "dropped")}
        self._metrics.recorded(changes, failing=bool(now.failing))
        if errors := now.errors - before.errors:
            self._metrics.record_errors.labels("predictions").inc(errors)
        if bool(now.failing) != bool(before.failing):
            level = logging.ERROR if now.failing else logging.INFO
            logs.event("record failing" if now.failing else "record written again", level=level, reason=now.failing)
        if changes["dropped"]:
            logs.event("answers not recorded", level=logging.ERROR, rows=changes["dropped"])
        lines = logs.dropped()
        self._metrics.log_lines_dropped.inc(lines - self._dropped)
        self._dropped = lines
