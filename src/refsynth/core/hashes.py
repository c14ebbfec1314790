"""Hashes of values, files and folders, and seeds that are derived from names. The same content has the same hash everywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from refsynth.core.files import HALVES, Json


def canonical(value: Json) -> bytes:
    """Return the one JSON encoding of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", HALVES)


def digest(value: Json) -> str:
    """Return the sha256 of a JSON value, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex, reading it in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path, *, without: str = "") -> str:
    """Return one sha256 over the names and contents of all files below a folder, except the file `without` directly in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / without)
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])


def derive_seed(seed: int, *names: object) -> int:
    """Return a seed in [0, 2^31) for one purpose, independent of the seeds for others."""
    return int(digest([seed, *map(str, names)])[:8], 16) % 2**31
