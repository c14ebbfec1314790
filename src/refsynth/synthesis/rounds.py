"""Rounds of drafts: each asks for the labels and rows that the model of the earlier rounds gets wrong on held-out rows.

The gate measures each round like a whole run. The first round is always kept; the gate of the run decides about it. A later round
is kept if its drafts improve any learner that may ship over the same learner in the round before, by the gate's test with a
correction for the number of rounds. The loop ends with the first round that does not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.errors import counted
from refsynth.core.files import read_json, write_json
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.run import RunFolder
from refsynth.core.signflip import sign_flip
from refsynth.core.task import Task
from refsynth.core.types import Array, Draft, FloatArray, IntArray, Metric, kept
from refsynth.kinds.metrics import softmax
from refsynth.learning.candidates import Candidate
from refsynth.learning.gate import FALSE_ACCEPTS, decide, hold_out
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job
from refsynth.learning.rows import read_rows
from refsynth.synthesis.coverage import measure_coverage
from refsynth.synthesis.drafts import WrittenDrafts, join_drafts, screen_drafts, write_drafts
from refsynth.synthesis.plan import ANYWHERE, Focus
from refsynth.synthesis.selection.choose import choice_of
from refsynth.synthesis.selection.diversity import DiversityFigures, diversity
from refsynth.synthesis.selection.soft_labels import judge_drafts
from refsynth.synthesis.writers import Writers

LEAST_NEED = 0.25
"""Need of a label without errors; that of a label that is always wrong is 1. Its drafts also help the labels next to it."""

HARD_SHARE = 1 / 3
"""Share of each label's rows that count as hard: those with the smallest margin."""


class Round(NamedTuple):
    """The figures of a round, for the drafts of all rounds up to it.

    `accuracy` and `gain` are those of held-out real rows. `coverage` is the share of the real rows that the drafts cover.
    """

    number: int
    asked: int
    kept: int
    accuracy: float
    gain: Metric | None
    diversity: DiversityFigures | None
    coverage: float | None
    used: bool


def screened(job: Job, writers: Writers, written: WrittenDrafts) -> list[Draft]:
    """Return the screened drafts; if targets come from the ensemble, with the reference's likelihoods of their labels."""
    drafts = screen_drafts(job, written, writers.generator, reference=writers.key)
    if job.task.config.filter.targets != "ensemble":
        return drafts
    return judge_drafts(job, drafts, writers.generator, reference=writers.key)


def write_rounds(job: Job, writers: Writers) -> tuple[WrittenDrafts, tuple[Round, ...]]:
    """Return the drafts of all kept rounds, as the step "drafts" of the run, and the figures of each round."""
    settings = job.task.config.synthesis
    if settings.rounds == 1 or not job.rows.measurable:
        return write_drafts(job, writers.writers, topics=writers.topics), ()
    spent = 0.0
    parts: list[Path] = []
    done: list[Round] = []
    before: HeldOut | None = None
    focus = ANYWHERE
    for turn in range(settings.rounds):
        started, mine = time.monotonic(), job.at(RunFolder(job.folder.path / "rounds" / str(turn + 1)))
        read_rows(job.task, mine.folder, skip_bad=job.skip_bad)  # the same rows, as a step that the round's steps depend on
        part = write_drafts(mine, writers.writers, topics=writers.topics, step="part", turn=turn, focus=focus)
        union = join_drafts([*parts, part.folder], mine.folder)
        drafts = screened(mine, writers, union)
        held = hold_out(mine, drafts, choice_of(mine, drafts))
        assert held is not None  # `rows.measurable` was checked above
        spent += _seconds(mine.folder, time.monotonic() - started)
        covered = measure_coverage(job.rows, drafts, job.context, mine.folder)
        decision, texts = decide(held, tuple(held.logits)), [example.text for example in kept(drafts)]
        used = before is None or adds(before, held, looks=settings.rounds - 1)
        figures = Round(
            number=turn + 1,
            asked=union.asked,
            kept=len(texts),
            accuracy=float(held.scores(decision.mixed or decision.real).mean()),
            gain=decision.gain,
            diversity=diversity(texts) if len(texts) > 1 else None,
            coverage=covered.value if covered else None,
            used=used,
        )
        done.append(figures)
        before = held
        job.watch.stage(f"round {turn + 1}", _line(figures))
        if not used:
            break
        parts.append(part.folder)
        if settings.minutes is not None and spent > 60 * settings.minutes:
            break
        focus = focus_of(held, job)
    # The last kept round has the same drafts, so the run reuses its steps.
    job.folder.adopt(RunFolder(job.folder.path / "rounds" / str(len(parts))))
    return join_drafts(parts, job.folder), tuple(done)


def _seconds(folder: RunFolder, seconds: float) -> float:
    """Return how long a round took when its drafts were made, so that a resumed run stops where it would have stopped."""
    file, drafts = folder.path / "seconds.json", folder.hash_of("drafts")
    if file.is_file() and (record := read_json(file))["drafts"] == drafts:
        return float(record["seconds"])
    write_json(file, {"drafts": drafts, "seconds": round(seconds, 3)})
    return seconds


def focus_of(held: HeldOut, job: Job) -> Focus:
    """Return where drafts are needed, by each label's errors on held-out rows, its confusions and the margins of its rows."""
    decision = decide(held, tuple(held.logits))
    probabilities = softmax(held.logits[decision.shipped]).mean(0)
    return _focus(probabilities, held.truth, job.task, [row.id for row in job.rows.examples])


def _focus(probabilities: FloatArray, truth: IntArray, task: Task, ids: Sequence[str]) -> Focus:
    labels = task.labels
    own = probabilities[np.arange(len(truth)), truth]
    others = probabilities.copy()
    others[np.arange(len(truth)), truth] = -np.inf
    margin = own - others.max(1)
    need: dict[str, float] = {}
    confused: dict[str, str] = {}
    hard: set[str] = set()
    for index, label in enumerate(labels):
        mine = np.flatnonzero(truth == index)
        if not len(mine):
            need[label] = 1.0
            continue
        need[label] = round(LEAST_NEED + (1 - LEAST_NEED) * float((margin[mine] < 0).mean()), 6)
        confused[label] = labels[int(others[mine].mean(0).argmax())]
        hardest = mine[np.argsort(margin[mine], kind="stable")][: max(1, int(HARD_SHARE * len(mine)))]
        hard.update(ids[row] for row in hardest)
    return Focus(need, confused, frozenset(hard))


def adds(before: HeldOut, after: HeldOut, *, looks: int) -> bool:
    """Return whether a round improves any learner that may ship by more than chance, with a correction for `looks` rounds.

    Each learner is compared with itself in the round before, on the same rows.
    """
    learners = dict.fromkeys(candidate.learner for candidate in after.logits if LEARNERS[candidate.learner].ships)
    gains = np.stack([after.differences(_logits(before, learner), _logits(after, learner)) for learner in learners])
    return bool(looks * sign_flip(gains, after.groups).min() <= FALSE_ACCEPTS)


def _logits(held: HeldOut, learner: LearnerName) -> Array:
    """Return a learner's logits with the drafts of a round, or without drafts if none was selected."""
    mixed = Candidate(learner, True)
    return held.logits[mixed if mixed in held.logits else Candidate(learner, False)]


def _line(one: Round) -> str:
    gain = "" if one.gain is None else f", {100 * one.gain.value:+.1f} points over real rows only"
    return (
        f"{counted(one.kept, 'draft')}, held-out accuracy {100 * one.accuracy:.1f}{gain}{'' if one.used else '; no further gain'}"
    )
