"""The protection of a server, made from the options of `refsynth serve`: keys, quotas, the record, traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, HttpUrl, ValidationError, model_validator

from refsynth.core.errors import AccessError
from refsynth.service.http.auth import Amount, FileKeyChecker
from refsynth.service.http.interfaces import (
    Caller,
    Guards,
    NoRecord,
    OpenKeys,
    Outcome,
    RecordStatus,
    ServedText,
    StoredFeedback,
    UnknownRequestError,
)
from refsynth.service.http.limits import Quota, SharedLimiter
from refsynth.service.http.names import NameFinder
from refsynth.service.http.settings import refused_options
from refsynth.service.http.traces import Traces

if TYPE_CHECKING:
    from refsynth.service.monitor.record import PredictionRecord


class Protection(BaseModel):
    """The options. `rate` is in texts per second, for keys without their own quota; workers set `language` from the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Path | None = None
    rate: Amount | None = None
    burst: Amount | None = None
    record: str | None = None
    keep_texts: bool = False
    language: str = ""
    names: str | None = None
    traces: HttpUrl | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.names is not None and not (self.keep_texts and self.record):
            raise ValueError("--redact-names works on stored texts: it needs --record and --keep-texts")
        return self


def compose(options: Mapping[str, Any], shared: Path) -> Guards:
    """Open the files and databases that the options, fields of `Protection`, name; workers share the folder `shared`.

    Raises:
        InputError: the file of keys, the file of quotas or the record cannot be opened.
    """
    chosen = Protection.model_validate(options)
    quotas = Quotas(SharedLimiter(shared / "quotas"), _quota(chosen.rate, chosen.burst))
    return Guards(
        keys=OpenKeys() if chosen.keys is None else Keys(FileKeyChecker(chosen.keys), quotas),
        limiter=quotas,
        recorder=NoRecord() if chosen.record is None else _recorder(chosen.record, chosen),
        tracer=None if chosen.traces is None else Traces(str(chosen.traces)),
    )


def _quota(rate: float | None, burst: float | None) -> Quota | None:
    return None if rate is None else Quota(rate, burst or max(1.0, rate))


class Quotas:
    """The quotas of all keys: a key's own, or the server's."""

    def __init__(self, limiter: SharedLimiter, common: Quota | None) -> None:
        self._limiter, self._common = limiter, common
        self._own: dict[str, Quota | None] = {}

    def know(self, key: str, own: Quota | None) -> None:
        """Remember a key's own quota; None if it has none."""
        self._own[key] = own

    def take(self, key: str, n: int) -> float:
        """Take `n` texts from the key's quota; return 0, or the seconds to wait if nothing was taken."""
        quota = self._own.get(key) or self._common
        return 0.0 if quota is None else self._limiter.take(key, quota, n)


class Keys:
    """Checks keys against the key file, and remembers the quotas in it."""

    required = True

    def __init__(self, checker: FileKeyChecker, quotas: Quotas) -> None:
        self._checker, self._quotas = checker, quotas

    def check(self, presented: str | None) -> Caller | None:
        """Return the caller that a key belongs to; None if the key is not valid.

        Raises:
            AccessError: keys cannot be checked at the moment.
        """
        try:
            key = self._checker.identify(presented)
        except AccessError as error:
            if error.status == 401:
                return None
            raise
        self._quotas.know(key.id, _quota(key.rate, key.burst))
        return Caller(key.id, frozenset(key.scopes))


class DatabaseRecorder:
    """Records in a database: predictions by a thread, feedback at once."""

    enabled = True

    def __init__(self, record: PredictionRecord, *, texts: bool, keyed: bool) -> None:
        from refsynth.service.monitor.writer import PredictionWriter

        self.texts, self._keyed, self._record, self._writer = texts, keyed, record, PredictionWriter(record)

    def predictions(self, served: Sequence[ServedText]) -> None:
        """Queue answers to be written. They are dropped while the database cannot keep up."""
        from refsynth.service.monitor.record import Predicted, owned

        self._writer.put(
            [
                Predicted(
                    request_id=owned(one.key, one.request_id),
                    row=one.row,
                    label=one.label,
                    probability=one.probability,
                    abstained=one.abstain,
                    none=one.none,
                    model=one.version,
                    tier=one.tier,
                    source=one.key,
                    text=one.text,
                )
                for one in served
            ]
        )

    def status(self) -> RecordStatus:
        """Return how many answers were written, dropped and so on."""
        return RecordStatus(*self._writer.counts)

    def feedback(self, *, request_id: str, row: int, label: str, key: str) -> Outcome:
        """Write feedback; return once it is on disk.

        Raises:
            UnknownRequestError: this key got no such answer. Without keys every answer belongs to the one caller.
            RecordError: it could not be written.
        """
        from refsynth.service.monitor.record import Feedback, owned

        request_id = owned(key, request_id)
        if self._keyed and not self._record.holds(request_id, row):
            raise UnknownRequestError("this key got no answer with this request_id and row, or it is no longer kept")
        (outcome,) = self._record.add_feedback([Feedback(request_id, row, label, source=key)])
        return outcome.value

    def recent(self, n: int) -> Sequence[StoredFeedback]:
        """Return the last `n` feedback entries, newest first.

        Raises:
            RecordError: the record does not answer.
        """
        entries = self._record.recent_feedback(n)
        return [StoredFeedback(one.request_id, one.row, one.label, one.predicted, one.text, one.updated) for one in entries]

    def close(self) -> None:
        """Write the queued answers and close the database."""
        self._writer.close()
        self._record.close()


def _recorder(where: str, chosen: Protection) -> DatabaseRecorder:
    from refsynth.service.http.redact import Redactor
    from refsynth.service.monitor.record import PredictionRecord

    names = None if chosen.names is None else NameFinder(chosen.names)
    redactor = Redactor(language=chosen.language, names=names) if chosen.keep_texts else None
    redact = None if redactor is None else redactor.redact
    return DatabaseRecorder(
        PredictionRecord.open(where, redact=redact, tables="trust"), texts=chosen.keep_texts, keyed=chosen.keys is not None
    )


def prepare(options: Mapping[str, Any]) -> None:
    """Check what the options name, before the first worker needs it, and create the tables of a SQLite record.

    The owner of any other database creates its tables with `refsynth record upgrade`.

    Raises:
        RefsynthError: an option is wrong, an extra is missing, or the record cannot be used: not a record, busy, another version.
    """
    from refsynth.service.monitor.record import PredictionRecord

    try:
        chosen = Protection.model_validate(options)
    except ValidationError as error:
        raise refused_options(error) from error
    if chosen.record is not None:
        PredictionRecord.open(chosen.record, tables="check" if "://" in chosen.record else "make").close()
    if chosen.names is not None:
        NameFinder(chosen.names)
    if chosen.traces is not None:
        Traces(str(chosen.traces)).close()
