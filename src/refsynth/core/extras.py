"""Late import of optional dependencies, with an error that names the install line."""

from __future__ import annotations

import importlib
from types import ModuleType

from refsynth.core.errors import ExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import and return `module`, which the extra `extra` installs.

    Raises:
        ExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ExtraError(
            f"this needs the package '{module.split('.')[0]}', which is not installed",
            remedy=f"pip install 'refsynth[{extra}]'",
        ) from error
