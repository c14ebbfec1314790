"""Write predictions to the record in batches from a thread, so that no request waits for the database.

The queue is bounded: if the database is too slow or unreachable, predictions are dropped and counted. If the process is killed,
the queue is lost. Feedback does not go through this queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from refsynth.core.errors import RecordError
from refsynth.service.monitor.record import Predicted, PredictionRecord

_BATCH = 2_000  # rows of one transaction


class WriterCounts(NamedTuple):
    """Counts since the start: rows taken, written and dropped, and database errors; and why the database fails now, if it does.

    A row that was taken but neither written nor dropped is waiting.
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
            record: where to write.
            capacity: maximum number of waiting rows.
            interval: seconds between two transactions, and before a failing database is tried again.
        """
        self._record, self._capacity, self._interval = record, capacity, interval
        self._waiting: deque[Predicted] = deque()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._taken = self._written = self._dropped = self._errors = 0
        self._failing = ""
        self._thread = threading.Thread(target=self._run, name="record", daemon=True)
        self._thread.start()

    def put(self, rows: Sequence[Predicted]) -> bool:
        """Queue rows, in microseconds; return False if there was no room and all of them were dropped."""
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
        """The counts so far."""
        with self._lock:
            return WriterCounts(self._taken, self._written, self._dropped, self._errors, self._failing)

    def close(self, *, timeout: float = 10.0) -> WriterCounts:
        """Write the waiting rows for at most `timeout` seconds, drop the others, and stop."""
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
        """Write the waiting rows. A row leaves the queue once it is on disk."""
        while True:
            with self._lock:
                batch = list(islice(self._waiting, _BATCH))
            if not batch:
                return
            try:
                stored = self._store(batch)
            except RecordError as error:
                with self._lock:
                    self._errors += 1
                    self._failing = str(error)
                return  # `_run` tries again; meanwhile the queue fills up
            with self._lock:
                self._failing = ""
                for _ in range(min(len(batch), len(self._waiting))):
                    self._waiting.popleft()
                self._written += stored
                self._dropped += len(batch) - stored

    def _store(self, batch: Sequence[Predicted]) -> int:
        """Store rows, and return how many are on disk. One that cannot be stored does not hold up the others."""
        try:
            self._record.add_predictions(batch)
        except RecordError:
            raise
        except Exception:  # noqa: BLE001 - whatever the database or the redactor raises for a row, the thread must go on
            return sum(self._store([row]) for row in batch) if len(batch) > 1 else 0
        return len(batch)
