"""The trainer: epochs of length-bucketed batches, early stopping, averaged weights, checkpoints.

It does not know the loss or the method. A killed training resumes from its last checkpoint and ends with the same weights,
because order, dropout and schedule depend only on the seed and the number of steps.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from refsynth.core.hashes import derive_seed
from refsynth.core.types import IntArray
from refsynth.learning.tuning.batches import bucketed
from refsynth.learning.tuning.schedule import DECAY, WARMUP, Tuner
from refsynth.models.seeding import random_states, restore_random, seeded

Averaging = Literal["none", "ema", "swa"]
Tensors = dict[str, torch.Tensor]

EMA_DECAY = 0.99
SWA_START = 0.75
"""Share of the steps after which stochastic weight averaging begins."""

SAVE_SECONDS = 60.0
"""Seconds between two checkpoints."""

EPOCHS, LEAST_EPOCHS, ROWS_READ = 20, 3, 30_000
"""The most and the fewest epochs by default, and the rows read in all between these limits: large sets need fewer epochs."""


@dataclass(frozen=True)
class TrainingRecipe:
    """How to train.

    Attributes:
        epochs: the most passes over the rows; by default `EPOCHS`, or fewer if these would be more than `ROWS_READ` rows.
        batch_size: rows of a step.
        learning_rate: the highest learning rate.
        warmup_ratio: share of the steps over which it rises.
        gradient_accumulation_steps: passes in which the rows of a step are computed, one after the other: more take less memory.
        patience: epochs without an improvement on the validation rows after which training ends.
        weight_decay: weight decay.
        averaging: which weights are final: the last; their exponential moving average (Polyak and Juditsky, 1992; decay 0.99,
            less in the first steps); or their mean over the ends of the last epochs (Izmailov et al., 2018).
        bfloat16: see `Tuner`.
    """

    epochs: int | None = None
    batch_size: int = 16
    learning_rate: float = 5e-5
    warmup_ratio: float = WARMUP
    gradient_accumulation_steps: int = 1
    patience: int = 3
    weight_decay: float = DECAY
    averaging: Averaging = "none"
    bfloat16: bool | None = None

    def epochs_of(self, n: int) -> int:
        """Return the most passes over N rows."""
        return self.epochs or max(LEAST_EPOCHS, min(EPOCHS, ROWS_READ // max(1, n)))


class Loss(Protocol):
    """The loss over a set of rows: see `Objective`."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row [N]."""
        ...

    def passes(self, rows: IntArray, *, passes: int, of: int) -> Iterator[Callable[[], torch.Tensor]]:
        """Yield losses that sum to the share of `rows` in the loss of a step of `of` rows."""
        ...


class Companion(Protocol):
    """Acts after each step, and has a state of its own."""

    def losses(self, processes: int) -> Sequence[Callable[[], torch.Tensor]]:
        """Return further losses of a step, each divided by the number of processes, which all add it."""
        ...

    def after(self, step: int) -> None:
        """Act on the parameters after a step, before their gradients are cleared."""
        ...

    def state(self) -> Tensors:
        """Return the state for `restore`."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a state."""
        ...


@dataclass
class _Progress:
    """The progress of training without the weights."""

    step: int = 0
    best: tuple[float, ...] = (float("inf"),)
    waited: int = 0
    averaged: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains the parameters of two modules that require a gradient."""

    def __init__(
        self,
        encoder: torch.nn.Module,
        head: torch.nn.Module,
        recipe: TrainingRecipe,
        *,
        seed: int,
        companion: Companion | None = None,
        checkpoint: Path | None = None,
        every: float = SAVE_SECONDS,
        limit: float | None = None,
    ) -> None:
        """Take the modules.

        Args:
            encoder: the encoder, already in the mode for training.
            head: the newly initialized head.
            recipe: how to train.
            seed: seed of order and dropout.
            companion: acts after each step.
            checkpoint: the checkpoint file, from which training resumes if it exists; it is removed at the end.
            every: seconds between two checkpoints.
            limit: time limit in seconds, including the time before a kill; the number of steps is planned to fit it.
        """
        self._modules, self._recipe, self._seed, self._companion = (encoder, head), recipe, seed, companion
        self._checkpoint, self._every, self._limit = checkpoint, every, limit
        named = chain(encoder.named_parameters("encoder"), head.named_parameters("head"))
        self._weights = {name: parameter for name, parameter in named if parameter.requires_grad}
        self._device = next(iter(self._weights.values())).device
        self._best: Tensors = {}
        self._average: Tensors = {}
        self._progress = _Progress()
        self.seconds: list[float] = []

    def fit(self, loss: Loss, validate: Callable[[], tuple[float, ...]] | None) -> None:
        """Train, and leave the best weights in the modules.

        Args:
            loss: the loss.
            validate: returns the faults of the current weights on validation rows, the most important first; without it training
                runs for all epochs.
        """
        with seeded(derive_seed(self._seed, "steps")):
            self._fit(loss, validate)

    def _fit(self, loss: Loss, validate: Callable[[], tuple[float, ...]] | None) -> None:
        recipe, now = self._recipe, self._progress
        per_epoch = -(-len(loss.lengths) // recipe.batch_size)
        steps, saved = recipe.epochs_of(len(loss.lengths)) * per_epoch, time.monotonic()
        tuner = self._tuner(steps)
        self._resume(tuner)
        while now.step < tuner.steps and (now.waited < recipe.patience or self._to_average):
            epoch, first = divmod(now.step, per_epoch)
            batches = bucketed(loss.lengths, size=recipe.batch_size, seed=derive_seed(self._seed, "epoch", epoch))
            for batch in batches[first:]:
                started = time.monotonic()
                self._step(tuner, loss, batch)
                if now.step % per_epoch == 0:
                    self._end_epoch(steps, validate)
                now.seconds += time.monotonic() - started
                self._plan(tuner, steps)
                if self._checkpoint and time.monotonic() - saved >= self._every:
                    self._save(self._checkpoint, tuner)
                    saved = time.monotonic()
                if now.step == tuner.steps:
                    break
        if now.step % per_epoch and now.step == tuner.steps:
            self._end_epoch(steps, validate)
        self._put(self._best or self._average)
        if self._checkpoint:
            self._checkpoint.unlink(missing_ok=True)

    @property
    def _to_average(self) -> bool:
        """Whether stochastic weight averaging has not begun yet: if training ended now, there would be no average."""
        return self._recipe.averaging == "swa" and not self._progress.averaged

    def _plan(self, tuner: Tuner, steps: int) -> None:
        """Plan as many of the steps as there is time for, so that the learning rate has decayed at the time limit."""
        now = self._progress
        if self._limit is not None:
            tuner.steps = min(steps, max(now.step, int(now.step * self._limit / max(now.seconds, 1e-9))))

    def _tuner(self, steps: int) -> Tuner:
        recipe = self._recipe
        return Tuner(
            self._modules,
            rate=recipe.learning_rate,
            steps=steps,
            head=self._modules[1],
            warmup=recipe.warmup_ratio,
            decay=recipe.weight_decay,
            bfloat16=recipe.bfloat16,
        )

    def _step(self, tuner: Tuner, loss: Loss, batch: IntArray) -> None:
        started, now, companion = time.perf_counter(), self._progress, self._companion
        rows = batch[tuner.processes.rank :: tuner.processes.size]
        losses = loss.passes(rows, passes=self._recipe.gradient_accumulation_steps, of=len(batch))
        tuner.step(*losses, *(companion.losses(tuner.processes.size) if companion else ()))
        if companion:
            companion.after(now.step)
        now.step += 1
        if self._recipe.averaging == "ema":
            self._average_in(min(EMA_DECAY, (1 + now.averaged) / (10 + now.averaged)))
        self.seconds.append(time.perf_counter() - started)

    def _end_epoch(self, steps: int, validate: Callable[[], tuple[float, ...]] | None) -> None:
        now = self._progress
        if self._recipe.averaging == "swa" and now.step >= SWA_START * steps:
            if not now.averaged:  # from now on only averages compete
                now.best, now.waited = _Progress.best, 0
            self._average_in(now.averaged / (now.averaged + 1))
        if validate is None:
            return
        with self._averaged():
            faults = validate()
            if faults < now.best:
                now.best, now.waited, self._best = faults, 0, self._copy()
            else:
                now.waited += 1

    def _average_in(self, keep: float) -> None:
        """Make the average `keep` times the old average plus 1 - `keep` times the current weights."""
        now = self._progress
        for name, weight in self._copy().items():
            self._average[name] = torch.lerp(weight, self._average[name], keep) if now.averaged else weight
        now.averaged += 1

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the averaged weights, if there are any, in the block."""
        last = self._copy() if self._average else {}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(last)

    def _copy(self) -> Tensors:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self._weights[name].copy_(value)

    def _save(self, path: Path, tuner: Tuner) -> None:
        parts = {
            "weights": self._copy(),
            "best": self._best,
            "average": self._average,
            "optimizer": tuner.state(),
            "companion": self._companion.state() if self._companion else {},
            "random": random_states(self._device),
        }
        tensors = {f"{part}/{name}": value.contiguous() for part, named in parts.items() for name, value in named.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        save_file(tensors, partial, metadata={"progress": json.dumps(asdict(self._progress))})
        partial.replace(path)

    def _resume(self, tuner: Tuner) -> None:
        if self._checkpoint is None or not self._checkpoint.exists():
            return
        parts: dict[str, Tensors] = defaultdict(dict)
        with safe_open(self._checkpoint, framework="pt", device=str(self._device)) as stored:
            for key in stored.keys():  # noqa: SIM118  (not a mapping)
                part, _, name = key.partition("/")
                parts[part][name] = stored.get_tensor(key)
            self._progress.__dict__.update(json.loads(stored.metadata()["progress"]))
            self._progress.best = tuple(self._progress.best)
        self._put(parts["weights"])
        self._best, self._average = parts["best"], parts["average"]
        tuner.restore(parts["optimizer"], taken=self._progress.step)
        if self._companion:
            self._companion.restore(parts["companion"])
        restore_random(parts["random"], self._device)
