"""Random numbers of torch from a seed. Torch's generators, one per device, belong to the caller, so their states are restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from refsynth.core.extras import require

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators on each device in use for the block, and restore their states afterwards.

    Raises:
        ExtraError: torch is not installed.
    """
    torch = require("torch", extra="train")
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # reading its state would start a GPU
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the generators for training on a device."""
    torch = require("torch", extra="train")
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states from `random_states`. A device that was not in use then keeps its state."""
    torch = require("torch", extra="train")
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def from_seed(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its keyword argument `seed` seeds torch. See `seeded`."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with seeded(cast(int, options["seed"])):
            return function(*args, **options)

    return call
