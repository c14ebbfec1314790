"""The gate: is the model better with drafts, on real rows that neither it nor its drafts have seen?

Repeated cross-validation over the real rows. When a fold is held out, so is every draft whose prompt showed one of its rows, and
the judge that selects drafts is fitted without it. Each fold is a step of its own, so that a killed run loses one at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.compress.simulate import int8_logits_of
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import RunFolder, derive_seed, digest, read_json, write_json
from refsynth.core.sections import LearnerName
from refsynth.core.types import Array, Draft, Example, FloatArray, IntArray, Metric
from refsynth.kinds import KINDS, ONE_LABEL, Kind, as_json, from_json, given_labels, joined
from refsynth.metrics import bootstrap, exceeds_doubt, paired_gain
from refsynth.models.predict import logits_of
from refsynth.pipeline.candidates import COMPARED, PREFERENCE, Candidate, Fitted, fit_candidates, safe_for
from refsynth.pipeline.relevant import settings_of
from refsynth.pipeline.rows import Rows
from refsynth.pipeline.stepspecs import STEPS
from refsynth.pipeline.workshop import learners_key
from refsynth.task import Task

LEARNER_DOUBT, DRAFT_DOUBT = 2.0, 1.0
"""Standard errors by which a less preferred learner, and drafts, must win.

That one learner is better than another on most tasks is known from many data sets; a few dozen rows of this one must speak
clearly to overrule it. Of drafts nothing is known beforehand: it depends on the reference and the task.
"""


@dataclass(frozen=True)
class HeldOut:
    """What each candidate said of each real row when it was held out: logits [R, N, K] over R repeats, of spans [R, N].

    `int8` has what those with an encoder say as they would ship, which is what they are calibrated on. `folds` [N] are those that
    were held out together: what is tuned on answers is tuned on those to the other folds.
    """

    truth: Array
    logits: Mapping[Candidate, Array]
    folds: IntArray = field(default_factory=lambda: np.zeros(0, int))
    kind: Kind = ONE_LABEL
    int8: Mapping[Candidate, Array] = field(default_factory=dict)

    def as_shipped(self, candidate: Candidate) -> Array:
        """Return the logits of a candidate in the arithmetic that ships."""
        return self.int8.get(candidate, self.logits[candidate])

    def scores(self, candidate: Candidate) -> FloatArray:
        """Return how far the answer for each row was right, the mean over repeats [N]: 0 or 1 where a row has one label."""
        return self.scores_of(self.logits[candidate])

    def score(self, candidate: Candidate) -> Metric:
        """Return the cross-validated mean of `scores`; the interval is a bootstrap over rows."""
        return self.score_of(self.logits[candidate])

    def score_of(self, logits: Array) -> Metric:
        """Return the same of a form of a candidate, by its logits [R, N, K]."""
        scores = self.scores_of(logits)
        return bootstrap(f"cross-validated {self.kind.measure}", lambda rows: float(scores[rows].mean()), len(scores))

    def scores_of(self, logits: Array) -> FloatArray:
        """Return the scores of answers by their logits [R, N, K]."""
        return np.asarray(np.mean([self.kind.scores(self.truth, answers) for answers in self.answers_of(logits)], axis=0))

    def answers_of(self, logits: Array) -> list[Array]:
        """Return the answers of each repeat; those to a fold with cuts that suit the other folds."""
        if not self.kind.several:
            return [self.kind.decide(self.kind.probabilities(each)) for each in logits]
        out = np.zeros(logits.shape, int)
        for fold in np.unique(self.folds):
            mine = self.folds == fold
            out[:, mine] = self.kind.decide(logits[:, mine], self._cuts(logits[:, ~mine], self.truth[~mine]))
        return list(out)

    def cuts_of(self, logits: Array) -> FloatArray | None:
        """Return the cuts on logits [K] that suit all rows, where they are needed."""
        return self._cuts(logits, self.truth)

    def _cuts(self, logits: Array, truth: Array) -> FloatArray | None:
        return self.kind.cuts(joined(logits), joined([truth] * len(logits)))


@dataclass(frozen=True)
class Decision:
    """Which candidate ships. `gain` is the best with drafts over the best without, in what the gate measures, paired by row."""

    shipped: Candidate
    real: Candidate
    mixed: Candidate | None
    gain: Metric | None
    reason: str

    def line(self) -> str:
        """Return the decision as one line for the screen."""
        measured = ""
        if self.gain is not None:
            measured = f": {100 * self.gain.value:+.1f} points [{100 * self.gain.low:+.1f}, {100 * self.gain.high:+.1f}]"
        return f"{self.reason}{measured} -> shipping {self.shipped}"


def hold_out(
    rows: Rows,
    drafts: Sequence[Draft],
    learners: Mapping[LearnerName, Learner],
    choose: Callable[[Predictor, Sequence[Example], Sequence[Draft]], list[Draft]],
    encoder: str,
    task: Task,
    folder: RunFolder,
    progress: Callable[[int], None],
    *,
    pool: str = "",
) -> HeldOut:
    """Return what every candidate says of every real row when that row's fold is held out.

    Args:
        rows: the real rows with their folds.
        drafts: screened drafts.
        learners: by name.
        choose: chooses the drafts to train on, given a judge and the real rows that it was fitted to.
        encoder: hash of the encoder that they start from.
        task: what is asked.
        folder: each fold becomes a step there.
        progress: called with the number of folds that are done.
        pool: hash of what `choose` adds to the drafts, if it does.
    """
    config, labels = task.config, task.labels
    kind = KINDS[config.task]
    truth = kind.truth(given_labels(rows.examples), labels)
    parts: dict[str, list[_Part]] = {"logits": [], "int8": []}
    cells = [(repeat, int(fold)) for repeat in range(config.gate.repeats) for fold in np.unique(rows.folds)]
    for done, (repeat, fold) in enumerate(cells):
        out = rows.folds == fold
        held = [rows.examples[index] for index in np.flatnonzero(out)]
        train = [rows.examples[index] for index in np.flatnonzero(~out)]
        safe = safe_for(drafts, frozenset(example.id for example in held))
        # That some labels go together may be known from held-out rows alone.
        known = {*labels, *map(kind.group, given_labels(train))}
        safe = [draft for draft in safe if kind.group(draft.example.label) in known]
        seed = derive_seed(config.seed, "gate", repeat, fold)
        extra = {"drafts": digest([draft.to_json() for draft in safe]), "encoder": encoder, "pool": pool}
        extra |= learners_key(config, rows.language)
        fit = partial(fit_candidates, learners, train, safe, choose, seed=seed, dev=config.training.dev, kind=kind)
        make = partial(_ask, fit, [example.text for example in held])
        step = folder.step(STEPS["gate"], make, config=settings_of(config), name=f"gate-{repeat}-{fold}", extra=extra)
        for arithmetic, found in parts.items():
            said = {Candidate.named(name): from_json(values) for name, values in read_json(step / f"{arithmetic}.json").items()}
            found.append(_Part(repeat, out, said))
        progress(done + 1)
    logits, int8 = (_whole(found, config.gate.repeats) for found in parts.values())
    return HeldOut(truth, logits, rows.folds, kind, int8)


class _Part(NamedTuple):
    """What candidates said of the rows of a fold, which are marked [N]."""

    repeat: int
    rows: NDArray[np.bool_]
    said: Mapping[Candidate, Array]


def _whole(parts: Sequence[_Part], repeats: int) -> dict[Candidate, Array]:
    """Return logits [R, N, ...] of each candidate; in a fold for which no draft was chosen, with drafts is as without."""
    logits: dict[Candidate, Array] = {}
    for name in dict.fromkeys(candidate for part in parts for candidate in part.said):
        for part in parts:
            said = part.said[name if name in part.said else name._replace(drafts=False)]
            empty = np.zeros((repeats, len(part.rows), *said.shape[1:]), said.dtype)
            logits.setdefault(name, empty)[part.repeat, part.rows] = said
    return logits


def _ask(fit: Callable[[], Fitted], texts: Sequence[str], out: Path) -> None:
    predictors = fit().predictors
    for name, said in (("logits", logits_of(predictors, texts)), ("int8", int8_logits_of(predictors, texts))):
        write_json(out / f"{name}.json", {str(candidate): as_json(logits) for candidate, logits in said.items()})


def decide(held: HeldOut | None, candidates: Sequence[Candidate]) -> Decision:
    """Choose the best learner without drafts and with drafts, then between the two.

    What is less preferred must win by more than chance would have it: a learner over a more preferred one by `LEARNER_DOUBT`
    standard errors of the difference, drafts over none by `DRAFT_DOUBT`. Without rows to hold out, the most preferred learner
    ships, with drafts if there are any.
    """
    able = [candidate for candidate in candidates if candidate.learner not in COMPARED]
    order = sorted(able, key=lambda candidate: PREFERENCE.index(candidate.learner))
    plain, helped = ([c for c in order if c.drafts is wanted and (held is None or c in held.logits)] for wanted in (False, True))
    if held is None:
        shipped = (helped or plain)[0]
        return Decision(
            shipped, plain[0], shipped if helped else None, None, "too few labelled rows to hold any out: not measured"
        )
    real = _best(held, plain)
    if not helped:
        return Decision(real, real, None, None, "there are no drafts to compare with")
    mixed = _best(held, helped)
    gain = paired_gain(held.scores(real), held.scores(mixed))
    if _beats(held, mixed, real, doubt=DRAFT_DOUBT):
        return Decision(mixed, real, mixed, gain, "drafts help on held-out real rows")
    return Decision(real, real, mixed, gain, "drafts do not help on held-out real rows")


def _best(held: HeldOut, candidates: Sequence[Candidate]) -> Candidate:
    best = candidates[0]
    for candidate in candidates[1:]:
        if _beats(held, candidate, best, doubt=LEARNER_DOUBT):
            best = candidate
    return best


def _beats(held: HeldOut, candidate: Candidate, other: Candidate, *, doubt: float) -> bool:
    """Return whether the gain, paired by row, exceeds so many standard errors; one row more is never enough."""
    return exceeds_doubt(held.scores(candidate) - held.scores(other), doubt=doubt)
