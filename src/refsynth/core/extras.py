"""Late import of optional dependencies. The error for a missing one has the line that installs it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from refsynth.core.errors import ExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import and return `module`, which the extra `extra` installs.

    Raises:
        ExtraError: it, or a package that it imports, is not installed.
    """
    with needs(extra):
        return importlib.import_module(module)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a missing package in the block into an error that names the extra which installs it.

    Raises:
        ExtraError: a package that the block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "refsynth":
            raise
        raise _missing(error.name, extra) from error


def check_installed(*modules: str, extra: str) -> None:
    """Check that top-level modules of the extra `extra` are installed, without importing them.

    Raises:
        ExtraError: one is not.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> ExtraError:
    return ExtraError(
        f"this needs the package '{module.split('.')[0]}', which is not installed", remedy=f"pip install 'refsynth[{extra}]'"
    )
