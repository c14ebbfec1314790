"""The errors that refsynth raises about its input and about what is missing. A wrong Python type raises TypeError.

RefsynthError                 one base to catch
├── InputError       exit 2   the user's file, row or argument is wrong; also a ValueError, like its subclasses
│   ├── ArgumentError         an argument of a call in Python
│   ├── DamagedError          a file that refsynth wrote was changed or damaged
│   ├── ConfigError           task.yaml or an override
│   ├── DataError             a data file: place, found, expected, remedy
│   └── BundleError           a bundle is damaged, changed or not a bundle
├── GateError        exit 3   a gate said no
├── AccessError      exit 1   a caller of the server is refused, with a `reason` and an HTTP status
└── MissingError     exit 4   a model, an extra or an endpoint is not there
    ├── ExtraError            an optional dependency is not installed
    ├── ModelError            model weights are absent or do not match their hash
    ├── EndpointError         a reference endpoint refuses, fails or answers nonsense
    └── RecordError           the record's database is not there, busy, or of another version

A message says what was found, what was expected and what to do. Errors of other libraries are mapped to these where they occur,
with `from`.

    try:
        refsynth.run("task.yaml", out="runs/one")
    except refsynth.RefsynthError as error:
        print(error)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RefsynthError(Exception):
    """The base: `str(error)` is the message for a person."""

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", known: str = "", remedy: str = "") -> None:
        """Join the parts of the message, a line each.

        Args:
            found: what is wrong, and where.
            expected: what should be there, without the word "expected".
            known: what there is, such as `columns there: a, b`.
            remedy: what to do.
        """
        self.found, self.expected, self.known, self.remedy = found, expected, known, remedy
        parts = (found, f"expected {expected}" if expected else "", known, remedy)
        super().__init__("\n  ".join(part for part in parts if part))


class InputError(RefsynthError, ValueError):
    """The user's input is wrong. It is also a ValueError, which Python callers expect."""

    exit_code = 2


class ArgumentError(InputError):
    """An argument of a call in Python is wrong."""


class DamagedError(InputError):
    """A file that refsynth wrote was changed or damaged; the code that can make it again does so."""


class ConfigError(InputError):
    """task.yaml, an override or an option is wrong."""


class DataError(InputError):
    """A data file is wrong."""


class BundleError(InputError):
    """A bundle is damaged, changed or not a bundle."""


class GateError(RefsynthError):
    """A gate said no."""

    exit_code = 3


class AccessError(RefsynthError):
    """A caller of the server is refused. `reason` is one word, fit for a metric's label; `status` is an HTTP status."""

    def __init__(self, found: str, *, reason: str, status: int) -> None:
        super().__init__(found)
        self.reason, self.status = reason, status


class MissingError(RefsynthError):
    """Something that must be installed, fetched or started is not there."""

    exit_code = 4


class ExtraError(MissingError):
    """An optional dependency is not installed."""


class ModelError(MissingError):
    """Model weights are absent or do not match their hash."""


class EndpointError(MissingError):
    """A reference endpoint refuses, fails or answers nonsense."""


class RecordError(MissingError):
    """The database of predictions and feedback is not there, busy, or of another version."""


def counted(number: int, noun: str) -> str:
    """Return `1 row` or `1,234 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the known word closest to `word`; empty if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""
