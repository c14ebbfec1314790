"""Search of hyper-parameters by Optuna, under a time budget: a learner that tries settings on the rows it is given, then fits.

What it is not given it cannot have tuned on: where the gate holds a fold out, the settings are found anew without that fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from refsynth.core.extras import require
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import derive_seed, digest, read_json, write_json
from refsynth.core.types import Example, IntArray
from refsynth.data.split import FoldSplit
from refsynth.learning.head import Link
from refsynth.learning.parts import fair_parts, parts_of
from refsynth.learning.tuning.objective import LOSSES, targets_of

FOLDS = 3
"""Parts of the rows, each answered by a model of the others, in every trial."""

LEAST_ROWS = 12
"""Fewer rows, of labels that rows of other parts have too, cannot tell settings apart."""

Settings = Mapping[str, float | int]


class Range(NamedTuple):
    """The values of a setting: from low to high, on a logarithmic scale or not; or one of a few."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    among: tuple[int, ...] = ()

    def suggest(self, trial: Any, name: str) -> float | int:
        """Return the value that a trial is to try."""
        if self.among:
            return int(trial.suggest_categorical(name, self.among))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


class SearchResult(NamedTuple):
    """The settings with the least log loss on held-out rows, that loss and that of the usual ones, and how many were tried."""

    learner: str
    settings: dict[str, float | int]
    usual: float
    best: float
    trials: int

    def line(self) -> str:
        """Return it as one line."""
        values = ", ".join(f"{name} {value:.3g}" for name, value in self.settings.items())
        return f"{self.learner}, {self.trials} trials: held-out loss {self.usual:.3f} -> {self.best:.3f} with {values}"


class SearchedLearner:
    """Finds settings on the real rows that it is given, then fits with them. Asked about the same rows again, it knows them.

    `last` is what it found for its last fit; None if it did not search.
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
        """Take what is searched.

        Args:
            name: of the learner.
            make: makes it with settings.
            space: what may be tried of each setting.
            usual: settings that are tried first.
            labels: of the task.
            minutes: in which no further trial of one search begins; those before a kill count.
            trials: of one search, at most.
            folder: of what was found, and of searches under way.
            about: hash of what the learner is made with beside the settings.
            link: how logits become probabilities.
        """
        self._name, self._make, self._space, self._usual, self._labels = name, make, space, usual, labels
        self._minutes, self._trials, self._folder, self._about, self._link = minutes, trials, folder, about, link
        self.last: SearchResult | None = None

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> Predictor:
        """Search, and fit to the examples with what was found; with the usual settings where too few rows can tell.

        None can where all rows are alike, nor can a row whose label no row of another part has.
        """
        real = [row for row in train if row.provenance is None]
        telling = sum(len(places) for _, places in self._parts(real, seed=seed))
        self.last = self.found(real, dev, seed=seed) if telling >= LEAST_ROWS else None
        settings = self._usual if self.last is None else self.last.settings
        return self._make(settings).fit(train, dev, seed=seed)

    def found(self, real: Sequence[Example], dev: Sequence[Example], *, seed: int) -> SearchResult:
        """Return the best settings for real rows; searched for once."""
        rows = [[row.to_json() for row in part] for part in (real, dev)]
        asked = [self._space, dict(self._usual), self._labels, self._minutes, self._trials]
        path = self._folder / f"{self._name}-{digest([self._name, rows, seed, self._about, asked])[:16]}.json"
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

        def finished() -> list[Any]:
            return list(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))

        def tried(trial: Any) -> float:
            settings = {name: values.suggest(trial, name) for name, values in self._space.items()}
            return self._loss(settings, real, dev, seed=seed)

        # A search that goes on must not draw again what it has drawn.
        study.sampler = optuna.samplers.TPESampler(seed=derive_seed(seed, "search", len(finished())))
        if not finished():
            study.enqueue_trial(dict(self._usual))
            study.optimize(tried, n_trials=1)
        done = finished()
        left = 60 * self._minutes - sum(trial.duration.total_seconds() for trial in done)
        if left > 0 and len(done) < self._trials:
            study.optimize(tried, n_trials=self._trials - len(done), timeout=left)
        done = finished()
        return SearchResult(self._name, dict(study.best_params), float(done[0].value), float(study.best_value), len(done))

    def _loss(self, settings: Settings, real: Sequence[Example], dev: Sequence[Example], *, seed: int) -> float:
        """Return the mean log loss of the rows that can tell, in nats, each answered by a model of the other parts."""
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
