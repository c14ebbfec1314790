"""Log JSON lines to stderr. They never hold a user's text, neither in a field nor in an exception's message.

An exception is logged as its class and its stack frames, because its message may quote the input. Of a library's message only
the first line is kept, without its arguments. The process never waits for the reader of the lines: see `outlet`.
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
"""Innermost stack frames of an exception that are logged. With this many, a line is short enough to be written in one piece."""
LONGEST = 300
"""Characters of a library's message that are logged."""


class JsonFormatter(logging.Formatter):
    """Formats each record as one JSON object. `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
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
    """Return the first line of a library's message. Python's warnings keep their argument: it only names a place in the code."""
    message = record.getMessage() if record.name == "py.warnings" else str(record.msg)
    return message.strip().partition("\n")[0][:LONGEST]


def configure(level: int = logging.INFO, *, whole: bool = False) -> None:
    """Send the logs of this process, including those of libraries, to stderr as JSON.

    Args:
        level: lowest level of our events; libraries log at least warnings.
        whole: whether this process owns stderr, so that output of native code becomes a log line too.
    """
    handler = Outlet(_own_stderr() if whole else 2)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = lambda caught: event("thread failed", level=logging.ERROR, error=caught.exc_value)
    sys.unraisablehook = lambda caught: event("cleanup failed", level=logging.ERROR, error=caught.exc_value)


def dropped() -> int:
    """Return how many log lines this process has dropped because the reader of stderr was too slow or gone."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Outlet))


def event(name: str, /, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    """Log an event with fields. No field may hold a user's text."""
    logging.getLogger(LOGGER).log(level, name, extra={"fields": fields}, exc_info=error)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    event("crashed", level=logging.CRITICAL, error=error.with_traceback(trace))


def _own_stderr() -> int:
    """Return a descriptor of stderr for the log alone. Other output to stderr is counted, not shown: it may quote a text."""
    ours = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_report_others, args=(reading,), name="stderr", daemon=True).start()
    return ours


def _report_others(reading: int) -> None:
    while written := os.read(reading, 1 << 16):
        event("a library wrote to stderr", level=logging.WARNING, bytes=len(written))
