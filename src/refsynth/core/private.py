"""Turns off the telemetry of libraries before they are loaded.

A switch that the user has set stays as it is.
"""

from __future__ import annotations

import os
import sys
import warnings

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime looks up a host 13 seconds after loading a model, and keeps a device id
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, datasets
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "BENTOML_DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # many other libraries look for this one
}
"""Environment variables, each with the value that turns reporting off."""

READ_AT_IMPORT = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Libraries that read their switch once, at import."""


def keep_private() -> None:
    """Turn reporting off in this process and in the processes that it starts.

    It warns (RuntimeWarning) if a library was imported before, since its reporting cannot be turned off any more.
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
