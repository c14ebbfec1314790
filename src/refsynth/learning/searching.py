"""A search of hyper-parameters as a task asks for it: its time, what it tries first, and what it may try. Knows no learners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from refsynth.core.config import RunConfig
from refsynth.core.learners import MethodName
from refsynth.core.sections import TrainingConfig
from refsynth.core.settings import minutes_each
from refsynth.learning.search import Range
from refsynth.learning.tuning.methods import METHODS

SEARCH = "search"
"""The folder in a run of what searches found."""


class Searching(NamedTuple):
    """Minutes and trials for one search of one learner, and the folder of what is found."""

    minutes: float
    trials: int
    folder: Path


def searching_of(config: RunConfig, checkpoints: Path | None) -> Searching | None:
    """Return what one search may take; None where nothing is searched for."""
    if not config.search.minutes or checkpoints is None:
        return None
    return Searching(minutes_each(config), config.search.trials, checkpoints.with_name(SEARCH))


def usual_settings(training: TrainingConfig, method: MethodName) -> dict[str, float]:
    """Return the settings of a method as the task has them, which are tried first."""
    return {
        "learning_rate": training.learning_rate or METHODS[method].rate,
        "batch_size": training.batch_size,
        "dropout": training.dropout,
        "weight_decay": training.weight_decay,
        "label_smoothing": training.label_smoothing,
    }


def space_of(training: TrainingConfig, usual: Mapping[str, float]) -> dict[str, Range]:
    """Return what may be tried of each setting; the usual ones are among it."""
    least = min(0.05, usual["dropout"]) if training.rdrop else 0.0  # which needs some
    return {
        "learning_rate": Range(usual["learning_rate"] / 5, min(1.0, usual["learning_rate"] * 5), log=True),
        "batch_size": Range(among=tuple(sorted({8, 16, 32, training.batch_size}))),
        "dropout": Range(least, max(0.3, usual["dropout"])),
        "weight_decay": Range(0.0, max(0.1, usual["weight_decay"])),
        "label_smoothing": Range(0.0, max(0.2, usual["label_smoothing"])),
    }
