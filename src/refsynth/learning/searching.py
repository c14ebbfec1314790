"""The hyper-parameter search that a task configures: its budget, the settings that it tries first, and the search space."""

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
"""The folder for search results in a run's folder."""


class Searching(NamedTuple):
    """Minutes and trials for one search of one learner, and the folder for results."""

    minutes: float
    trials: int
    folder: Path


def searching_of(config: RunConfig, checkpoints: Path | None) -> Searching | None:
    """Return the budget of one search; None if the task configures no search."""
    if not config.search.minutes or checkpoints is None:
        return None
    return Searching(minutes_each(config), config.search.trials, checkpoints.with_name(SEARCH))


def usual_settings(training: TrainingConfig, method: MethodName) -> dict[str, float]:
    """Return the settings of a method in the task, which the first trial uses."""
    return {
        "learning_rate": training.learning_rate or METHODS[method].rate,
        "batch_size": training.batch_size,
        "dropout": training.dropout,
        "weight_decay": training.weight_decay,
        "label_smoothing": training.label_smoothing,
    }


def space_of(training: TrainingConfig, usual: Mapping[str, float]) -> dict[str, Range]:
    """Return the search space of each setting; it contains the usual settings."""
    least = min(0.05, usual["dropout"]) if training.rdrop else 0.0  # R-Drop needs two different passes
    return {
        "learning_rate": Range(usual["learning_rate"] / 5, min(1.0, usual["learning_rate"] * 5), log=True),
        "batch_size": Range(among=tuple(sorted({8, 16, 32, training.batch_size}))),
        "dropout": Range(least, max(0.3, usual["dropout"])),
        "weight_decay": Range(0.0, max(0.1, usual["weight_decay"])),
        "label_smoothing": Range(0.0, max(0.2, usual["label_smoothing"])),
    }
