"""The server's guards as protocols: API keys, quotas, record and tracer; and the versions of an open server, which do nothing.

The app calls `KeyChecker.check`, `Limiter.take` and `Recorder.predictions` on the event loop: they return well within a
millisecond and never wait for a disk or a network. `Recorder.feedback` runs in a thread and returns when the feedback is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from refsynth.core.errors import RefsynthError
from refsynth.service.http.auth import SCOPES, Scope


class UnknownRequestError(RefsynthError):
    """Feedback for a prediction that this key never got, or that is no longer stored."""


class Caller(NamedTuple):
    """The caller's key. `id` names it in logs, quotas and the record; it is not the secret."""

    id: str
    scopes: frozenset[Scope]


class KeyChecker(Protocol):
    """Checks API keys."""

    @property
    def required(self) -> bool:
        """Whether a request without a key is refused."""
        ...

    def check(self, presented: str | None) -> Caller | None:
        """Return the caller, or None if the key is absent, unknown, expired or revoked.

        Raises:
            RefsynthError: keys cannot be checked now.
        """
        ...


class Limiter(Protocol):
    """Holds the quota of each key, across all workers."""

    def take(self, key: str, n: int) -> float:
        """Take `n` texts from the quota of a key id; return 0, or the seconds to wait if nothing was taken."""
        ...


@dataclass(frozen=True, slots=True)
class ServedText:
    """One answered text. `text` is as sent, and only set if texts are kept; `version` names the bundle.

    `none` tells whether the text is unlike the training rows of every label.
    """

    request_id: str
    row: int
    key: str
    label: str
    probability: float
    abstain: bool
    tier: str
    version: str
    text: str | None = None
    none: bool = False


class StoredFeedback(NamedTuple):
    """A stored feedback: the correct label, the predicted one, and the redacted text if it was kept."""

    request_id: str
    row: int
    label: str
    predicted: str | None
    text: str | None
    time: datetime


Outcome = Literal["stored", "repeated", "changed"]
"""What feedback did: it is new, was already there, or replaced another label for the same text."""


class RecordStatus(NamedTuple):
    """State of the record: answers `taken`, `written` and `dropped` so far, database `errors`, and why it fails now, if so."""

    taken: int = 0
    written: int = 0
    dropped: int = 0
    errors: int = 0
    failing: str = ""


class Recorder(Protocol):
    """Stores answers and feedback. Redacts texts before it stores them."""

    @property
    def enabled(self) -> bool:
        """Whether anything is stored."""
        ...

    @property
    def texts(self) -> bool:
        """Whether texts are stored too."""
        ...

    def predictions(self, served: Sequence[ServedText]) -> None:
        """Take the answers of a request, to be written soon; never waits, never raises."""
        ...

    def status(self) -> RecordStatus:
        """Return the state of the record at once."""
        ...

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> Outcome:
        """Write the correct label of a row of an earlier request, and return when it is on disk.

        Raises:
            UnknownRequestError: this key got no such answer.
            RefsynthError: the feedback could not be written.
        """
        ...

    def recent(self, n: int) -> Sequence[StoredFeedback]:
        """Return the latest feedback, newest first.

        Raises:
            RefsynthError: the record does not answer.
        """
        ...

    def close(self) -> None:
        """Write the answers that are still queued, and close."""
        ...


class OpenKeys:
    """No keys: every caller may do everything."""

    required = False

    def check(self, presented: str | None) -> Caller | None:
        """Return the same caller, with all scopes, for every request."""
        return Caller("open", frozenset(SCOPES))


class NoLimit:
    """No quota."""

    def take(self, key: str, n: int) -> float:
        """Return 0."""
        return 0.0


class NoRecord:
    """Stores nothing; the app then refuses feedback."""

    enabled = False
    texts = False

    def predictions(self, served: Sequence[ServedText]) -> None:
        """Do nothing."""

    def status(self) -> RecordStatus:
        """Return zeros."""
        return RecordStatus()

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> Outcome:
        """Do nothing."""
        return "stored"

    def recent(self, n: int) -> Sequence[StoredFeedback]:
        """Return nothing."""
        return ()

    def close(self) -> None:
        """Do nothing."""


class Tracer(Protocol):
    """Takes a span for each request, without its texts."""

    def request(self, name: str, attributes: Mapping[str, Any], *, parent: str, start: int, end: int) -> None:
        """Take the span of a finished request, from `start` to `end` (nanoseconds since 1970); never waits."""
        ...

    def close(self) -> None:
        """Send the spans that are still queued, and close."""
        ...


@dataclass(frozen=True)
class Guards:
    """All guards. The default is an open server that stores and sends nothing."""

    keys: KeyChecker = field(default_factory=OpenKeys)
    limiter: Limiter = field(default_factory=NoLimit)
    recorder: Recorder = field(default_factory=NoRecord)
    tracer: Tracer | None = None
