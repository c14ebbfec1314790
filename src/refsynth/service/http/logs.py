"""JSON lines on stderr, never with a text of a user: not in a field, not in the message of an exception.

An exception is logged as its class and the places that it passed; what it says may quote the input. Of what libraries log, the
first line is kept before anything is filled into it. Nobody waits for whoever reads the lines: see `outlet`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from types import TracebackType

from refsynth.service.http.outlet import Outlet

LOGGER = "refsynth.service.http"
FRAMES = 16
"""The innermost places of an exception that are logged: with them a line is short enough to be written in one piece."""
LONGEST = 300
"""Characters of what a library says."""


class JsonFormatter(logging.Formatter):
    """One JSON object a record. `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage() if record.name == LOGGER else _first_line(record),
            "pid": record.process,
            **({} if record.name == LOGGER else {"logger": record.name}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-FRAMES:]
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False, default=str)


def _first_line(record: logging.LogRecord) -> str:
    """Return what a library says; a warning of Python is filled in by `logging` itself, and names a place in the code."""
    said = record.getMessage() if record.name == "py.warnings" else str(record.msg)
    return said.strip().partition("\n")[0][:LONGEST]


def configure(level: int = logging.INFO, *, whole: bool = False) -> None:
    """Send the logs of this process, those of the libraries too, to stderr as JSON.

    Args:
        level: of the least important events; of what libraries say, warnings at least.
        whole: whether this process has stderr for itself, and what native code writes there becomes a line too.
    """
    handler = Outlet(_alone() if whole else 2)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = lambda caught: event("thread failed", level=logging.ERROR, error=caught.exc_value)
    sys.unraisablehook = lambda caught: event("cleanup failed", level=logging.ERROR, error=caught.exc_value)


def dropped() -> int:
    """Return how many lines of this process were dropped so far: the reader of stderr was too slow, or is gone."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Outlet))


def event(name: str, /, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    """Log an event with fields, none of which holds a text."""
    logging.getLogger(LOGGER).log(level, name, extra={"fields": fields}, exc_info=error)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    event("crashed", level=logging.CRITICAL, error=error.with_traceback(trace))


def _alone() -> int:
    """Return a descriptor of stderr for the log alone. What else is written there is counted, not shown: it may quote a text."""
    ours = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_report_others, args=(reading,), name="stderr", daemon=True).start()
    return ours


def _report_others(reading: int) -> None:
    while written := os.read(reading, 1 << 16):
        event("a library wrote to stderr", level=logging.WARNING, bytes=len(written))
