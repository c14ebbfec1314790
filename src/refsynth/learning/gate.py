"""The gate: is the model better with drafts, on real rows that neither it nor its drafts have seen?

It is a repeated cross-validation over the real rows. A held-out fold also holds out every draft whose prompt showed one of its
rows, and the judge that selects drafts is fitted without it. Each fold is a step of its own, so a killed run loses at most one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.forecast import gate_forecast
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.settings import settings_of
from refsynth.core.signflip import sign_flip
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, IntArray, Metric, kept
from refsynth.learning.asking import FoldRecord, OutsideTexts, Values, ask
from refsynth.learning.candidates import Candidate, ranked
from refsynth.learning.folds import Fold, deals_of, fit_fold, folds_of
from refsynth.learning.held import HeldOut, HeldOutside
from refsynth.learning.job import Job, choosing_key, drafts_key, fitting_key
from refsynth.learning.selftrain import Choose

LEARNER_DOUBT = 2.0
"""Standard errors by which a less preferred learner must win.

The order of preference comes from many data sets; a few dozen rows need clear evidence to overrule it.
"""

FALSE_ACCEPTS = 0.05
"""The largest share of runs in which drafts without any effect may be accepted; see design/021-gate.md.

Whether drafts help depends on the reference and the task, so there is no preference as for learners.
"""


@dataclass(frozen=True)
class Decision:
    """Which candidate ships, and the effect of drafts on its learner.

    Attributes:
        shipped: the candidate that ships.
        real: the best candidate without drafts.
        mixed: the learner that ships, with drafts; None if it was not fitted with any.
        gain: the score of `mixed` minus that of the same learner without drafts, paired by row.
        reason: why, as a sentence.
        competed: each learner as it would ship: with drafts if the test accepted them, else without.
        chance: the probability that any of the learners has such a gain if drafts have no effect.
    """

    shipped: Candidate
    real: Candidate
    mixed: Candidate | None
    gain: Metric | None
    reason: str
    competed: tuple[Candidate, ...]
    chance: float | None = None

    def compared(self, learners: Iterable[LearnerName]) -> list[Candidate]:
        """Return the candidates that the report compares: the best without drafts, the shipped learner with, and baselines."""
        baselines = [Candidate(name, False) for name in learners if LEARNERS[name].always_shown]
        return [self.real, *([self.mixed] if self.mixed else []), *baselines]

    def line(self) -> str:
        """Return the decision as one line for the screen."""
        measured = ""
        if self.gain is not None:
            measured = f": {100 * self.gain.value:+.1f} points [{100 * self.gain.low:+.1f}, {100 * self.gain.high:+.1f}]"
        return f"{self.reason}{measured} -> shipping {self.shipped}"


def hold_out(job: Job, drafts: Sequence[Draft], choose: Choose) -> HeldOut | None:
    """Return the predictions of every candidate for every real row when its fold is held out; None if too few rows can be.

    Args:
        job: the run; each fold becomes a step in its folder.
        drafts: already screened.
        choose: chooses among them.
    """
    task, rows, outside = job.task, job.rows, job.outside
    if not rows.measurable:
        return None
    dealt = deals_of(task, rows)
    text_folds = outside.dealt(dealt, seed=task.config.seed)
    asked = _ask_folds(job, drafts, choose, text_folds)

    def of_rows(part: Callable[[FoldRecord], Values]) -> dict[Candidate, Array]:
        return _whole([_FoldValues(one.repeat, one.rows, part(one.record)) for one in asked], dealt.shape)

    def of_texts(part: Callable[[FoldRecord], Values]) -> dict[Candidate, Array]:
        return _whole([_FoldValues(one.repeat, one.texts, part(one.record)) for one in asked], text_folds.shape)

    held_outside = HeldOutside(
        folds=text_folds,
        groups=np.array(outside.groups, int),
        rows=of_rows(lambda record: record.rows_less),
        texts=of_texts(lambda record: record.texts_less),
        alone=of_texts(lambda record: record.texts_near),
    )
    return replace(
        HeldOut.of(rows, task.labels, dealt),
        logits=of_rows(lambda record: record.logits),
        int8=of_rows(lambda record: record.int8),
        near=of_rows(lambda record: record.rows_near),
        outside=held_outside if outside.texts else None,
    )


class _AskedFold(NamedTuple):
    """The record of a fold, and the places of its rows and texts."""

    repeat: int
    rows: IntArray
    texts: IntArray
    record: FoldRecord


def _ask_folds(job: Job, drafts: Sequence[Draft], choose: Choose, text_folds: IntArray) -> list[_AskedFold]:
    """Return the records of all folds, given the fold of each text of no label [R, M]."""
    config = job.task.config
    folds = config.gate.repeats * config.gate.folds
    models = 2 if kept(drafts) else 1  # the judge's learner, and again with drafts
    if forecast := gate_forecast(job.folder, folds, models=models):
        job.watch.forecast(forecast)
    asked = []
    with job.watch.progress("gate", folds) as progress:
        for done, fold in enumerate(folds_of(job.task, job.rows, drafts)):
            texts = np.flatnonzero(text_folds[fold.repeat] == fold.number)
            asked.append(_AskedFold(fold.repeat, fold.places, texts, _ask_fold(job, fold, choose, texts)))
            progress(done + 1)
    return asked


def _ask_fold(job: Job, fold: Fold, choose: Choose, texts: IntArray) -> FoldRecord:
    """Return the record of a fold, from the step cache if it is there."""
    kind = job.task.config.kind
    nearness = kind.labels == "one" and not kind.pair

    def make(out: Path) -> None:
        fitted = fit_fold(fold, job.task, job.rows, job.learners, choose)
        ask(fitted.predictors, fold, OutsideTexts.of(job.outside, texts), nearness=nearness).write(out)

    extra = {**fitting_key(job), **choosing_key(job), "drafts": drafts_key(fold.drafts), "none": job.outside.key}
    name = f"gate-{fold.repeat}-{fold.number}"
    return FoldRecord.read(job.folder.step(STEPS["gate"], make, config=settings_of(job.task.config), name=name, extra=extra))


class _FoldValues(NamedTuple):
    """The values of candidates for the rows, or texts, at some places."""

    repeat: int
    places: IntArray
    values: Values


def _whole(parts: Sequence[_FoldValues], shape: tuple[int, ...]) -> dict[Candidate, Array]:
    """Return values [R, N, ...] of each candidate. In a fold without selected drafts a candidate with drafts is one without."""
    whole: dict[Candidate, Array] = {}
    for candidate in dict.fromkeys(name for part in parts for name in part.values):
        for part in parts:
            values = part.values[candidate if candidate in part.values else candidate._replace(drafts=False)]
            empty = np.zeros((*shape, *values.shape[1:]), values.dtype)
            whole.setdefault(candidate, empty)[part.repeat, part.places] = values
    return whole


def decide(held: HeldOut | None, candidates: Sequence[Candidate], *, why: str = "not measured", looks: int = 1) -> Decision:
    """Decide what ships: first for each learner whether it takes drafts, then which learner.

    A learner takes drafts if drafts without any effect would give a gain as large, to any of the learners, in at most
    `FALSE_ACCEPTS` of all runs. A less preferred learner must then beat a more preferred one by `LEARNER_DOUBT` standard errors
    of the difference. Without held-out rows, the most preferred learner ships, with drafts if there are any.

    Args:
        held: predictions for held-out rows; None if there are none.
        candidates: the fitted candidates.
        why: the reason for which no rows were held out.
        looks: how many sets of drafts were tested on these rows; the test corrects for them (Bonferroni).
    """
    shippable = [candidate for candidate in candidates if LEARNERS[candidate.learner].ships]
    names = ranked({candidate.learner for candidate in shippable})
    order = sorted(shippable, key=lambda candidate: names.index(candidate.learner))
    order = [candidate for candidate in order if held is None or candidate in held.logits]
    plain = [candidate for candidate in order if not candidate.drafts]
    with_drafts = [candidate for candidate in order if candidate.drafts]
    if held is None:
        first, *_ = competed = tuple(with_drafts or plain)
        reason = f"{why}; the most preferred learner ships"
        return Decision(first, plain[0], first if with_drafts else None, None, reason, competed)
    real = _best(held, plain)
    if not with_drafts:
        return Decision(real, real, None, None, "there are no drafts to compare with", tuple(plain))
    chances = dict(zip(with_drafts, gain_chances(held, with_drafts), strict=True))
    accepted = {candidate for candidate, chance in chances.items() if looks * chance <= FALSE_ACCEPTS}
    competed = tuple(mixed if (mixed := one._replace(drafts=True)) in accepted else one for one in plain)
    shipped = _best(held, competed)
    mixed = shipped._replace(drafts=True)
    if mixed not in chances:
        return Decision(shipped, real, None, None, f"no draft was chosen for {shipped.learner}", competed)
    gain = held.gain(held.scores(shipped._replace(drafts=False)), held.scores(mixed))
    chance = min(1.0, looks * chances[mixed])
    return Decision(shipped, real, mixed, gain, _reason(gain, helps=shipped.drafts), competed, chance)


def gain_chances(held: HeldOut, candidates: Sequence[Candidate]) -> list[float]:
    """Return for each candidate with drafts the probability of its gain if drafts had no effect on any of them."""
    gains = np.stack([held.differences(held.logits[one._replace(drafts=False)], held.logits[one]) for one in candidates])
    return [float(chance) for chance in sign_flip(gains, held.groups)]


def _reason(gain: Metric, *, helps: bool) -> str:
    if helps:
        return "drafts help on held-out real rows"
    if gain.high < 0:
        return "drafts do harm on held-out real rows"
    return "the effect of drafts is not distinguishable from chance on held-out real rows"


def _best(held: HeldOut, candidates: Sequence[Candidate]) -> Candidate:
    """Return the most preferred candidate, unless a later one beats it; a difference of one row is never enough."""
    best, zero = candidates[0], np.zeros(len(held.groups))
    for candidate in candidates[1:]:
        if held.exceeds(zero, held.differences(held.logits[best], held.logits[candidate]), doubt=LEARNER_DOUBT):
            best = candidate
    return best
