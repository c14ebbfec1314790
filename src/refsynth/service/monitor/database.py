"""The database behind the record: SQLite in one file, or PostgreSQL. Opens it and maps its errors; knows no tables."""

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

BUSY = 5  # seconds to wait for a database that others write to, or that does not answer


def open_engine(where: str | Path, *, create: bool) -> sa.Engine:
    """Return an engine for a SQLite file, or for a URL such as `postgresql://user@host/name`.

    Args:
        where: the file or the URL.
        create: whether a SQLite file may be made. Only its owner can read it: it may hold texts.

    Raises:
        InputError: the URL is none, or of another kind of database.
        RecordError: the file is not there.
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
        raise InputError("the record's URL is not one", expected="a file, or postgresql://user@host/name") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg") or not url.database or url.database == ":memory:":
        shown = url.render_as_string()
        raise InputError(f"{shown}: no database that the record can use", expected="a SQLite file or postgresql://user@host/name")
    return url


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver's guess
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")  # what is committed survives a power cut too
    connection.execute("PRAGMA secure_delete = ON")  # what retention deletes is gone from the file


def _write_ahead(connection: sqlite3.Connection) -> None:
    # A new file changes its journal once, and of all statements SQLite lets this one fail at once where another has the lock.
    # The low byte of a code is its kind; the others tell of what it was busy with.
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
    # A transaction that reads first and writes later cannot wait for the lock, so writers take it at once.
    reads = connection.get_execution_options().get("reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def erase(engine: sa.Engine) -> bool:
    """Overwrite what was deleted; return whether that is done.

    SQLite's write-ahead log still holds it, and while somebody reads, what he may need stays there. PostgreSQL does it later.
    """
    if engine.dialect.name != "sqlite":
        return False
    until = time.monotonic() + BUSY
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        while True:  # outside a transaction
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
    """Turn errors of the database into RecordError. Those of a value keep the value out: it may be someone's text.

    Raises:
        RecordError: the block failed in the database.
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
        raise RecordError(f"{shown}: no connection was free in time", remedy="it is too slow for what is asked of it") from error
