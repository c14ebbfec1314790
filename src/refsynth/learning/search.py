"""Hyper-parameter search by Optuna under a time budget: a learner that tries settings on its training rows, then fits.

The search sees only the rows that the learner is fitted to. So the gate searches again for each fold, without the held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from refsynth.core.config import RunConfig
from refsynth.core.extras import require
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed, digest
from refsynth.core.learners import MethodName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.sections import TrainingConfig
from refsynth.core.settings import minutes_each
from refsynth.core.types import Example, IntArray
from refsynth.data.split import FoldSplit
from refsynth.learning.head import Link, targets_of
from refsynth.learning.parts import fair_parts, parts_of
from refsynth.learning.tuning.methods import METHODS
from refsynth.learning.tuning.objective import LOSSES

FOLDS = 3
"""Folds of the cross-validation in every trial."""

LEAST_ROWS = 12
"""The fewest held-out rows with known labels that can tell settings apart."""

SEARCH = "search"
"""The folder for search results in a run's folder."""

Settings = Mapping[str, float | int]


class Range(NamedTuple):
    """The values of a setting: from `low` to `high`, with `log` on a logarithmic scale; or one of those in `among`."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    among: tuple[int, ...] = ()

    def suggest(self, trial: Any, name: str) -> float | int:
        """Return the value for a trial."""
        if self.among:
            return int(trial.suggest_categorical(name, self.among))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


class SearchBudget(NamedTuple):
    """Minutes and trials for one search of one learner, and the folder for results."""

    minutes: float
    trials: int
    folder: Path


def search_budget(config: RunConfig, checkpoints: Path | None) -> SearchBudget | None:
    """Return the budget of one search; None if the task configures no search."""
    if not config.search.minutes or checkpoints is None:
        return None
    return SearchBudget(minutes_each(config), config.search.trials, checkpoints.with_name(SEARCH))


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


class SearchResult(NamedTuple):
    """The settings with the least held-out log loss `best`, the loss `usual` of the usual settings, and the number of trials."""

    learner: str
    settings: dict[str, float | int]
    usual: float
    best: float
    trials: int

    def line(self) -> str:
        """Return the result as one line."""
        values = ", ".join(f"{name} {value:.3g}" for name, value in self.settings.items())
        return f"{self.learner}, {self.trials} trials: held-out loss {self.usual:.3f} -> {self.best:.3f} with {values}"


class SearchedLearner:
    """Searches for settings on its real training rows, then fits with them. Results are kept in a folder by rows and seed.

    `last` is the result of the search for the last fit; None if there was no search.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Settings], Learner],
        space: Mapping[str, Range],
        usual: Settings,
        *,
        labels: tuple[str, ...],
        minutes: float,
        trials: int,
        folder: Path,
        about: str,
        link: Link = "softmax",
    ) -> None:
        """Take the learner and the search space.

        Args:
            name: the name of the learner.
            make: makes the learner with settings.
            space: the range of each setting.
            usual: the settings of the first trial.
            labels: the labels of the task.
            minutes: the time of one search, after which no trial begins; the time before a kill counts.
            trials: the most trials of one search.
            folder: the folder for results and for unfinished searches.
            about: hash of everything but the settings that the learner is made with.
            link: how logits become probabilities.
        """
        self._name, self._make, self._space, self._usual, self._labels = name, make, space, usual, labels
        self._minutes, self._trials, self._folder, self._about, self._link = minutes, trials, folder, about, link
        self.last: SearchResult | None = None

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> Predictor:
        """Search for settings and fit to the examples with them; with the usual settings if too few rows can be held out.

        Near-duplicates cannot be held out, nor can a row with a label that no row of another fold has.
        """
        real = [row for row in train if row.provenance is None]
        held_out = sum(len(places) for _, places in self._parts(real, seed=seed))
        self.last = self.found(real, dev, seed=seed) if held_out >= LEAST_ROWS else None
        settings = self._usual if self.last is None else self.last.settings
        return self._make(settings).fit(train, dev, seed=seed)

    def found(self, real: Sequence[Example], dev: Sequence[Example], *, seed: int) -> SearchResult:
        """Return the best settings for real rows, from the folder if an earlier search found them."""
        rows = [[row.to_json() for row in part] for part in (real, dev)]
        options = [self._space, dict(self._usual), self._labels, self._minutes, self._trials]
        path = self._folder / f"{self._name}-{digest([self._name, rows, seed, self._about, options])[:16]}.json"
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            journal = path.with_suffix(".journal")
            write_json(path, self._search(real, dev, journal, seed=seed)._asdict())
            journal.unlink(missing_ok=True)
        return SearchResult(**read_json(path))

    def _search(self, real: Sequence[Example], dev: Sequence[Example], journal: Path, *, seed: int) -> SearchResult:
        optuna = require("optuna", extra="search")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        study = optuna.create_study(study_name=self._name, storage=storage, load_if_exists=True)

        def complete() -> list[Any]:
            return list(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))

        def objective(trial: Any) -> float:
            settings = {name: values.suggest(trial, name) for name, values in self._space.items()}
            return self._loss(settings, real, dev, seed=seed)

        # A resumed search must not repeat the draws of its earlier trials.
        study.sampler = optuna.samplers.TPESampler(seed=derive_seed(seed, "search", len(complete())))
        if not complete():
            study.enqueue_trial(dict(self._usual))
            study.optimize(objective, n_trials=1)
        done = complete()
        seconds_left = 60 * self._minutes - sum(trial.duration.total_seconds() for trial in done)
        if seconds_left > 0 and len(done) < self._trials:
            study.optimize(objective, n_trials=self._trials - len(done), timeout=seconds_left)
        done = complete()
        return SearchResult(self._name, dict(study.best_params), float(done[0].value), float(study.best_value), len(done))

    def _loss(self, settings: Settings, real: Sequence[Example], dev: Sequence[Example], *, seed: int) -> float:
        """Return the mean log loss of held-out rows in nats, by cross-validation."""
        losses: list[float] = []
        for part, places in self._parts(real, seed=seed):
            held = [part.held[place] for place in places]
            logits = self._make(settings).fit(part.train, dev, seed=seed).logits([row.text for row in held])
            targets = torch.from_numpy(targets_of(held, self._labels, link=self._link)).float()
            losses += LOSSES[self._link](torch.from_numpy(np.asarray(logits, float)), targets).tolist()
        return float(np.mean(losses))

    def _parts(self, real: Sequence[Example], *, seed: int) -> Iterator[tuple[FoldSplit, IntArray]]:
        folds = parts_of(real, FOLDS, seed=derive_seed(seed, "search"), link=self._link)
        return fair_parts(real, folds, self._labels, link=self._link)
