"""Where torch computes: the processor, or a GPU that CUDA finds."""

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
    """Return a device; `auto` is a GPU if there is one. Processes that train together have one GPU each, by `LOCAL_RANK`.

    Raises:
        ConfigError: CUDA finds no GPU, and one was named.
        ExtraError: torch is not installed.
    """
    library = require("torch", extra="train")
    found = name != "cpu" and library.cuda.is_available()
    if name == "cuda" and not found:
        raise ConfigError("device: cuda, and torch finds no GPU", remedy="write device: auto, or install torch built for CUDA")
    device: torch.device = library.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if found else "cpu")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; emulated it is slower than float32."""
    torch = require("torch", extra="train")
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def in_bfloat16(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """Return what has matrices multiplied in bfloat16 on a device, or as they are."""
    torch = require("torch", extra="train")
    return cast("AbstractContextManager[object]", torch.autocast(device.type, dtype=torch.bfloat16)) if wanted else nullcontext()


def array_of(values: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor of float32 as an array in main memory, wherever it is."""
    return np.asarray(values.detach().cpu().numpy())
