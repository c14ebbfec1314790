"""Late import of optional dependencies, with an error that names the install line."""

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
    """Let the block import and do what the extra `extra` is for.

    Raises:
        ExtraError: a package of it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "refsynth":
            raise
        raise _missing(error.name, extra) from error


def check_installed(*modules: str, extra: str) -> None:
    """Check that top-level modules, which the extra `extra` installs, are there, without importing them.

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
