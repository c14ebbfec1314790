"""A bounded queue in front of a model that answers batches: asyncio on one side, one thread on the other.

All state belongs to the event loop. The thread gets a list of items and returns a list of answers, so nothing needs a lock.
Each row knows its call and puts its answer there, so other rows that are queued, canceled or expired cannot shift answers.

The queue never waits to fill a batch: an idle model takes the rows that are there, and those that arrive while it works form its
next batch. This module knows nothing of texts, HTTP or bundles.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from refsynth.core.errors import RefsynthError
from refsynth.service.http.thread import ModelThread

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MEMORY = 0.8
"""Weight of the earlier measurements of speed when a full batch adds one."""


class QueueFullError(RefsynthError):
    """The queue is full. `wait` is the seconds after which it probably has room."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__("the queue is full", remedy=f"try again in {math.ceil(wait)} s")


class AbandonedError(Exception):
    """The caller hung up before the answer came."""


class RowError(RefsynthError):
    """The model failed on this row alone. `reason` is the class of its exception, whose message may quote the text."""

    code = "prediction_failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the model failed on this text ({reason})")


class BatchFigures(NamedTuple):
    """Measurements of a batch: its rows, the longest wait of a row, and the model's time; in seconds."""

    rows: int
    waited: float
    took: float


@dataclass(eq=False, slots=True)
class _Call(Generic[Item, Answer]):
    """One caller's rows. `done` is set when no row is left to answer."""

    done: asyncio.Future[None]
    answers: list[Answer | RowError | None]
    left: int
    rows: list[_QueuedRow[Item, Answer]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _QueuedRow(Generic[Item, Answer]):
    call: _Call[Item, Answer]
    index: int
    item: Item
    cost: int
    queued: float


class Batcher(Generic[Item, Answer]):
    """The queue.

    Args:
        run: maps N items to N answers; called in its own thread, one batch at a time.
        batch_rows: maximum rows of a batch.
        batch_cost: maximum total cost of a batch; a row that costs more goes alone.
        queue_rows: maximum rows that wait.
        longest_wait: seconds; a call that would probably wait longer is refused at once.
        observe: called with the measurements of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        batch_rows: int,
        batch_cost: int,
        queue_rows: int,
        longest_wait: float,
        observe: Callable[[BatchFigures], None] = lambda batch: None,
    ) -> None:
        self._run, self._observe = run, observe
        self._batch_rows, self._batch_cost = batch_rows, batch_cost
        self._queue_rows, self._longest_wait = queue_rows, longest_wait
        self._urgent: dict[_QueuedRow[Item, Answer], None] = {}  # a dict is a queue that a row can leave from the middle
        self._waiting: dict[_QueuedRow[Item, Answer], None] = {}
        self._waiting_cost = 0
        self.running = 0
        """Rows that the model works on now."""
        self._arrived = asyncio.Event()
        self._thread = ModelThread("refsynth-model")
        self._speed_cost = self._speed_seconds = 0.0
        self._task = asyncio.get_running_loop().create_task(self._work())
        self.batches = 0
        """Batches that the model has answered. While this grows, the model is alive."""

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return len(self._waiting) + len(self._urgent)

    @property
    def wait(self) -> float:
        """Seconds that a new row would wait, by the speed of the last full batches; 0 before the first one."""
        return self._waiting_cost * self._speed_seconds / self._speed_cost if self._speed_cost else 0.0

    @property
    def pressed(self) -> bool:
        """Whether a new row would wait more than half of the longest wait."""
        return self.wait > self._longest_wait / 2

    @property
    def full(self) -> float:
        """Seconds until the queue probably takes a new row, at least 1; 0 if it takes one now."""
        if len(self._waiting) < self._queue_rows and self.wait <= self._longest_wait:
            return 0.0
        return max(self.wait, 1.0)

    async def submit(
        self,
        items: Sequence[Item],
        costs: Iterable[int],
        *,
        deadline: float,
        urgent: bool = False,
        gone: asyncio.Future[None] | None = None,
    ) -> list[Answer | RowError]:
        """Return an answer for each item, in order; a RowError for a row that the model failed on.

        Either all items are queued or none. They leave the queue when the call is canceled or its deadline passes.

        Args:
            items: N items to answer.
            costs: N costs, in the unit of `batch_cost`.
            deadline: a time on the event loop's clock.
            urgent: skip the queue and its limits; for the canary.
            gone: done when the caller has hung up.

        Raises:
            QueueFullError: the queue is full.
            TimeoutError: the deadline passed.
            AbandonedError: the caller hung up.
        """
        if not items:
            return []
        if not urgent and (self.full or len(self._waiting) + len(items) > self._queue_rows):
            raise QueueFullError(max(self.wait, 1.0))
        call: _Call[Item, Answer] = _Call(asyncio.get_running_loop().create_future(), [None] * len(items), len(items))
        now, waiting = time.monotonic(), self._urgent if urgent else self._waiting
        for index, (item, cost) in enumerate(zip(items, costs, strict=True)):
            row = _QueuedRow(call, index, item, cost, now)
            call.rows.append(row)
            waiting[row] = None
        self._waiting_cost += 0 if urgent else sum(row.cost for row in call.rows)
        self._arrived.set()
        try:
            await asyncio.wait(
                (call.done, gone) if gone else (call.done,), timeout=max(0.0, deadline - now), return_when=asyncio.FIRST_COMPLETED
            )
            if not call.done.done():
                raise TimeoutError if gone is None or not gone.done() else AbandonedError
        finally:
            for row in call.rows:
                self._forget(row)
            call.rows.clear()  # rows and their call form a cycle, which would live until the garbage collector runs
        return [answer for answer in call.answers if answer is not None]

    async def close(self) -> None:
        """Stop. Calls that still wait get no answer, so let them finish first."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._thread.close()

    def _forget(self, row: _QueuedRow[Item, Answer]) -> None:
        if row in self._waiting:
            del self._waiting[row]
            self._waiting_cost -= row.cost
        else:
            self._urgent.pop(row, None)

    async def _work(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            self.running = len(batch)
            try:
                await self._answer(batch)
            finally:
                self.running = 0

    def _take(self) -> list[_QueuedRow[Item, Answer]]:
        """Take the next batch out of the queue, oldest rows first."""
        batch: list[_QueuedRow[Item, Answer]] = []
        cost = 0
        for row in (*self._urgent, *self._waiting) if self._urgent else self._waiting:
            if batch and (cost + row.cost > self._batch_cost or len(batch) == self._batch_rows):
                break
            batch.append(row)
            cost += row.cost
        for row in batch:
            self._forget(row)
        return batch

    async def _answer(self, batch: list[_QueuedRow[Item, Answer]]) -> None:
        started, full = time.monotonic(), bool(self._waiting)
        answers = await self._outcome([row.item for row in batch])
        took = time.monotonic() - started
        self.batches += 1
        if full and not isinstance(answers, RowError):
            self._speed_cost = MEMORY * self._speed_cost + sum(row.cost for row in batch)
            self._speed_seconds = MEMORY * self._speed_seconds + took
        self._observe(BatchFigures(len(batch), started - min(row.queued for row in batch), took))
        if isinstance(answers, RowError):
            await self._one_by_one(batch, answers)
        else:
            for row, answer in zip(batch, answers, strict=True):
                _deliver(row, answer)

    async def _outcome(self, items: list[Item]) -> Sequence[Answer] | RowError:
        """Return the answers, or a RowError if the model failed."""
        future: asyncio.Future[Sequence[Answer]] = self._thread.call(partial(self._run, items))
        await asyncio.wait([future])
        error = future.exception()
        if error is not None:
            return RowError(type(error).__name__)
        return future.result() if len(future.result()) == len(items) else RowError("another number of answers")

    async def _one_by_one(self, batch: list[_QueuedRow[Item, Answer]], error: RowError) -> None:
        """Answer the rows of a failed batch one by one, so that only the bad ones fail."""
        if len(batch) == 1:
            _deliver(batch[0], error)
            return
        for row in batch:
            if row.call.done.done():  # nobody waits for it any more
                continue
            outcome = await self._outcome([row.item])
            self.batches += 1
            _deliver(row, outcome if isinstance(outcome, RowError) else outcome[0])


def _deliver(row: _QueuedRow[Item, Answer], answer: Answer | RowError) -> None:
    call = row.call
    call.answers[row.index] = answer
    call.left -= 1
    if not call.left and not call.done.done():
        call.done.set_result(None)
