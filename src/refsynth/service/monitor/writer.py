"""Writes predictions to the record from a thread, in batches, so that no request waits for the database.

The queue is bounded: where the database cannot keep up or is away, predictions are dropped and counted. What waits is lost if the
process is killed; feedback does not go through here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from refsynth.core.errors import RecordError
from refsynth.service.monitor.record import Predicted, PredictionRecord

_BATCH = 2_000  # rows of one transaction


class WriterCounts(NamedTuple):
    """Counts since the start: rows that came, that are on disk and that were dropped; and why the database fails, if it does.

    A row that was taken and is in neither of the others waits, or was lost with a process that was killed.
    """

    taken: int
    written: int
    dropped: int
    errors: int
    failing: str


class PredictionWriter:
    """A queue and a thread. `close` writes what is left."""

    def __init__(self, record: PredictionRecord, *, capacity: int = 20_000, interval: float = 0.2) -> None:
        """Start the thread.

        Args:
            record: where to.
            capacity: rows that may wait.
            interval: seconds between two transactions; also how long it waits before it tries a failing database again.
        """
        self._record, self._capacity, self._interval = record, capacity, interval
        self._waiting: deque[Predicted] = deque()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._taken = self._written = self._dropped = self._errors = 0
        self._failing = ""
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def put(self, rows: Sequence[Predicted]) -> bool:
        """Leave rows to be written; takes microseconds. False: there was no room, all of them are dropped."""
        with self._lock:
            self._taken += len(rows)
            fits = not self._closed.is_set() and len(self._waiting) + len(rows) <= self._capacity
            if fits:
                self._waiting.extend(rows)
            else:
                self._dropped += len(rows)
            return fits

    @property
    def counts(self) -> WriterCounts:
        """What became of the rows so far."""
        with self._lock:
            return WriterCounts(self._taken, self._written, self._dropped, self._errors, self._failing)

    def close(self, *, timeout: float = 10.0) -> WriterCounts:
        """Write what is left, for at most some seconds, and stop; what could not be written by then is dropped."""
        self._closed.set()
        self._thread.join(timeout)
        with self._lock:
            self._dropped += len(self._waiting)
            self._waiting.clear()
        return self.counts

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        """Write what waits. A row leaves the queue when it is on disk."""
        while True:
            with self._lock:
                batch = [self._waiting[at] for at in range(min(_BATCH, len(self._waiting)))]
            if not batch:
                return
            try:
                stored = self._store(batch)
            except RecordError as error:
                with self._lock:
                    self._errors += 1
                    self._failing = str(error)
                return  # it is tried again; meanwhile the queue fills up
            with self._lock:
                self._failing = ""
                for _ in range(min(len(batch), len(self._waiting))):
                    self._waiting.popleft()
                self._written += stored
                self._dropped += len(batch) - stored

    def _store(self, batch: Sequence[Predicted]) -> int:
        """Return how many rows are on disk: one that cannot be stored does not hold up the others."""
        try:
            self._record.add_predictions(batch)
        except RecordError:
            raise
        except Exception:  # noqa: BLE001 - whatever a row does to the database or to what redacts it, the thread lives on
            return sum(self._store([row]) for row in batch) if len(batch) > 1 else 0
        return len(batch)
