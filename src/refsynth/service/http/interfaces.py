"""What the server is given from outside: who may call, how often, what is kept. And the open versions of these.

The app calls `KeyChecker.check`, `Limiter.take` and `Recorder.predictions` on the event loop: they answer at once (well under a
millisecond) and never wait for a disk or a network. `Recorder.feedback` runs in a thread and returns when the feedback is safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from refsynth.core.errors import RefsynthError
from refsynth.service.http.auth import SCOPES, Scope


class UnknownRequestError(RefsynthError):
    """Feedback for what its key was never answered, or what is no longer kept."""


class Caller(NamedTuple):
    """Who calls. `id` names the key in logs, quotas and the record; it is not the secret."""

    id: str
    scopes: frozenset[Scope]


class KeyChecker(Protocol):
    """Knows the API keys."""

    @property
    def required(self) -> bool:
        """Whether a request without a key is refused."""
        ...

    def check(self, presented: str | None) -> Caller | None:
        """Return whose key was presented, or None where it is absent, unknown, expired or revoked.

        Raises:
            RefsynthError: keys cannot be checked now.
        """
        ...


class Limiter(Protocol):
    """Holds the quota of each key, over all workers."""

    def take(self, key: str, n: int) -> float:
        """Take `n` texts from the quota of the key with this id; return 0, or the seconds to wait where nothing was taken."""
        ...


@dataclass(frozen=True, slots=True)
class ServedText:
    """One answered text. `text` is as it came, and set only where texts are kept; `version` names the bundle.

    `none` tells whether the text is unlike the training rows of all labels.
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
    """A stored feedback: the right label, what had been predicted, and the text where it was kept, redacted."""

    request_id: str
    row: int
    label: str
    predicted: str | None
    text: str | None
    time: datetime


Outcome = Literal["stored", "repeated", "changed"]
"""What became of feedback: it is new, was there already, or replaces another label for the same text."""


class RecordStatus(NamedTuple):
    """How the record does: answers `taken`, `written` and `dropped` so far, `errors` of the database, and why it fails now."""

    taken: int = 0
    written: int = 0
    dropped: int = 0
    errors: int = 0
    failing: str = ""


class Recorder(Protocol):
    """Keeps what was answered, and what the right answer would have been. Redacts texts before it stores them."""

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        ...

    @property
    def texts(self) -> bool:
        """Whether texts are kept too."""
        ...

    def predictions(self, served: Sequence[ServedText]) -> None:
        """Take the answers of a request for writing soon; never waits, never raises."""
        ...

    def status(self) -> RecordStatus:
        """Say how the record does; answers at once."""
        ...

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> Outcome:
        """Write the right label of a row of an earlier request, and return when it cannot be lost any more.

        Raises:
            UnknownRequestError: this key got no such answer.
            RefsynthError: it could not be written.
        """
        ...

    def recent(self, n: int) -> Sequence[StoredFeedback]:
        """Return the last feedback, the newest first.

        Raises:
            RefsynthError: the record does not answer.
        """
        ...

    def close(self) -> None:
        """Write what was taken and end."""
        ...


class OpenKeys:
    """No keys: everybody may do everything."""

    required = False

    def check(self, presented: str | None) -> Caller | None:
        """Return the one caller there is."""
        return Caller("open", frozenset(SCOPES))


class NoLimit:
    """No quota."""

    def take(self, key: str, n: int) -> float:
        """Let everything pass."""
        return 0.0


class NoRecord:
    """Keeps nothing; the app takes no feedback then."""

    enabled = False
    texts = False

    def predictions(self, served: Sequence[ServedText]) -> None:
        """Forget."""

    def status(self) -> RecordStatus:
        """Say that nothing happened."""
        return RecordStatus()

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> Outcome:
        """Forget."""
        return "stored"

    def recent(self, n: int) -> Sequence[StoredFeedback]:
        """Return nothing."""
        return ()

    def close(self) -> None:
        """Do nothing."""


class Tracer(Protocol):
    """Takes a span for each request, without its texts."""

    def request(self, name: str, attributes: Mapping[str, Any], *, parent: str, start: int, end: int) -> None:
        """Take the span of a request that is over, from `start` to `end` (nanoseconds since 1970); never waits."""
        ...

    def close(self) -> None:
        """Send what was taken and end."""
        ...


@dataclass(frozen=True)
class Guards:
    """All of them together; the default is an open server that keeps and sends nothing."""

    keys: KeyChecker = field(default_factory=OpenKeys)
    limiter: Limiter = field(default_factory=NoLimit)
    recorder: Recorder = field(default_factory=NoRecord)
    tracer: Tracer | None = None
