"""Migrate a database to this version's tables, in one transaction and under a lock: all workers may try at once."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from refsynth.core.errors import RecordError

_LOCK = 0x72656673796E7468  # "refsynth" in ASCII: the key of PostgreSQL's advisory lock


def check(engine: sa.Engine) -> None:
    """Check that the tables are those of this version. Changes nothing.

    Raises:
        RecordError: they are not.
    """
    revision, head = _revision(engine), _head(_config())
    if revision != head:
        what = "has no tables yet" if revision is None else f"has the tables of revision {revision}, not {head}"
        raise RecordError(f"{engine.url.render_as_string()}: {what}", remedy="bring it up to date: refsynth record upgrade")


def upgrade(engine: sa.Engine) -> None:
    """Create or migrate the tables. Does nothing if they are up to date.

    Raises:
        RecordError: a newer refsynth created them.
    """
    config = _config()
    if _revision(engine) == _head(config):
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            revision = MigrationContext.configure(connection).get_current_revision()
            raise RecordError(
                f"{engine.url.render_as_string()}: its tables have the revision {revision}",
                expected=f"at most {_head(config)}",
                remedy="a newer refsynth wrote it: install that one, or name another database",
            ) from error


def _revision(engine: sa.Engine) -> str | None:
    with engine.execution_options(reads=True).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _head(config: Config) -> str:
    return str(ScriptDirectory.from_config(config).get_current_head())


def _config() -> Config:
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
