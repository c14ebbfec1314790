"""Gradient steps for every fine-tuning: AdamW, linear warm-up and decay, clipped gradients, bfloat16 if the device has it.

In several processes (`accelerate launch`), each computes the gradient of its share of a step's rows, and all step along the sum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from refsynth.core.extras import require
from refsynth.models.device import has_bfloat16, in_bfloat16

WARMUP = 0.1
CLIP = 1.0
DECAY = 0.01
HEAD_RATE = 1e-2
"""A fresh head learns much faster than a pretrained encoder."""


class ProcessGroup(NamedTuple):
    """The processes that train together: their number and the rank of this one."""

    size: int
    rank: int

    @classmethod
    def here(cls, device: torch.device) -> ProcessGroup:
        """Return the group that this process was launched in, on devices of one type; a group of one if it was started alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(1, 0)
        state = require("accelerate", extra="train").PartialState(cpu=device.type == "cpu")
        return cls(state.num_processes, state.process_index)

    def add_up(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the group."""
        if self.size == 1:
            return
        accelerate = require("accelerate", extra="train")
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = accelerate.utils.reduce(torch.cat([grad.flatten() for grad in grads]), reduction="sum")
        for parameter, part in zip(parameters, total.split([grad.numel() for grad in grads]), strict=True):
            parameter.grad = part.view_as(parameter).clone()


class Tuner:
    """Takes gradient steps on modules, in their current mode. `steps` is the planned number of steps and may be changed."""

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        *,
        rate: float,
        steps: int,
        head: torch.nn.Module | None = None,
        warmup: float = WARMUP,
        decay: float = DECAY,
        bfloat16: bool | None = None,
    ) -> None:
        """Plan the steps.

        Args:
            modules: the modules; their parameters that require a gradient are tuned.
            rate: the highest learning rate.
            steps: the planned number of steps.
            head: one of the modules, newly initialized, which learns at `HEAD_RATE`.
            warmup: share of the steps over which the rate rises.
            decay: weight decay, decoupled from the gradient (Loshchilov and Hutter, 2019).
            bfloat16: whether to compute passes in bfloat16; weights and updates stay in float32. By default if the device has it:
                it halves the time of a step with AVX512-BF16, and is slower than float32 if emulated.
        """
        fresh = {id(parameter) for parameter in head.parameters()} if head else set()
        self.parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in self.parameters if id(p) not in fresh], "lr": rate, "highest": rate},
            {"params": [p for p in self.parameters if id(p) in fresh], "lr": HEAD_RATE, "highest": HEAD_RATE},
        ]
        self._optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=decay, fused=True)
        self.steps, self._warmup = steps, warmup
        self._device = self.parameters[0].device
        self._bfloat16 = has_bfloat16(self._device) if bfloat16 is None else bfloat16
        self.processes = ProcessGroup.here(self._device)
        self.taken = 0

    def step(self, *losses: Callable[[], torch.Tensor]) -> None:
        """Take a step along the gradient of the sum of the losses, which are computed one after the other."""
        self._optimizer.zero_grad()
        for loss in losses:
            with in_bfloat16(self._device, wanted=self._bfloat16):
                value = loss()
            value.backward()  # type: ignore[no-untyped-call]
        self.processes.add_up(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        warm = max(1, int(self._warmup * self.steps))
        share = min((self.taken + 1) / warm, max(0.0, (self.steps - self.taken) / max(1, self.steps - warm)))
        for group in self._optimizer.param_groups:
            group["lr"] = share * group["highest"]
        self._optimizer.step()
        self.taken += 1

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments of the optimizer, by parameter."""
        states: Mapping[int, Mapping[str, Any]] = self._optimizer.state_dict()["state"]
        return {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}

    def restore(self, state: Mapping[str, torch.Tensor], *, taken: int) -> None:
        """Restore a state that was saved after `taken` steps."""
        states: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            index, _, name = key.partition(".")
            states.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})
        self.taken = taken
