"""The record: predictions, and people's feedback on them, in SQLite or PostgreSQL.

`add_feedback` returns when the feedback is on disk; feedback that is sent twice is stored once. A server's predictions come in
batches from `writer`. Texts are stored only if the record is opened with a function that redacts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from refsynth.core.errors import InputError
from refsynth.data.text import clean
from refsynth.service.monitor import migrate
from refsynth.service.monitor.database import erase, open_engine, translated
from refsynth.service.monitor.schema import ID_LENGTH, LABEL_LENGTH, NAME_LENGTH, feedback, predictions

Tables = Literal["make", "check", "trust"]

_ID = re.compile(r"[A-Za-z0-9._:-]*")
_READ = 5_000  # rows read at once
_CHUNK = 2_000  # rows deleted in one transaction, so that writers do not wait long

_SAME_ROW = sa.and_(predictions.c.request_id == feedback.c.request_id, predictions.c.row == feedback.c.row)


@dataclass(frozen=True, slots=True)
class Predicted:
    """The prediction for one text of a request.

    `model` is the version of the bundle, `tier` the tier that answered, `source` the caller, such as the id of an API key; `none`
    tells whether the text is unlike the training rows of every label.
    """

    request_id: str
    row: int
    label: str
    probability: float
    abstained: bool
    model: str
    tier: str
    source: str = ""
    text: str | None = None
    none: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """The correct label for one text of an earlier request. `source` is the caller, such as the id of an API key."""

    request_id: str
    row: int
    label: str
    source: str = ""


class FeedbackOutcome(StrEnum):
    """What feedback did: it is new, was already there, or replaced another label."""

    stored = "stored"
    repeated = "repeated"
    changed = "changed"


class FeedbackRow(NamedTuple):
    """A stored feedback with its prediction, if that is still stored."""

    request_id: str
    row: int
    label: str
    source: str
    updated: datetime
    predicted: str | None
    probability: float | None
    model: str | None
    text: str | None


class Summary(NamedTuple):
    """Counts since a time. `compared` feedbacks still have a prediction; `agreed` of them have the predicted label."""

    predictions: dict[str, int]
    abstained: int
    none: int
    feedback: int
    compared: int
    agreed: int


class Purged(NamedTuple):
    """Numbers of deleted rows, and whether their bytes were overwritten."""

    predictions: int
    feedback: int
    erased: bool = False


class PredictionRecord:
    """An open record; threads may share it, processes open their own."""

    def __init__(self, engine: sa.Engine, *, redact: Callable[[str], str] | None, clock: Callable[[], datetime]) -> None:
        self._engine, self._redact, self._clock = engine, redact, clock
        self._reader = engine.execution_options(reads=True)
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        redact: Callable[[str], str] | None = None,
        tables: Tables = "make",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """Open a record.

        Args:
            where: a SQLite file, or a URL such as `postgresql://user@host/name`.
            redact: turns a text into what may be stored; None stores no texts.
            tables: `make` creates or migrates the file and the tables; `check` changes nothing and refuses tables of another
                version; `trust` does not even connect, so that a worker can start while the database is unreachable.
            clock: returns the current time.

        Raises:
            InputError: `where` is neither a file nor a valid URL.
            RecordError: the database does not answer, or its tables are of another version.
        """
        engine = open_engine(where, create=tables == "make")
        try:
            with translated(engine.url):
                if tables != "trust":
                    migrate.upgrade(engine) if tables == "make" else migrate.check(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, redact=redact, clock=clock)

    def add_predictions(self, rows: Sequence[Predicted]) -> None:
        """Store predictions. One with the same request id and row as a stored one is ignored.

        Raises:
            InputError: an id, row or label cannot be stored.
            RecordError: the database failed; nothing was stored.
        """
        created = self._clock()
        values = {_key(row): self._prediction(row) | {"created": created} for row in rows}
        if values:
            with self._writing() as connection:
                connection.execute(self._insert(predictions).on_conflict_do_nothing(), [values[key] for key in sorted(values)])

    def add_feedback(self, rows: Sequence[Feedback]) -> list[FeedbackOutcome]:
        """Store feedback on disk, and return the outcome of each row, in order. The last row for a text counts.

        Raises:
            InputError: an id, row or label cannot be stored; nothing was stored.
            RecordError: the database failed; retrying is safe.
        """
        now = self._clock()
        values = {
            _key(row): {
                "request_id": row.request_id,
                "row": row.row,
                "label": _printable(row.label, "label", LABEL_LENGTH),
                "source": _id(row.source, "source", NAME_LENGTH),
                "created": now,
                "updated": now,
                "revision": 1,
            }
            for row in rows
        }
        if not values:
            return []
        insert = self._insert(feedback)
        new = insert.excluded
        upsert = insert.on_conflict_do_update(
            index_elements=[feedback.c.request_id, feedback.c.row],
            set_={"label": new.label, "source": new.source, "updated": new.updated, "revision": feedback.c.revision + 1},
            where=feedback.c.label != new.label,
        ).returning(feedback.c.request_id, feedback.c.row, feedback.c.revision)
        with self._writing() as connection:  # sorted, so that two writers cannot deadlock
            written = connection.execute(upsert, [values[key] for key in sorted(values)]).all()
        outcome = {
            (request_id, row): FeedbackOutcome.changed if revision > 1 else FeedbackOutcome.stored
            for request_id, row, revision in written
        }
        return [outcome.get(_key(row), FeedbackOutcome.repeated) for row in rows]

    def holds(self, request_id: str, row: int) -> bool:
        """Return whether a prediction is stored."""
        query = sa.select(predictions.c.row).where(predictions.c.request_id == request_id, predictions.c.row == row)
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def recent_feedback(self, n: int) -> list[FeedbackRow]:
        """Return the latest feedback, newest first."""
        with self._reading() as connection:
            rows = connection.execute(_with_feedback().order_by(feedback.c.updated.desc()).limit(n))
            return [_feedback_row(*row) for row in rows]

    def all_feedback(self, *, since: datetime | None = None) -> Iterator[list[FeedbackRow]]:
        """Yield all feedback since a time in chunks, oldest first."""
        query = _with_feedback().order_by(feedback.c.updated, feedback.c.request_id, feedback.c.row)
        yield from self._chunks(query if since is None else query.where(feedback.c.updated >= since))

    def unsure(self, *, since: datetime | None = None) -> Iterator[list[FeedbackRow]]:
        """Yield abstained predictions without feedback since a time in chunks, oldest first; their label is empty."""
        query = _without_feedback().order_by(predictions.c.created, predictions.c.request_id, predictions.c.row)
        yield from self._chunks(query if since is None else query.where(predictions.c.created >= since))

    def _chunks(self, query: sa.Select[*tuple[Any, ...]]) -> Iterator[list[FeedbackRow]]:
        with self._reading() as connection:
            for part in connection.execution_options(yield_per=_READ).execute(query).partitions():
                yield [_feedback_row(*row) for row in part]

    def summary(self, *, since: datetime) -> Summary:
        """Return counts since a time."""
        count = sa.func.count()
        label_counts = (
            sa.select(predictions.c.label, count, count.filter(predictions.c.abstained), count.filter(predictions.c.none))
            .where(predictions.c.created >= since)
            .group_by(predictions.c.label)
            .order_by(predictions.c.label)
        )
        same = count.filter(predictions.c.label == feedback.c.label)
        feedback_counts = (
            sa.select(count, sa.func.count(predictions.c.label), same)
            .select_from(feedback.outerjoin(predictions, _SAME_ROW))
            .where(feedback.c.updated >= since)
        )
        with self._reading() as connection:
            by_label = connection.execute(label_counts).all()
            n, compared, agreed = connection.execute(feedback_counts).one()
        abstained, none = (sum(row[column] for row in by_label) for column in (2, 3))
        return Summary({row[0]: row[1] for row in by_label}, abstained, none, n, compared, agreed)

    def purge(self, *, before: datetime) -> Purged:
        """Delete predictions created, and feedback last changed, before a time; in SQLite also overwrite them.

        Overwriting waits some seconds for readers.
        """
        purged = Purged(
            self._delete(predictions, predictions.c.created < before), self._delete(feedback, feedback.c.updated < before)
        )
        with translated(self._engine.url):
            return purged._replace(erased=erase(self._engine))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _delete(self, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
        keys = sa.tuple_(table.c.request_id, table.c.row)
        chosen = sa.select(table.c.request_id, table.c.row).where(condition).limit(_CHUNK)
        total = 0
        while True:
            with self._writing() as connection:
                n = connection.execute(sa.delete(table).where(keys.in_(chosen))).rowcount
            total += n
            if n < _CHUNK:
                return total

    def _prediction(self, row: Predicted) -> dict[str, object]:
        if not 0 <= row.probability <= 1:
            raise InputError("a probability that cannot be stored", expected="a number from 0 to 1")
        return {
            "request_id": row.request_id,
            "row": row.row,
            "source": _id(row.source, "source", NAME_LENGTH),
            "model": _printable(row.model, "model", NAME_LENGTH),
            "tier": _printable(row.tier, "tier", NAME_LENGTH),
            "label": _printable(row.label, "label", LABEL_LENGTH),
            "probability": row.probability,
            "abstained": row.abstained,
            "none": row.none,
            "text": None if self._redact is None or row.text is None else self._redact(clean(row.text)),
        }

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with translated(self._engine.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with translated(self._engine.url), self._reader.connect() as connection:
            yield connection


def _with_feedback() -> sa.Select[*tuple[Any, ...]]:
    """Select feedback and its predictions, as the columns of a FeedbackRow."""
    columns = [feedback.c[name] for name in ("request_id", "row", "label", "source", "updated")]
    columns += [predictions.c[name] for name in ("label", "probability", "model", "text")]
    return sa.select(*columns).select_from(feedback.outerjoin(predictions, _SAME_ROW))


def _without_feedback() -> sa.Select[*tuple[Any, ...]]:
    """Select abstained predictions without feedback, as the columns of a FeedbackRow with an empty label."""
    columns: list[sa.ColumnElement[Any]] = [predictions.c.request_id, predictions.c.row, sa.literal("").label("label")]
    columns += [predictions.c[name] for name in ("source", "created", "label", "probability", "model", "text")]
    query = sa.select(*columns).select_from(predictions.outerjoin(feedback, _SAME_ROW))
    return query.where(predictions.c.abstained, feedback.c.request_id.is_(None))


def owned(source: str, request_id: str) -> str:
    """Return the id under which a caller's request is stored. It holds the caller, because two may choose the same id."""
    return f"{source}:{request_id}" if source else request_id


def _feedback_row(request_id: str, row: int, label: str, source: str, *columns: Any) -> FeedbackRow:
    return FeedbackRow(request_id.removeprefix(owned(source, "")), row, label, source, *columns)


def _key(row: Predicted | Feedback) -> tuple[str, int]:
    if not 0 <= row.row < 2**31 or not row.request_id:
        raise InputError("a row needs a request id and a number from 0", remedy="send those of the prediction")
    return _id(row.request_id, "request id", ID_LENGTH), row.row


def _id(value: str, what: str, longest: int) -> str:
    if len(value) > longest or not _ID.fullmatch(value):
        raise InputError(f"a {what} that cannot be stored", expected=f"at most {longest} letters, digits and . _ : -")
    return value


def _printable(value: str, what: str, longest: int) -> str:
    if not value or len(value) > longest or clean(value) != value:
        raise InputError(f"a {what} that cannot be stored", expected=f"1 to {longest} printable characters")
    return value
