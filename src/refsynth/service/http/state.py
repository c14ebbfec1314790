"""The folder of a running server: copies of its bundles, the control socket, metrics and quotas.

A bundle is copied before it is opened, so later changes to the original affect neither a restarted worker nor a rollback. The
copy includes the manifest with its hashes, so a copy made during a write is refused like any damaged bundle. The copy's files are
held open: if somebody clears the folder, such as a cleaner of temporary files, it is restored from them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from refsynth.core.errors import BundleError, ConfigError

MANIFEST = "manifest.json"
LOCK = "refsynth.lock"
CONTROL = "control.sock"
ANOTHER = "name another folder with --state"
MOST_FILES = 64
MOST_ADDRESS = 100
MOST_BYTES = 8 << 30


def default_folder(port: int) -> Path:
    """Return the default state folder of a server on `port`: below the user's runtime folder, or else in a temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "refsynth" if runtime else Path(tempfile.gettempdir()) / f"refsynth-{os.getuid()}"
    return base / str(port)


@contextlib.contextmanager
def control_address(control: Path) -> Iterator[str]:
    """Yield an address to bind or connect a control socket to, even if its path is long.

    The address of a Unix socket has at most 107 bytes. A longer path goes through its open folder (Linux only).
    """
    if len(os.fsencode(control)) <= MOST_ADDRESS:
        yield str(control)
        return
    folder = os.open(control.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{control.name}"
    finally:
        os.close(folder)


class ServerState:
    """The folder, locked by one server."""

    def __init__(self, folder: Path) -> None:
        """Create and lock the folder.

        Raises:
            ConfigError: the folder belongs to another user or server, or cannot be used.
        """
        self.folder = folder
        try:
            for path in (folder.parent, folder):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check()
            self._lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another server uses it", remedy=ANOTHER) from error
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be used ({error.strerror})", remedy=ANOTHER) from error
        folder.chmod(0o700)
        self._copies = 0
        self._held: dict[Path, dict[str, int]] = {}
        self._clear()
        for path in self._folders:
            path.mkdir()

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.metrics, self.bundles, self.shared

    @property
    def metrics(self) -> Path:
        """The folder to which workers write their metrics."""
        return self.folder / "metrics"

    @property
    def bundles(self) -> Path:
        """The folder of the copies."""
        return self.folder / "bundles"

    @property
    def shared(self) -> Path:
        """The folder that the guards of all workers share."""
        return self.folder / "shared"

    @property
    def control(self) -> Path:
        """The socket that `refsynth reload` connects to."""
        return self.folder / CONTROL

    def copy(self, bundle: Path) -> Path:
        """Copy a bundle and return the copy.

        Raises:
            BundleError: it is not a bundle, or cannot be read.
        """
        self._copies += 1
        copy = self.bundles / str(self._copies)
        try:
            _check_plain(bundle)
            shutil.copytree(bundle, copy, symlinks=True)
            self._held[copy] = {path.name: os.open(path, os.O_RDONLY | os.O_NOFOLLOW) for path in copy.iterdir()}
        except (OSError, shutil.Error) as error:
            shutil.rmtree(copy, ignore_errors=True)
            reason = getattr(error, "strerror", None) or "a file in it cannot be copied"
            raise BundleError(f"{bundle}: cannot be read ({reason})", expected=f"a bundle: a folder with {MANIFEST}") from error
        return copy

    def keep(self, *copies: Path) -> None:
        """Remove all copies but these."""
        for path in [path for path in self._held if path not in copies]:
            shutil.rmtree(path, ignore_errors=True)
            self._close_files(path)

    def complete(self) -> bool:
        """Tell whether every file and folder still exists."""
        files = (copy / name for copy, names in self._held.items() for name in names)
        return all(path.exists() for path in (self.folder / LOCK, self.control, *self._folders, *files))

    def restore(self) -> None:
        """Restore what is gone, except for the control socket.

        Raises:
            OSError: the folder cannot be created or written.
        """
        for path in (self.folder, *self._folders, *self._held):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.folder / LOCK).exists():
            os.close(self._lock)
            self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for copy, files in self._held.items():
            for name, held in files.items():
                if not (copy / name).exists():
                    _write(copy / name, held)

    def close(self) -> None:
        """Remove everything, and unlock the folder."""
        for copy in list(self._held):
            self._close_files(copy)
        self._clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):  # we may not be allowed to change the parent folder
            self.folder.rmdir()

    def _check(self) -> None:
        """Refuse a folder that others can change, or that holds foreign files: its content will be removed."""
        if self.folder.lstat().st_uid != os.getuid() or self.folder.parent.stat().st_uid not in (0, os.getuid()):
            raise ConfigError(f"{self.folder}: belongs to another user", remedy=ANOTHER)
        if not (self.folder / LOCK).exists() and any(self.folder.iterdir()):
            raise ConfigError(f"{self.folder}: not empty, and not the state folder of a server", remedy=ANOTHER)

    def _close_files(self, copy: Path) -> None:
        for held in self._held.pop(copy).values():
            os.close(held)

    def _clear(self) -> None:
        for path in self._folders:
            shutil.rmtree(path, ignore_errors=True)
        self.control.unlink(missing_ok=True)


def _write(path: Path, held: int) -> None:
    """Write the content of an open file, atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(held, "rb", closefd=False) as source, temporary.open("wb") as target:
        source.seek(0)
        shutil.copyfileobj(source, target)
    temporary.replace(path)


def _check_plain(bundle: Path) -> None:
    """Refuse a folder that cannot be a bundle, before gigabytes of it are copied."""
    if not (bundle / MANIFEST).is_file():
        raise BundleError(f"{bundle}: not a bundle, {MANIFEST} is missing", remedy="name the folder `bundle` of a run")
    files = [path.lstat() for path in bundle.iterdir()]
    plain = all(stat.S_ISREG(file.st_mode) for file in files)
    if not plain or len(files) > MOST_FILES or sum(file.st_size for file in files) > MOST_BYTES:
        raise BundleError(f"{bundle}: holds what no bundle holds", expected="a few plain files")
