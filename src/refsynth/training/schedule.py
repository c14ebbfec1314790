"""What every fine-tuning shares: AdamW, a linear warm-up and decay, clipped gradients, bfloat16 where the processor has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from refsynth.models.network import has_bfloat16

WARMUP = 0.1
CLIP = 1.0
HEAD_RATE = 1e-2
"""A fresh head learns much faster than a pretrained encoder."""


class Tuner:
    """Takes gradient steps on some modules, in the mode they are in, over a planned number of steps."""

    def __init__(
        self, modules: Sequence[torch.nn.Module], *, rate: float, steps: int, head: torch.nn.Module | None = None
    ) -> None:
        fresh = {id(parameter) for parameter in head.parameters()} if head else set()
        parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if id(p) not in fresh], "lr": rate},
            {"params": [p for p in parameters if id(p) in fresh], "lr": HEAD_RATE},
        ]
        self._parameters = parameters
        self._optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.01)
        warmup = max(1, int(WARMUP * steps))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
        )

    def step(self, loss: Callable[[], torch.Tensor]) -> None:
        """Compute the loss and move the parameters down its gradient."""
        # Half the time per step on a processor with AVX512-BF16; weights and their updates stay in float32.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16()):
            value = loss()
        self._optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._optimiser.step()
        self._schedule.step()
