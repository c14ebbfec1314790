"""The on-disk format of a finished model: a folder of data files with a manifest of hashes. Never pickle.

`save(folder, Contents(...))` writes a bundle, `load(folder)` checks and opens it. Knows nothing of training. The modules that
write are imported on first use, so that a program that only loads does not wait for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from refsynth.bundle.certificate import Calibration, Certificate, EarlyExit
from refsynth.bundle.golden import GOLDEN_TEXTS
from refsynth.bundle.manifest import Facts, Manifest
from refsynth.bundle.model import Contributions, Model, load
from refsynth.bundle.spec import TIERS, TierSpec

if TYPE_CHECKING:
    from refsynth.bundle.packing import PackedTier, pack, pack_graphs
    from refsynth.bundle.store import Contents, TierContents, save

_WRITING = {
    "Contents": "store",
    "PackedTier": "packing",
    "TierContents": "store",
    "pack": "packing",
    "pack_graphs": "packing",
    "save": "store",
}

__all__ = [
    "GOLDEN_TEXTS",
    "TIERS",
    "Calibration",
    "Certificate",
    "Contents",
    "Contributions",
    "EarlyExit",
    "Facts",
    "Manifest",
    "Model",
    "PackedTier",
    "TierContents",
    "TierSpec",
    "load",
    "pack",
    "pack_graphs",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _WRITING:
        raise AttributeError(f"module 'refsynth.bundle' has no attribute {name!r}")
    return getattr(importlib.import_module(f"refsynth.bundle.{_WRITING[name]}"), name)
