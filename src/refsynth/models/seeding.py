"""Random numbers of torch from a seed. Torch has one generator, which is the caller's: it is left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from refsynth.core.extras import require

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's numbers (on the CPU, where all training is) from a seed, and leave the generator as it was found.

    Raises:
        ExtraError: torch is not installed.
    """
    torch = require("torch", extra="train")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def from_seed(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function that takes `seed` by name draw torch's numbers from it. See `seeded`."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with seeded(cast(int, options["seed"])):
            return function(*args, **options)

    return call
