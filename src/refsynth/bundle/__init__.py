"""The one on-disk form of a finished model: a folder of data files under a manifest of hashes. Never pickle.

`save(folder, Contents(...))` writes one, `load(folder)` checks and opens it. Knows nothing of training.
"""

from refsynth.bundle.certificate import Calibration, Certificate, FirstTier
from refsynth.bundle.golden import GOLDEN_TEXTS
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.model import Contributions, Model, load
from refsynth.bundle.store import Contents, EncoderFiles, StaticFiles, StaticTier, save

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
