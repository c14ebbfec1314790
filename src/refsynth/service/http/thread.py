"""The thread in which the model runs.

Why not a `ThreadPoolExecutor`: Python waits for its threads at the end, so a model that hangs would keep the process alive.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any


class ModelThread:
    """A daemon thread that runs functions one after another. A function that never returns cannot keep the process alive."""

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return a future for what the function returns or raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work.put((function, future))
        return future

    def close(self) -> None:
        """Let the thread end after the functions that it already has."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            function, future = work
            try:
                result, error = function(), None
            except BaseException as raised:  # noqa: BLE001 - whatever a model raises goes to the caller, not to this thread
                result, error = None, raised if isinstance(raised, Exception) else RuntimeError(type(raised).__name__)
            if not future.get_loop().is_closed():
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
