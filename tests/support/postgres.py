"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, never as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Crash safety of the server is its own authors' to test; here it is to be quick.
QUICK = "-c fsync=off -c shared_buffers=16MB -c max_connections=40 -c listen_addresses="


def programs() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`: on the path, or where Debian puts them."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return installed[-1].parent if installed else None


def account() -> str | None:
    """Return who may run the server: this user, or for root another."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


class Server:
    """A running server."""

    def __init__(self, folder: Path, binaries: Path, user: str) -> None:
        self.folder, self._binaries, self._user = folder, binaries, user

    def run(self, program: str, *arguments: str) -> None:
        # pg_ctl's server keeps the descriptors that it gets, so its output must not be a pipe that somebody reads to its end.
        other = {"user": self._user} if os.getuid() == 0 else {}
        log = self.folder / "log"
        with log.open("ab") as stream:
            subprocess.run(
                [self._binaries / program, *arguments],
                check=True,
                stdout=stream,
                stderr=stream,
                cwd=self.folder,
                timeout=120,
                **other,
            )

    def start(self) -> None:
        options = f"{QUICK} -c unix_socket_directories={self.folder}"
        self.run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "stop", "-w", "-D", str(self.folder / "data"), "-m", mode)

    def url(self) -> str:
        """Empty the database and return where it is: a new one for each test has a thousand files to delete."""
        empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        self.run("psql", "-h", str(self.folder), "-U", "tester", "-d", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-c", empty)
        return f"postgresql://tester@/postgres?host={self.folder}"


@contextmanager
def running(binaries: Path, user: str) -> Iterator[Server]:
    # Not pytest's folder: a socket's path has at most 107 characters, and the other user must get there.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = Server(folder, binaries, user)
    try:
        (folder / "log").touch()
        if os.getuid() == 0:
            owner = pwd.getpwnam(user)
            for path in (folder, folder / "log"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        server.run("initdb", "-D", str(folder / "data"), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
