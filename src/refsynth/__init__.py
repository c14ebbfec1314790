"""refsynth: from a handful of labeled texts to a small, fast, audited text model.

    import refsynth

    model = refsynth.load("runs/tickets/bundle")
    model.predict(["where is my card?"])

`load` opens a bundle, `run` runs a task.yaml, and `Client` asks a server. Estimators for scikit-learn do the same as `run` for
texts in memory: `TextClassifier`, `MultiLabelTextClassifier`, `TextPairClassifier`, `TokenTagger`. `Task` and `RunConfig` are a
task as values, `Model` is a loaded bundle, `join_pair` makes one text of two, `RefsynthError` is the base of all errors.
`LearnerSpec` and the other specs are what another package adds. The other names are what these take and give back. Importing
this loads no torch; names are found when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from refsynth.core.private import keep_private
from refsynth.core.version import __version__

keep_private()  # first of all: some libraries look for their switch only when they are imported

_HOMES = {
    "Answered": "refsynth.bundle.model",
    "ArgumentError": "refsynth.core.errors",
    "BundleError": "refsynth.core.errors",
    "Client": "refsynth.service.http.client",
    "ConfigError": "refsynth.core.errors",
    "Contributions": "refsynth.bundle.model",
    "DataError": "refsynth.core.errors",
    "Entity": "refsynth.core.types",
    "Golden": "refsynth.bundle.golden",
    "InputError": "refsynth.core.errors",
    "KindSpec": "refsynth.core.kinds",
    "LearnerSpec": "refsynth.core.learners",
    "MissingError": "refsynth.core.errors",
    "Model": "refsynth.bundle.model",
    "ModelStatus": "refsynth.models.store",
    "ModelStore": "refsynth.models.store",
    "MultiLabelTextClassifier": "refsynth.estimators.multilabel",
    "Observer": "refsynth.core.observe",
    "Paths": "refsynth.pipeline.evidence",
    "Prediction": "refsynth.core.types",
    "ReferenceSpec": "refsynth.core.references",
    "RefsynthError": "refsynth.core.errors",
    "Reply": "refsynth.service.http.client",
    "Report": "refsynth.evaluation.tree",
    "RunConfig": "refsynth.core.config",
    "RunResult": "refsynth.pipeline.flow",
    "ScorerSpec": "refsynth.core.scorers",
    "Task": "refsynth.core.task",
    "TextClassifier": "refsynth.estimators.classifier",
    "TextPairClassifier": "refsynth.estimators.pair",
    "TokenTagger": "refsynth.estimators.tagger",
    "join_pair": "refsynth.core.pair",
    "load": "refsynth.bundle.model",
    "run": "refsynth.pipeline.flow",
}

_TRAINED = frozenset(
    {
        "ModelStatus",
        "ModelStore",
        "MultiLabelTextClassifier",
        "Paths",
        "Report",
        "RunResult",
        "TextClassifier",
        "TextPairClassifier",
        "TokenTagger",
        "run",
    }
)
"""Names that only the extra `train` gives."""

__all__ = [
    "Answered",
    "ArgumentError",
    "BundleError",
    "Client",
    "ConfigError",
    "Contributions",
    "DataError",
    "Entity",
    "Golden",
    "InputError",
    "KindSpec",
    "LearnerSpec",
    "MissingError",
    "Model",
    "ModelStatus",
    "ModelStore",
    "MultiLabelTextClassifier",
    "Observer",
    "Paths",
    "Prediction",
    "ReferenceSpec",
    "RefsynthError",
    "Reply",
    "Report",
    "RunConfig",
    "RunResult",
    "ScorerSpec",
    "Task",
    "TextClassifier",
    "TextPairClassifier",
    "TokenTagger",
    "__version__",
    "join_pair",
    "load",
    "run",
]

if TYPE_CHECKING:
    from refsynth.bundle.golden import Golden
    from refsynth.bundle.model import Answered, Contributions, Model, load
    from refsynth.core.config import RunConfig
    from refsynth.core.errors import ArgumentError, BundleError, ConfigError, DataError, InputError, MissingError, RefsynthError
    from refsynth.core.kinds import KindSpec
    from refsynth.core.learners import LearnerSpec
    from refsynth.core.observe import Observer
    from refsynth.core.pair import join_pair
    from refsynth.core.references import ReferenceSpec
    from refsynth.core.scorers import ScorerSpec
    from refsynth.core.task import Task
    from refsynth.core.types import Entity, Prediction
    from refsynth.estimators.classifier import TextClassifier
    from refsynth.estimators.multilabel import MultiLabelTextClassifier
    from refsynth.estimators.pair import TextPairClassifier
    from refsynth.estimators.tagger import TokenTagger
    from refsynth.evaluation.tree import Report
    from refsynth.models.store import ModelStatus, ModelStore
    from refsynth.pipeline.evidence import Paths
    from refsynth.pipeline.flow import RunResult, run
    from refsynth.service.http.client import Client, Reply
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
