"""This project's own arms: the pipeline, run as a user does, and what its test result says of each arm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import refsynth
from benchmarks.bench import BUILD
from benchmarks.cells import Cell
from benchmarks.pool import keep, restore
from benchmarks.sets import Sample
from benchmarks.suite import cell
from refsynth.core.config import RunConfig
from refsynth.core.files import read_jsonl, write_atomic
from refsynth.core.hashes import digest, file_digest
from refsynth.core.learners import LearnerName
from refsynth.core.observe import Silent
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Array
from refsynth.evaluation.testfile import SHIPPED
from refsynth.learning.candidates import Candidate
from refsynth.learning.judge import fitter_of
from refsynth.pipeline.evidence import Evidence
from refsynth.pipeline.flow import run
from refsynth.pipeline.reopen import reopened

CODE = "code"
"""File of the hash of the code that began a run."""


class Ours(NamedTuple):
    """A finished run, the seconds of its steps, whether these include the drafting, and what other learners answer [N]."""

    evidence: Evidence
    seconds: float
    drafted: bool
    beside: Mapping[str, Array]


def run_ours(
    sample: Sample, name: str, seed: int, *, pool: str | None = None, beside: Sequence[LearnerName] = (), **settings: Any
) -> Ours:
    """Run the pipeline on a sample; `settings` are further keys of the configuration.

    `beside` are learners of the task that are fitted to the real rows and asked about the test rows whatever ships.

    The first of several rounds takes what the reference answered for the pool of the name `pool`, if that is kept. A run that was
    stopped goes on where it was, unless the code has changed since: then only the reference's answers stay.
    """
    folder = BUILD / f"{name}-{seed}"
    journal = folder / "run" / "journal.jsonl"
    keep(journal, name, seed)
    code = _code()
    if not (folder / CODE).is_file() or (folder / CODE).read_text("utf-8") != code:
        shutil.rmtree(folder, ignore_errors=True)
    train, test = sample.write(folder / "data")
    files = {"test": str(test)} | ({"train": str(train)} if sample.train else {})
    tree = {"language": "auto", "labels": dict(sample.labels), "data": files, "seed": seed, **settings}
    place = RunFolder(folder / "run")  # before the journal is there: a folder with other files is not taken for a run's
    write_atomic(folder / CODE, code.encode())
    drafted = not restore(journal, name, seed)
    first = place.path / "rounds" / "1" / journal.name
    if pool is not None and not first.exists():
        RunFolder(first.parent)
        restore(first, pool, seed)
    evidence = run(Task.of(RunConfig.parse(tree)), place.path).evidence
    events = [event for file in place.path.rglob("events.jsonl") for event in read_jsonl(file)]
    seconds = sum(event["seconds"] for event in events if event["event"] == "step")
    keep(journal, name, seed)
    answers = _answers(place.path, sample, beside) if beside else {}
    shutil.rmtree(folder)
    return Ours(evidence, seconds, drafted, answers)


def _answers(run: Path, sample: Sample, names: Sequence[LearnerName]) -> dict[str, Array]:
    """Return what learners that are fitted to a run's real rows answer on the test rows [N]."""
    with reopened(run, (), Silent()) as begun:
        fitter, kind = fitter_of(begun.job), begun.job.context.kind
        fitted = {name: fitter.fit(Candidate(name, False)) for name in names}
    return {name: kind.decide(kind.probabilities(one.logits(sample.texts))) for name, one in fitted.items()}


def _code() -> str:
    """Return a hash of the package's sources."""
    package = Path(refsynth.__file__).parent
    return digest([[path.relative_to(package).as_posix(), file_digest(path)] for path in sorted(package.rglob("*.py"))])


def arms(ours: Ours, systems: dict[str, str]) -> list[Cell]:
    """Return the cells of some arms: `systems` maps their names in the bench to those in the run's test result."""
    test, decision = ours.evidence.test, ours.evidence.learned.decision
    assert test is not None
    k, predicted = len(ours.evidence.task.labels), {**ours.beside, **test.predicted}
    extra = {"gain": None if decision.gain is None else decision.gain.value, "shipped": str(decision.shipped)}
    return [
        cell(name, test.truth, predicted[key], ours.seconds, k) | {"drafted": ours.drafted} | (extra if key == SHIPPED else {})
        for name, key in systems.items()
    ]


def four_arms(sample: Sample, name: str, seed: int) -> list[Cell]:
    """Measure the baselines, the best learner without and with drafts, and what ships."""
    ours = run_ours(sample, name, seed, beside=("tfidf", "frozen"))
    decision = ours.evidence.learned.decision
    systems = {"tfidf": "tfidf", "frozen": "frozen", "real only": str(decision.real), "shipped": SHIPPED}
    return arms(ours, systems | {"real + synthetic": str(decision.mixed or decision.real)})


OURS = ("tfidf", "frozen", "real only", "real + synthetic", "shipped")
"""The systems of `four_arms`."""
