"""The one on-disk form of a finished model: a folder of data files under a manifest of hashes. Never pickle.

`save(folder, Contents(...))` writes one, `load(folder)` checks and opens it. Knows nothing of training. What writes is found when
it is first used: a program that only loads does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from refsynth.bundle.certificate import Calibration, Certificate, FirstTier
from refsynth.bundle.golden import GOLDEN_TEXTS
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.model import Contributions, Model, load

if TYPE_CHECKING:
    from refsynth.bundle.store import Contents, EncoderFiles, StaticFiles, StaticTier, save

_WRITING = ("Contents", "EncoderFiles", "StaticFiles", "StaticTier", "save")

__all__ = [
    "GOLDEN_TEXTS",
    "Calibration",
    "Certificate",
    "Contents",
    "Contributions",
    "EncoderFiles",
    "FirstTier",
    "Manifest",
    "Model",
    "StaticFiles",
    "StaticTier",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _WRITING:
        raise AttributeError(f"module 'refsynth.bundle' has no attribute {name!r}")
    return getattr(importlib.import_module("refsynth.bundle.store"), name)
