"""Libraries that report home are told not to, before they are loaded. Knows nothing of what they are used for.

A switch that the user has set stays as it is: who wants to report may.
"""

from __future__ import annotations

import os
import sys
import warnings

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime looks up a host 13 seconds after it loaded a model, and keeps a device id
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, datasets
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "BENTOML_DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # what many others look for
}
"""Environment variables and the value that turns reporting off."""

READ_AT_IMPORT = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Libraries that read their switch once, when they are imported."""


def keep_private() -> None:
    """Turn reporting off in this process and in those that it starts.

    Warns (RuntimeWarning) where a library was imported before and cannot be stopped any more.
    """
    late = [name for name, switch in READ_AT_IMPORT.items() if name in sys.modules and switch not in os.environ]
    for switch, off in SWITCHES.items():
        os.environ.setdefault(switch, off)
    for name in late:
        warnings.warn(
            f"{name} was imported before refsynth, so its telemetry is on:"
            f" import refsynth first, or set {READ_AT_IMPORT[name]}=1",
            RuntimeWarning,
            stacklevel=3,
        )
