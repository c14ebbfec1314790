"""Random numbers of torch from a seed. Torch has one generator a device, which is the caller's: it is left as it was found."""

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
    """Draw torch's numbers, on each device that is in use, from a seed, and leave the generators as they were found.

    Raises:
        ExtraError: torch is not installed.
    """
    torch = require("torch", extra="train")
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # to ask a GPU would start it
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the generators that training on a device draws from."""
    torch = require("torch", extra="train")
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def restore_random(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Go on drawing from where `random_states` was taken; of a device that was not in use then, from where it is."""
    torch = require("torch", extra="train")
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def from_seed(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function that takes `seed` by name draw torch's numbers from it. See `seeded`."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with seeded(cast(int, options["seed"])):
            return function(*args, **options)

    return call
