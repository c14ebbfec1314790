"""The gate: is the model better with drafts, on real rows that neither it nor its drafts have seen?

Repeated cross-validation over the real rows. When a fold is held out, so is every draft whose prompt showed one of its rows, and
the judge that selects drafts is fitted without it. Each fold is a step of its own, so that a killed run loses one at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from refsynth.core.forecast import gate_forecast
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.run import read_json
from refsynth.core.settings import settings_of
from refsynth.core.signflip import sign_flip
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, IntArray, Metric, kept
from refsynth.kinds import from_json
from refsynth.learning.asking import OF_TEXTS, OUTSIDE, ROWS, OutsideTexts, ask
from refsynth.learning.candidates import Candidate, ranked
from refsynth.learning.folds import deals_of, fit_fold, folds_of
from refsynth.learning.held import HeldOut, HeldOutside
from refsynth.learning.job import Job, choosing_key, drafts_key, fitting_key
from refsynth.learning.selftrain import Choose

LEARNER_DOUBT = 2.0
"""Standard errors by which a less preferred learner must win.

That one learner is better than another on most tasks is known from many data sets; a few dozen rows of this one must speak
clearly to overrule it.
"""

FALSE_ACCEPTS = 0.05
"""The share of runs in which drafts without any effect may be taken to help, at most; see design/021-gate.md.

Of drafts nothing is known beforehand: it depends on the reference and the task.
"""


@dataclass(frozen=True)
class Decision:
    """Which candidate ships, and what drafts do to its learner.

    `real` is the best candidate without drafts, `mixed` the learner that ships with drafts. `gain` is the latter over the same
    learner without, in what the gate measures, paired by row; `chance` the probability of such a gain, for any of the learners,
    if drafts had no effect. `competed` has each learner as it would ship: with drafts if the test took them, else without.
    """

    shipped: Candidate
    real: Candidate
    mixed: Candidate | None
    gain: Metric | None
    reason: str
    competed: tuple[Candidate, ...]
    chance: float | None = None

    def compared(self, learners: Iterable[LearnerName]) -> list[Candidate]:
        """Return what the report sets beside what ships: the best without drafts, the shipped learner with, and baselines."""
        baselines = [Candidate(name, False) for name in learners if LEARNERS[name].always_shown]
        return [self.real, *([self.mixed] if self.mixed else []), *baselines]

    def line(self) -> str:
        """Return the decision as one line for the screen."""
        measured = ""
        if self.gain is not None:
            measured = f": {100 * self.gain.value:+.1f} points [{100 * self.gain.low:+.1f}, {100 * self.gain.high:+.1f}]"
        return f"{self.reason}{measured} -> shipping {self.shipped}"


def hold_out(job: Job, drafts: Sequence[Draft], choose: Choose) -> HeldOut | None:
    """Return what every candidate says of every real row when its fold is held out; None where too few rows can be.

    Args:
        job: the task, its rows and the learners. Each fold becomes a step in its folder.
        drafts: screened drafts.
        choose: chooses the drafts to train on, given a judge and the real rows that it was fitted to.
    """
    task, rows, config = job.task, job.rows, job.task.config
    if not rows.measurable:
        return None
    dealt, outside = deals_of(task, rows), job.outside
    strangers = outside.dealt(dealt, seed=config.seed)
    parts: dict[str, list[_FoldAnswers]] = {name: [] for name in (*ROWS, *OUTSIDE)}
    models = 2 if kept(drafts) else 1  # the judge's learner, and again with drafts
    if told := gate_forecast(job.folder, config.gate.repeats * config.gate.folds, models=models):
        job.watch.forecast(told)
    with job.watch.progress("gate", config.gate.repeats * config.gate.folds) as progress:
        for done, fold in enumerate(folds_of(task, rows, drafts)):
            away = np.flatnonzero(strangers[fold.repeat] == fold.number)
            fit = partial(fit_fold, fold, task, rows, job.learners, choose)
            make = partial(
                ask, fit, fold, OutsideTexts.of(outside, away), one=config.kind.labels == "one" and not config.kind.pair
            )
            name, extra = (
                f"gate-{fold.repeat}-{fold.number}",
                {**fitting_key(job), **choosing_key(job), "drafts": drafts_key(fold.drafts), "none": outside.key},
            )
            step = job.folder.step(STEPS["gate"], make, config=settings_of(config), name=name, extra=extra)
            for arithmetic, found in parts.items():
                values = read_json(step / f"{arithmetic}.json").items()
                said = {Candidate.named(name): from_json(value) for name, value in values}
                found.append(_FoldAnswers(fold.repeat, away if arithmetic in OF_TEXTS else fold.places, said))
            progress(done + 1)
    held = HeldOut.of(rows, task.labels, dealt)
    whole = {name: _whole(found, (strangers if name in OF_TEXTS else dealt).shape) for name, found in parts.items()}
    apart = HeldOutside(strangers, np.array(outside.groups, int), *(whole[name] for name in OUTSIDE))
    logits, int8, near = (whole[name] for name in ROWS)
    return replace(held, logits=logits, int8=int8, near=near, outside=apart if outside.texts else None)


class _FoldAnswers(NamedTuple):
    """What candidates said of the rows, or texts, at some places."""

    repeat: int
    places: IntArray
    said: Mapping[Candidate, Array]


def _whole(parts: Sequence[_FoldAnswers], shape: tuple[int, ...]) -> dict[Candidate, Array]:
    """Return logits [R, N, ...] of each candidate; in a fold for which no draft was chosen, with drafts is as without."""
    logits: dict[Candidate, Array] = {}
    for name in dict.fromkeys(candidate for part in parts for candidate in part.said):
        for part in parts:
            said = part.said[name if name in part.said else name._replace(drafts=False)]
            empty = np.zeros((*shape, *said.shape[1:]), said.dtype)
            logits.setdefault(name, empty)[part.repeat, part.places] = said
    return logits


def decide(held: HeldOut | None, candidates: Sequence[Candidate], *, why: str = "not measured", looks: int = 1) -> Decision:
    """Choose what ships: first for each learner whether it takes drafts, then the learner.

    A learner takes drafts if its gain by them is one that drafts without effect would bring in at most `FALSE_ACCEPTS` of all
    runs, to any of the learners. A less preferred learner must then win over a more preferred one by `LEARNER_DOUBT` standard
    errors of the difference. Without rows to hold out, the most preferred learner ships, with drafts if there are any.

    Args:
        held: what was said of held-out rows; None if nothing was.
        candidates: those that were fitted.
        why: there are no held-out rows.
        looks: how many sets of drafts have been looked at on these rows, which is paid for (Bonferroni).
    """
    able = [candidate for candidate in candidates if LEARNERS[candidate.learner].ships]
    names = ranked({candidate.learner for candidate in able})
    order = sorted(able, key=lambda candidate: names.index(candidate.learner))
    plain, helped = ([c for c in order if c.drafts is wanted and (held is None or c in held.logits)] for wanted in (False, True))
    if held is None:
        first, *_ = competed = tuple(helped or plain)
        reason = f"{why}; the most preferred learner ships"
        return Decision(first, plain[0], first if helped else None, None, reason, competed)
    real = _best(held, plain)
    if not helped:
        return Decision(real, real, None, None, "there are no drafts to compare with", tuple(plain))
    chances = dict(zip(helped, gain_chances(held, helped), strict=True))
    taken = {candidate for candidate, chance in chances.items() if looks * chance <= FALSE_ACCEPTS}
    competed = tuple(mixed if (mixed := each._replace(drafts=True)) in taken else each for each in plain)
    shipped = _best(held, competed)
    mixed = shipped._replace(drafts=True)
    if mixed not in chances:
        return Decision(shipped, real, None, None, f"no draft was chosen for {shipped.learner}", competed)
    gain = held.gain(held.scores(shipped._replace(drafts=False)), held.scores(mixed))
    chance = min(1.0, looks * chances[mixed])
    return Decision(shipped, real, mixed, gain, _reason(gain, helps=shipped.drafts), competed, chance)


def gain_chances(held: HeldOut, candidates: Sequence[Candidate]) -> list[float]:
    """Return how likely the gain of each candidate with drafts over the same without is, if drafts had no effect on any."""
    gains = np.stack([held.differences(held.logits[each._replace(drafts=False)], held.logits[each]) for each in candidates])
    return [float(chance) for chance in sign_flip(gains, held.groups)]


def _reason(gain: Metric, *, helps: bool) -> str:
    if helps:
        return "drafts help on held-out real rows"
    if gain.high < 0:
        return "drafts do harm on held-out real rows"
    return "what drafts bring cannot be told from chance on held-out real rows"


def _best(held: HeldOut, candidates: Sequence[Candidate]) -> Candidate:
    """Return the most preferred candidate, unless a later one beats it; one row more is never enough."""
    best, nothing = candidates[0], np.zeros(len(held.groups))
    for candidate in candidates[1:]:
        if held.exceeds(nothing, held.differences(held.logits[best], held.logits[candidate]), doubt=LEARNER_DOUBT):
            best = candidate
    return best
