"""A run in small, on a draw of labeled rows: what it says of itself, and what is so on test rows.

Folds, heads, held-out answers, the verdict, calibration and threshold are the pipeline's own: nothing here is a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from benchmarks.cells import Cell
from benchmarks.sets import Sample
from refsynth.core.hashes import derive_seed
from refsynth.core.learners import LearnerName
from refsynth.core.observe import Silent
from refsynth.core.protocols import Encoder, Learner, Predictor
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, FloatArray, IntArray
from refsynth.evaluation.calibrate import Calibrated, calibrate
from refsynth.evaluation.calibration import Threshold
from refsynth.kinds.metrics import accuracy, calibration_error
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.candidates import Candidate, Fitter, fit_candidates
from refsynth.learning.context import LearnerContext
from refsynth.learning.gate import Decision, decide, hold_out
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job
from refsynth.learning.pool import Pool
from refsynth.learning.rows import read_rows
from refsynth.models.network import TransformerEncoder
from refsynth.synthesis.selection.choose import Chooser

LEARNERS: tuple[LearnerName, ...] = ("tfidf", "frozen")
"""Those that need no fine-tuning."""

Choose = Callable[[Predictor, Sequence[Example], Sequence[Draft]], list[Draft]]


class Verdict(NamedTuple):
    """What a run decides by its held-out rows: which candidate ships, and how sure that one says it is."""

    held: HeldOut
    decision: Decision
    calibrated: Calibrated


def verdict(held: HeldOut) -> Verdict:
    """Return what a run makes of held-out rows."""
    decision = decide(held, list(held.logits))
    return Verdict(held, decision, calibrate(held, held.as_shipped(decision.shipped)))


def shuffled(drafts: Sequence[Draft], seed: int) -> list[Draft]:
    """Return the drafts with their labels dealt out anew."""
    order = np.random.default_rng(derive_seed(seed, "evidence", "labels")).permutation(len(drafts))
    return [_labeled(draft, drafts[place].example.label) for draft, place in zip(drafts, order, strict=True)]


def _labeled(draft: Draft, label: str) -> Draft:
    example = draft.example
    return Draft(Example(example.id, example.text, label, example.provenance))


def _take_all(judge: Predictor, real: Sequence[Example], drafts: Sequence[Draft]) -> list[Draft]:
    return list(drafts)


class SmallRun:
    """A run on a draw of labeled rows; each question that it is asked has a folder of its own."""

    def __init__(self, task: Task, encoder: Encoder, sample: Sample, work: Path) -> None:
        self._task, self._encoder, self._sample, self._work = task, encoder, sample, work
        frozen, tfidf = FrozenLearner(task.labels, encoder), TfidfLearner(task.labels, language="en")
        self._learners: dict[LearnerName, Learner] = {"frozen": frozen, "tfidf": tfidf}
        self.rows = read_rows(task, RunFolder(work / "rows"), skip_bad=False)
        self._truth = sample.truth

    def claims(self) -> Cell:
        """Return what a run without drafts says of its accuracy and of its confidence, and how both are on the test rows."""
        found = verdict(self._hold_out([], _take_all, "plain"))
        shipped = found.decision.shipped
        logits = self._test_logits([], _take_all)[shipped]
        said = found.held.score(shipped)
        right = accuracy(self._truth, logits.argmax(1))
        score = {"cv": said.value, "cv_low": said.low, "cv_high": said.high, "accuracy": right}
        return {"shipped": str(shipped), "rows": len(self._truth), **score, **_confidence(found, logits, self._truth)}

    def verdicts(self, drafts: Sequence[Draft]) -> dict[str, dict[str, Any]]:
        """Return, for each kind of drafts, whether they are taken, their gain as measured, and their gain on the test rows."""
        chooser = Chooser(self._task.labels, self._task.config.filter, self._encoder, self.rows, drafts)
        kinds = {"right": list(drafts), "shuffled": shuffled(drafts, self._task.config.seed)}
        choices: dict[str, Choose] = {"chosen": chooser.choose, "all": _take_all}
        return {
            f"{kind}, {how}": self._verdict(kinds[kind], choices[how], f"{kind}-{how}") for kind, how in product(kinds, choices)
        }

    def _verdict(self, drafts: Sequence[Draft], choose: Choose, name: str) -> dict[str, Any]:
        decision = verdict(self._hold_out(drafts, choose, name)).decision
        said = self._test_logits(drafts, choose)
        with_drafts = decision.mixed if decision.mixed in said else decision.real
        assert with_drafts is not None
        pair = (with_drafts._replace(drafts=False), with_drafts)
        scores = [accuracy(self._truth, said[candidate].argmax(1)) for candidate in pair]
        measured = None if decision.gain is None else decision.gain.value
        return {"taken": decision.shipped.drafts, "gain": measured, "test_gain": scores[1] - scores[0]}

    def _hold_out(self, drafts: Sequence[Draft], choose: Choose, name: str) -> HeldOut:
        folder, task = RunFolder(self._work / name), self._task
        rows = read_rows(task, folder, skip_bad=False)
        config = task.config
        encoder = cast(TransformerEncoder, self._encoder)  # nothing but `encode` is asked of it
        context = LearnerContext(
            task.labels, task.descriptions, "en", encoder, "", config.training, None, None, config.prompting, None
        )
        held = hold_out(Job(task, rows, Pool(), context, self._learners, folder, Silent()), drafts, choose)
        assert held is not None  # the rows are enough
        return held

    def _test_logits(self, drafts: Sequence[Draft], choose: Choose) -> dict[Candidate, FloatArray]:
        """Return what each candidate, fitted to all rows, says of the test rows [N, K]."""
        fitted = fit_candidates(Fitter.of(self._learners, self.rows.examples, seed=self._task.config.seed), drafts, choose)
        texts = self._sample.texts
        return {candidate: np.asarray(one.logits(texts), float) for candidate, one in fitted.predictors.items()}


def _confidence(found: Verdict, logits: FloatArray, truth: IntArray) -> Cell:
    kind, threshold = found.held.kind, found.calibrated.threshold
    before, after = (kind.probabilities(logits / scale) for scale in (1.0, found.calibrated.temperature))
    answers = kind.decide(after)
    right = kind.right(truth, answers) == 1
    answered = kind.confidence(after, answers) >= (0.0 if threshold is None else threshold.threshold)
    return {
        "temperature": found.calibrated.temperature,
        "ece_before": calibration_error(truth, before),
        "ece_after": calibration_error(truth, after),
        "answered": float(answered.mean()),
        "risk": float((~right[answered]).mean()) if answered.any() else None,
        **_stated(threshold),
    }


def _stated(threshold: Threshold | None) -> Cell:
    if threshold is None:
        return {"risk_high": 1.0, "basis": None}
    return {"risk_high": threshold.risk_high, "basis": threshold.basis}
