"""refsynth: from a handful of labelled texts to a small, fast, audited text model.

    import refsynth

    model = refsynth.load("runs/tickets/bundle")
    model.predict(["where is my card?"])

`load` opens a bundle, `run` runs a task.yaml, `TextClassifier` does the same for texts in memory, `Client` asks a server; `Task`
and `RunConfig` are a task as values, `Model` is a loaded bundle, `join_pair` makes one text of two, `RefsynthError` is the base
of all errors. Importing this loads no torch; names are found when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from refsynth.core.private import keep_private

keep_private()  # first of all: some libraries look for their switch only when they are imported

__version__ = "0.1.0"

_HOMES = {
    "Client": "refsynth.service.http.client",
    "Model": "refsynth.bundle.model",
    "RefsynthError": "refsynth.core.errors",
    "RunConfig": "refsynth.core.config",
    "Task": "refsynth.core.task",
    "TextClassifier": "refsynth.pipeline.estimator",
    "join_pair": "refsynth.core.pair",
    "load": "refsynth.bundle.model",
    "run": "refsynth.pipeline.flow",
}

_TRAINED = frozenset({"TextClassifier", "run"})
"""Names that only the extra `train` gives."""

__all__ = ["Client", "Model", "RefsynthError", "RunConfig", "Task", "TextClassifier", "__version__", "join_pair", "load", "run"]

if TYPE_CHECKING:
    from refsynth.bundle.model import Model, load
    from refsynth.core.config import RunConfig
    from refsynth.core.errors import RefsynthError
    from refsynth.core.pair import join_pair
    from refsynth.core.task import Task
    from refsynth.pipeline.estimator import TextClassifier
    from refsynth.pipeline.flow import run
    from refsynth.service.http.client import Client
else:  # to a type checker a module with __getattr__ has every name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'refsynth' has no attribute {name!r}")
        from refsynth.core.extras import needs

        with needs("train"):  # loading and asking a bundle needs none
            return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the names that can be used with what is installed: `help` looks each of them up."""
    usable = (name for name in __all__ if name not in _TRAINED or importlib.util.find_spec("torch") is not None)
    return sorted({*(name for name in globals() if name.startswith("__")), *usable})
