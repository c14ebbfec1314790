"""JSON lines on stderr, never with a text of a user: not in a field, not in the message of an exception.

An exception is logged as its class and the places that it passed; what it says may quote the input.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

LOGGER = "refsynth.serve"


class JsonFormatter(logging.Formatter):
    """One JSON object a record. `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])]
        return json.dumps(line, ensure_ascii=False)


def configure(level: int = logging.INFO) -> None:
    """Send the logs of this process, those of the libraries too, to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def event(name: str, /, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    """Log an event with fields, none of which holds a text."""
    logging.getLogger(LOGGER).log(level, name, extra={"fields": fields}, exc_info=error)
