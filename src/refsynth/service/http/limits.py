"""Quotas per key, shared by the worker processes of one machine. Knows nothing of HTTP or of what a unit is.

A quota is a token bucket. Its state is one number, the time at which the bucket will be full again (the generic cell rate
algorithm, ITU-T I.371), in a memory-mapped file that the workers share. A call takes microseconds, where a database transaction
takes hundreds. A bucket is locked by its range of bytes in the file; the system releases the lock when its holder dies.

Why it is shared: with separate buckets, two workers gave a key 1.99 times its quota, with these 1.00 times (five pairs, design
note 027). Why not a library: pyrate-limiter needs no server of its own and shares through SQLite, but a call took 0.27 to 0.52 ms
on the event loop, where a request costs 0.32 ms beside the model. This limiter takes 0.01 ms.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import InputError

_HEADER = struct.Struct("<8s36s")
_MAGIC = b"rsquota1"
_SLOT = struct.Struct("<16sd")  # digest of the key; when its bucket is full again, in seconds of the monotonic clock
_FIRST = 64  # bytes before the slots
_SLOTS = 1 << 14
_PATIENCE = 0.005  # seconds to wait for a locked bucket; other workers hold one for microseconds
_PAUSE = 0.0002


class Quota(NamedTuple):
    """`rate` units per second on average, at most `burst` at once."""

    rate: float
    burst: float


class SharedLimiter:
    """The buckets of all keys. Each worker process opens the same file once; its threads share the limiter."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file, or create it. Its content is discarded when the machine reboots.

        Raises:
            InputError: the file cannot be opened, or is another kind of file.
        """
        self._path, self._clock = path, clock
        self._thread = threading.Lock()  # the file's locks only work between processes
        self._slot: dict[str, int] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror})", remedy="name another file of quotas") from error
        try:
            self._map = self._prepare()
        except BaseException:
            os.close(self._file)
            raise

    def _prepare(self) -> mmap.mmap:
        """Map the file; zero it if it is new or from before the last reboot."""
        size, header = _FIRST + _SLOTS * _SLOT.size, _HEADER.pack(_MAGIC, _boot())
        fcntl.lockf(self._file, fcntl.LOCK_EX, _FIRST, 0)
        try:
            magic = os.pread(self._file, len(_MAGIC), 0)
            if magic not in (b"", bytes(len(_MAGIC)), _MAGIC):
                raise InputError(f"{self._path}: not a file of quotas", remedy="name another file, or delete it")
            os.ftruncate(self._file, size)
            mapped = mmap.mmap(self._file, size)
            if mapped[: len(header)] != header:
                mapped[:] = header + bytes(size - len(header))
            return mapped
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _FIRST, 0)

    def take(self, key: str, quota: Quota, cost: float = 1.0) -> float:
        """Take units from the bucket of a key.

        A cost above the burst is allowed when the bucket is full, and must be paid off before the next call: the rate holds.

        Args:
            key: the bucket's name, such as the id of an API key.
            quota: the key's rate and burst; a change takes effect with the next call.
            cost: units to take, such as texts.

        Returns:
            0 if the units were taken; otherwise nothing was taken, and it is the seconds to wait.

        Raises:
            InputError: the file has no room for another key.
        """
        allowed = max(0.0, quota.burst - cost) / quota.rate
        with self._thread:
            slot = self._slot.get(key)
            if slot is None:
                slot = self._slot[key] = self._find(key)
            place = _FIRST + slot * _SLOT.size
            with self._held(place, _SLOT.size):
                now = self._clock()
                digest, full = _SLOT.unpack_from(self._map, place)
                full = max(full, now) if math.isfinite(full) else now
                wait = full - now - allowed
                if wait > 0:
                    return wait
                _SLOT.pack_into(self._map, place, digest, full + cost / quota.rate)
                return 0.0

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._file)

    def _find(self, key: str) -> int:
        """Return the slot of a key; take a free one if it has none."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        start = int.from_bytes(digest[:8], "little")
        with self._held(0, _FIRST):  # a slot never changes its key, so only the search for a free one needs the lock
            for step in range(_SLOTS):
                slot = (start + step) % _SLOTS
                place = _FIRST + slot * _SLOT.size
                stored, _ = _SLOT.unpack_from(self._map, place)
                if stored == digest:
                    return slot
                if not any(stored):
                    _SLOT.pack_into(self._map, place, digest, 0.0)
                    return slot
        raise InputError(
            f"{self._path}: full, it holds the quotas of {_SLOTS:,} keys", remedy="delete the file and restart the server"
        )

    @contextmanager
    def _held(self, start: int, size: int) -> Iterator[None]:
        """Lock a range of the file.

        A holder that was stopped, not killed, keeps its lock. After `_PATIENCE` the block runs without the lock, which can lose
        at most the units of one simultaneous call.
        """
        deadline = 0.0
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, size, start)
                break
            except BlockingIOError:
                deadline = deadline or time.monotonic() + _PATIENCE
                if time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, size, start)


def _boot() -> bytes:
    """Return the id of the current boot: the monotonic clock counts from there."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36]
