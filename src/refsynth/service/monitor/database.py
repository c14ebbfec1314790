"""The record's database: a SQLite file, or PostgreSQL. Opens it and maps its errors; knows no tables."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL

from refsynth.core.errors import InputError, RecordError

BUSY = 5  # seconds to wait for a database that is locked or does not answer


def open_engine(where: str | Path, *, create: bool) -> sa.Engine:
    """Return an engine for a SQLite file, or for a URL such as `postgresql://user@host/name`.

    Args:
        where: the file or the URL.
        create: whether to create a missing SQLite file. Only its owner can read it, because it may hold texts.

    Raises:
        InputError: the URL is invalid, or of another kind of database.
        RecordError: the file does not exist.
    """
    url = _url(where)
    if url.get_backend_name() == "postgresql":
        milliseconds = BUSY * 1000
        options = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        arguments = {"connect_timeout": BUSY} | ({} if "options" in url.query else {"options": options})
        return sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    with translated(url):
        os.close(os.open(str(url.database), os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600))
    engine = sa.create_engine(url, connect_args={"timeout": BUSY}, hide_parameters=True)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _url(where: str | Path) -> URL:
    if "://" not in str(where):
        return URL.create("sqlite", database=str(where))
    try:
        url = sa.make_url(str(where))
    except (sa.exc.ArgumentError, ValueError) as error:
        raise InputError("the record's URL is not a URL", expected="a file, or postgresql://user@host/name") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg") or not url.database or url.database == ":memory:":
        shown = url.render_as_string()
        raise InputError(f"{shown}: no database that the record can use", expected="a SQLite file or postgresql://user@host/name")
    return url


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin` starts transactions, not the driver
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")  # commits survive a power cut
    connection.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten in the file


def _write_ahead(connection: sqlite3.Connection) -> None:
    # The journal mode changes once, in a new file. For this statement SQLite ignores the timeout: it fails at once if another
    # process has the lock. The low byte of an error code is its kind; the other bytes give details.
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first cannot wait for the write lock later, so writers take it at the start.
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def erase(engine: sa.Engine) -> bool:
    """Overwrite deleted rows in SQLite's write-ahead log; return whether that succeeded.

    The log keeps rows that an open reader may still need. PostgreSQL removes deleted rows by itself, later.
    """
    if engine.dialect.name != "sqlite":
        return False
    until = time.monotonic() + BUSY
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        while True:
            try:
                (busy, *_) = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                busy = 1
            if not busy or time.monotonic() > until:
                return not busy
            time.sleep(0.05)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn database errors into RecordError. Messages about a value leave it out, because it may be a user's text.

    Raises:
        RecordError: the database failed.
    """
    shown = url.render_as_string()
    remedy = "is it there, running, and are you allowed in?"
    try:
        yield
    except OSError as error:
        raise RecordError(f"{shown}: {error.strerror}", remedy=remedy) from error
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        raise RecordError(f"{shown}: {str(error.orig).splitlines()[0]}", remedy=remedy) from error
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", "")
        raise RecordError(f"{shown}: {type(error.orig).__name__} {code}".strip()) from None
    except sa.exc.TimeoutError as error:
        raise RecordError(f"{shown}: no connection was free in time", remedy="the database is too slow for its load") from error
