"""Environments of peers that want other versions than ours: made with pip once, below `build`."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from refsynth.core.errors import RefsynthError

INSTALL = 900.0
"""Seconds that making one may take."""


class PeerError(RefsynthError):
    """A peer that cannot be had here; why."""


def environment(folder: Path, packages: Sequence[str], *, on_ours: bool = False) -> Path:
    """Return the interpreter of an environment with the packages, which is made where it is not there yet.

    Args:
        folder: of the environment.
        packages: what pip installs.
        on_ours: without their dependencies, which are those of this interpreter: so all sides run the same.

    Raises:
        PeerError: pip could not install them.
    """
    python = (folder / "bin" / "python").absolute()
    if (folder / "ready").exists():
        return python
    install = [str(python), "-m", "pip", "install", "--quiet", *(("--no-deps",) if on_ours else ()), *packages]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], install):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{', '.join(packages)}: cannot be installed ({type(error).__name__})") from error
    if on_ours:
        ours = sysconfig.get_path("purelib")
        site = folder / Path(ours).relative_to(sys.prefix)
        (site / "parent.pth").write_text(ours + "\n", "utf-8")  # comes after its own packages
    (folder / "ready").touch()
    return python
