"""The folder of a running server: copies of the bundles that it serves, the control socket, metrics and quotas.

A bundle is copied before it is opened: what happens to the original afterwards touches neither a worker that starts again nor a
rollback. The copy carries the manifest, so one that was torn by a writer is refused like any damaged bundle. Its files are held
open: where somebody clears the folder (a cleaner of temporary files, say), it is made again from them.
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
    """Return where a server on a port keeps its state: in the user's runtime folder, or in one of his own for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "refsynth" if runtime else Path(tempfile.gettempdir()) / f"refsynth-{os.getuid()}"
    return base / str(port)


@contextlib.contextmanager
def reachable(control: Path) -> Iterator[str]:
    """Give the address of a control socket, to bind or to connect to, however long its path is.

    The address of a Unix socket has 107 bytes: a longer path goes through its open folder (Linux only).
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
    """The folder, held by one server."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and take it.

        Raises:
            ConfigError: it is another user's, or another server's.
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
        """Where workers write their metrics."""
        return self.folder / "metrics"

    @property
    def bundles(self) -> Path:
        """Where the copies are."""
        return self.folder / "bundles"

    @property
    def shared(self) -> Path:
        """What the guards of all workers share."""
        return self.folder / "shared"

    @property
    def control(self) -> Path:
        """The socket that `refsynth reload` speaks to."""
        return self.folder / CONTROL

    def copy(self, bundle: Path) -> Path:
        """Copy a bundle and return the copy.

        Raises:
            BundleError: it is no bundle or cannot be read.
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
            self._let_go(path)

    def whole(self) -> bool:
        """Tell whether everything is still there."""
        files = (copy / name for copy, names in self._held.items() for name in names)
        return all(path.exists() for path in (self.folder / LOCK, self.control, *self._folders, *files))

    def restore(self) -> None:
        """Make again what is gone, all but the control socket.

        Raises:
            OSError: the folder cannot be made or written.
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
        """Remove everything and let go."""
        for copy in list(self._held):
            self._let_go(copy)
        self._clear()
        (self.folder / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):  # the folder itself may be somewhere that is not ours to change
            self.folder.rmdir()

    def _check(self) -> None:
        """Refuse a folder that others can change, or that holds what is not ours: what is in it will be removed."""
        if self.folder.lstat().st_uid != os.getuid() or self.folder.parent.stat().st_uid not in (0, os.getuid()):
            raise ConfigError(f"{self.folder}: belongs to another user", remedy=ANOTHER)
        if not (self.folder / LOCK).exists() and any(self.folder.iterdir()):
            raise ConfigError(f"{self.folder}: not empty, and no state of a server", remedy=ANOTHER)

    def _let_go(self, copy: Path) -> None:
        for held in self._held.pop(copy).values():
            os.close(held)

    def _clear(self) -> None:
        for path in self._folders:
            shutil.rmtree(path, ignore_errors=True)
        self.control.unlink(missing_ok=True)


def _write(path: Path, held: int) -> None:
    """Write what an open file holds; it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(held, "rb", closefd=False) as source, temporary.open("wb") as target:
        source.seek(0)
        shutil.copyfileobj(source, target)
    temporary.replace(path)


def _check_plain(bundle: Path) -> None:
    """Refuse what is surely no bundle before gigabytes of it are copied."""
    if not (bundle / MANIFEST).is_file():
        raise BundleError(f"{bundle}: not a bundle, {MANIFEST} is missing", remedy="name the folder `bundle` of a run")
    found = [path.lstat() for path in bundle.iterdir()]
    plain = all(stat.S_ISREG(each.st_mode) for each in found)
    if not plain or len(found) > MOST_FILES or sum(each.st_size for each in found) > MOST_BYTES:
        raise BundleError(f"{bundle}: holds what no bundle holds", expected="a few plain files")
