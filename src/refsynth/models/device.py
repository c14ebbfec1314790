"""The device on which torch computes: the CPU, or a GPU that CUDA finds."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from refsynth.core.errors import ConfigError
from refsynth.core.extras import require
from refsynth.core.sections import DeviceName

if TYPE_CHECKING:
    import torch


def device_named(name: DeviceName) -> torch.device:
    """Return a device; `auto` is a GPU if there is one. Processes that train together use one GPU each, by `LOCAL_RANK`.

    Raises:
        ConfigError: `name` is cuda, and CUDA finds no GPU.
        ExtraError: torch is not installed.
    """
    library = require("torch", extra="train")
    found = name != "cpu" and library.cuda.is_available()
    if name == "cuda" and not found:
        raise ConfigError("device: cuda, and torch finds no GPU", remedy="write device: auto, or install torch built for CUDA")
    device: torch.device = library.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if found else "cpu")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; emulation is slower than float32."""
    torch = require("torch", extra="train")
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def in_bfloat16(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """Return a context in which matrices are multiplied in bfloat16 on a device; a null context if it is not wanted."""
    torch = require("torch", extra="train")
    return cast("AbstractContextManager[object]", torch.autocast(device.type, dtype=torch.bfloat16)) if wanted else nullcontext()


def array_of(values: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return a float32 tensor on any device as an array in main memory."""
    return np.asarray(values.detach().cpu().numpy())
