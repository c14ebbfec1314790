"""Create, list, revoke and check API keys. A key is shown once; the key file stores only a keyed hash.

The key file is small and rewritten atomically under a lock. Every worker rereads it when it changes and at least every half
second, so a revocation takes effect at once. The hashes are keyed with a secret in a file beside it: somebody who steals only the
key file cannot even guess keys. The only trace of HTTP here is the status of a refusal.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refsynth.core.errors import AccessError, InputError, nearest
from refsynth.core.files import write_atomic

Scope = Literal["predict", "explain", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_KEY = re.compile(r"rsk_([0-9a-f]{12})_[0-9a-f]{48}")
_REREAD = 0.5  # seconds; for file systems where a replaced file looks like the old one
_SECRET_BYTES = 32
_LEAST, _MOST = 1e-6, 1e10  # limits of every number of a key; as seconds, the upper one is three hundred years

Moment = Annotated[float, Field(ge=0, le=10 * _MOST, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=_LEAST, le=_MOST, allow_inf_nan=False)]

_WRITABLE = 0o022
_EXPOSED = 0o037  # a group may read (containers get secrets that way), but nothing more


class Key(BaseModel):
    """What is stored about a key. Times are seconds since 1970; `rate` is in texts per second, None is the server's rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str
    scopes: tuple[Scope, ...]
    created: Moment
    expires: Moment | None = None
    revoked: Moment | None = None
    rate: Amount | None = None
    burst: Amount | None = None
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)

    def state(self, now: float) -> Literal["active", "expired", "revoked"]:
        """Return the state of the key at the time `now`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"


class NewKey(NamedTuple):
    """A new key. `presented` is what its owner sends; it is stored nowhere."""

    presented: str
    key: Key


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()


def default_keys() -> Path:
    """Return $REFSYNTH_KEYS, else refsynth/keys.json below $XDG_CONFIG_HOME or ~/.config."""
    if path := os.environ.get("REFSYNTH_KEYS"):
        return Path(path)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "refsynth" / "keys.json"


class Keyring:
    """The key file, for its administrator. The secret of `keys.json` is `keys.secret` beside it."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = path, clock

    def add(
        self,
        name: str,
        *,
        scopes: Collection[str],
        seconds: float | None = None,
        rate: float | None = None,
        burst: float | None = None,
    ) -> NewKey:
        """Create a key and store it.

        Args:
            name: its owner, as shown in lists.
            scopes: what it may do.
            seconds: how long it is valid; None is until it is revoked.
            rate: its quota in texts per second; None is the server's.
            burst: how many texts it may send at once; None is the server's.

        Raises:
            InputError: a scope is unknown, a number is not positive, or the file cannot be read or written.
        """
        for scope in scopes:
            if scope not in SCOPES:
                hint = nearest(scope, SCOPES)
                raise InputError(f"unknown scope '{scope}'", known=f"scopes: {', '.join(SCOPES)}", remedy=hint)
        if (
            not scopes
            or not name.strip()
            or any(value is not None and not _LEAST <= value <= _MOST for value in (seconds, rate, burst))
        ):
            raise InputError("a key needs a name, a scope, and positive numbers", remedy="see: refsynth keys add --help")
        with self._lock():
            secret = _make_secret(_secret_path(self.path))
            now, id_ = self._clock(), secrets.token_hex(6)
            presented = f"rsk_{id_}_{secrets.token_hex(24)}"
            key = Key(
                id=id_,
                name=name.strip(),
                scopes=tuple(scope for scope in SCOPES if scope in scopes),
                created=now,
                expires=None if seconds is None else now + seconds,
                rate=rate,
                burst=burst,
                hash=_hash(secret, presented),
            )
            self._write((*self.keys(), key))
        return NewKey(presented, key)

    def revoke(self, which: str) -> Key:
        """Revoke a key for good, by its id or its name.

        Raises:
            InputError: no key or several match, or the file cannot be read or written.
        """
        with self._lock():
            keys = self.keys()
            matches = [key for key in keys if which in (key.id, key.name) and key.revoked is None]
            if len(matches) != 1:
                what = "no active key" if not matches else f"{len(matches)} active keys"
                remedy = "the ids are in: refsynth keys list" if matches else nearest(which, [key.name for key in keys])
                raise InputError(f"{self.path}: {what} with the id or name '{which}'", remedy=remedy)
            revoked = matches[0].model_copy(update={"revoked": self._clock()})
            self._write(tuple(revoked if key.id == revoked.id else key for key in keys))
        return revoked

    def keys(self) -> tuple[Key, ...]:
        """Return all keys in the order of their creation; none if there is no file.

        Raises:
            InputError: the file is damaged or cannot be read.
        """
        return _read_keys(self.path) if self.path.exists() else ()

    def _write(self, keys: tuple[Key, ...]) -> None:
        write_atomic(self.path, _KeyFile(keys=keys).model_dump_json(indent=1).encode() + b"\n", mode=0o600)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # a revocation must not be undone by a power cut
        finally:
            os.close(folder)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.path.with_name(f".{self.path.name}.lock").open("w") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})", remedy="name another with --keys") from error


class FileKeyChecker:
    """Checks keys in a worker process. `identify` takes microseconds, so it may be called in an event loop."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the key file.

        Raises:
            InputError: the file or its secret is missing or damaged, others can read the secret, or others can write the file or
                its folder.
        """
        self._path, self._clock = path, clock
        if not path.exists():
            raise InputError(f"{path}: no such file of keys", remedy="make a key with: refsynth keys add NAME")
        self._secret = _read_secret(_secret_path(path))
        self._keys: dict[str, Key] = {}
        self._seen, self._due = (0, 0, 0), 0.0
        self._refresh()

    def identify(self, presented: str | None) -> Key:
        """Return the key that the caller presented.

        Raises:
            AccessError: with status 401 (no key, unknown, expired, revoked), or 503 (the key file is gone or damaged, so nobody
                gets in).
        """
        if not presented:
            raise AccessError("an API key is needed", reason="missing", status=401)
        try:
            self._refresh()
        except InputError as error:
            raise AccessError("API keys cannot be checked now", reason="unavailable", status=503) from error
        match = _KEY.fullmatch(presented)
        key = self._keys.get(match[1]) if match else None
        # A key with an unknown id is hashed and compared too, so that the response time does not reveal which ids exist.
        expected = key.hash if key else "0" * 64
        same = hmac.compare_digest(_hash(self._secret, presented if match else ""), expected)
        if key is None or not same:
            raise AccessError("the API key is unknown", reason="unknown", status=401)
        state = key.state(self._clock())
        if state != "active":
            raise AccessError(f"the API key is {state}", reason=state, status=401)
        return key

    def _refresh(self) -> None:
        now = time.monotonic()
        try:
            status = self._path.stat()
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read ({error.strerror})") from error
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen or now >= self._due:
            self._keys = {key.id: key for key in _read_keys(self._path)}
            self._seen, self._due = seen, now + _REREAD


def _hash(secret: bytes, presented: str) -> str:
    """Return the keyed BLAKE2b hash in hex. A key has 192 random bits, so a fast hash is enough."""
    return hashlib.blake2b(presented.encode(), key=secret, digest_size=32).hexdigest()


def _read_keys(path: Path) -> tuple[Key, ...]:
    try:
        with path.open("rb") as stream:
            _refuse_writable(path, os.fstat(stream.fileno()))
            _refuse_writable(path.parent, path.parent.stat())
            return _KeyFile.model_validate_json(stream.read()).keys
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(
            f"{path}: not a file of keys ({where and where + ': '}{problem['msg']})",
            remedy="restore it, or make new keys in another file",
        ) from None


def _refuse_writable(path: Path, status: os.stat_result) -> None:
    """Refuse a file to which others could add keys, or a folder in which they could replace the file."""
    mode = stat.S_IMODE(status.st_mode)
    sticky = stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX  # users can only replace their own files there
    if mode & _WRITABLE and not sticky:
        what = "folder of keys" if stat.S_ISDIR(status.st_mode) else "file of keys"
        raise InputError(
            f"{path}: mode {mode:03o}", expected=f"a {what} that only its owner can write", remedy=f"chmod go-w {path}"
        )


def _secret_path(path: Path) -> Path:
    return path.with_suffix(".secret")


def _make_secret(path: Path) -> bytes:
    """Return the secret; create it if it does not exist. The caller holds the lock."""
    if not path.exists():
        write_atomic(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    try:
        mode, secret = stat.S_IMODE(path.stat().st_mode), path.read_bytes()
    except OSError as error:
        remedy = "it belongs beside the file of keys; without it, all keys must be made anew"
        raise InputError(f"{path}: cannot be read ({error.strerror})", remedy=remedy) from error
    if mode & _EXPOSED:
        raise InputError(f"{path}: mode {mode:03o}", expected="a secret that others cannot read", remedy=f"chmod 600 {path}")
    if len(secret) != _SECRET_BYTES:
        raise InputError(f"{path}: {len(secret)} bytes", expected=f"a secret of {_SECRET_BYTES}")
    return secret
