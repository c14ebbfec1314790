"""This project's own arms: the pipeline, run as a user does, and what its test result says of each arm."""

from __future__ import annotations

import shutil
import time
from typing import Any, NamedTuple

from refsynth.bench.cells import Cell
from refsynth.bench.pool import BENCH, keep, restore
from refsynth.bench.sets import Sample
from refsynth.bench.suite import cell
from refsynth.core.config import RunConfig
from refsynth.core.run import RunFolder
from refsynth.pipeline.evaluate import SHIPPED
from refsynth.pipeline.finished import Finished
from refsynth.pipeline.steps import run
from refsynth.task import Task


class Ours(NamedTuple):
    """A finished run, its wall time in seconds, and whether that includes the drafting."""

    finished: Finished
    seconds: float
    drafted: bool


def run_ours(sample: Sample, name: str, seed: int, *, pool: str | None = None, **settings: Any) -> Ours:
    """Run the pipeline on a sample; `settings` are further keys of the configuration.

    The first of several rounds takes what the reference answered for the pool of the name `pool`, if that is kept.
    """
    folder = BENCH / f"{name}-{seed}"
    journal = folder / "run" / "journal.jsonl"
    keep(journal, name, seed)  # of a run that was stopped the answers stay and the steps go: the time is that of a whole run
    shutil.rmtree(folder, ignore_errors=True)
    train, test = sample.write(folder / "data")
    files = {"test": str(test)} | ({"train": str(train)} if sample.train else {})
    tree = {"language": "auto", "labels": dict(sample.labels), "data": files, "seed": seed, **settings}
    place = RunFolder(folder / "run")  # before the journal is there: a folder with other files is not taken for a run's
    drafted = not restore(journal, name, seed)
    if pool is not None:
        restore(RunFolder(place.path / "rounds" / "1").path / journal.name, pool, seed)
    started = time.monotonic()
    finished = run(Task.of(RunConfig.parse(tree)), place.path).finished
    seconds = time.monotonic() - started
    keep(journal, name, seed)
    shutil.rmtree(folder)
    return Ours(finished, seconds, drafted)


def arms(ours: Ours, systems: dict[str, str]) -> list[Cell]:
    """Return the cells of some arms: `systems` maps their names in the bench to those in the run's test result."""
    test, decision = ours.finished.test, ours.finished.learned.decision
    assert test is not None
    k = len(ours.finished.task.labels)
    extra = {"gain": None if decision.gain is None else decision.gain.value, "shipped": str(decision.shipped)}
    return [
        cell(name, test.truth, test.predicted[key], ours.seconds, k)
        | {"drafted": ours.drafted}
        | (extra if key == SHIPPED else {})
        for name, key in systems.items()
    ]


def four_arms(sample: Sample, name: str, seed: int) -> list[Cell]:
    """Measure the baselines, the best learner without and with drafts, and what ships."""
    ours = run_ours(sample, name, seed)
    decision = ours.finished.learned.decision
    systems = {"tfidf": "tfidf", "frozen": "frozen", "real only": str(decision.real), "shipped": SHIPPED}
    return arms(ours, systems | {"real + synthetic": str(decision.mixed or decision.real)})


OURS = ("tfidf", "frozen", "real only", "real + synthetic", "shipped")
"""The systems of `four_arms`."""
