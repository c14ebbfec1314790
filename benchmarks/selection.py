"""What is each part of the choice of drafts worth? Arms that add one after another, on one tuned encoder and the same drafts.

Drafts train the head (the encoder is tuned on the real rows), so an arm costs a head and differences between arms are theirs.
The leakage guard is measured on the way: test texts planted among the drafts, and its alarms on the drafts as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.fewshot import SETS
from benchmarks.figures import Check, at_least, at_most, figure
from benchmarks.pool import draft_pool
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.core.drafting import FilterConfig
from refsynth.core.protocols import Predictor
from refsynth.core.scorers import SCORERS
from refsynth.core.types import Draft, Example, kept
from refsynth.evaluation.leakage import leaked
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.models.predict import logits_of
from refsynth.synthesis.selection.choose import chooser_of
from refsynth.synthesis.selection.context import ScorerContext, score_drafts
from refsynth.synthesis.selection.filter import drop_by

BUDGET = 320
TIMED = False
PLANTED = 50

SHARE = 0.2
"""Of each label's drafts that the arms with influence leave out."""

LEAST_RATIO = 0.0
"""Nats per token: a draft is at least as likely with its label as without."""

OFF, ON = FilterConfig(agreement=0.0), FilterConfig()
ARMS: Mapping[str, tuple[FilterConfig, bool, bool]] = {
    "naive": (OFF, False, False),
    "+ dedupe": (OFF, True, False),
    "+ agreement (default)": (ON, True, False),
    "+ likelihood ratio": (ON, True, True),
    "+ influence": (ON.model_copy(update={"influence": SHARE}), True, True),
    "+ soft targets (full)": (ON.model_copy(update={"influence": SHARE, "targets": "judge"}), True, True),
    "agreement + influence": (ON.model_copy(update={"influence": SHARE}), True, False),
    "agreement + soft targets": (ON.model_copy(update={"targets": "judge"}), True, False),
    "soft targets, no agreement": (OFF.model_copy(update={"targets": "judge"}), True, False),
}
"""Each arm: the filter, whether the drafts are screened, whether those that are unlikely for their label are out."""

DEFAULT = "+ agreement (default)"


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started = time.monotonic()
    pool = draft_pool(sample, name, seed)
    task, rows = pool.job.task, pool.job.rows
    learner = ContrastiveLearner(task.labels, pool.job.context.encoder, task.descriptions)
    real = rows.examples
    judge = learner.fit(real, (), seed=seed)
    written = {True: pool.screened, False: [Draft(example) for example in pool.written]}
    context = ScorerContext(task.labels, rows.kind, rows.language, task.meanings, pool.writers.generator)
    likelihood = SCORERS["likelihood"]
    likely = drop_by(likelihood, pool.screened, score_drafts(likelihood, context, kept(pool.screened)), LEAST_RATIO)
    models: dict[str, Predictor] = {"real only": judge}
    counts = {"real only": 0}
    for arm, (settings, screened, with_ratio) in ARMS.items():
        drafts = likely if with_ratio else written[screened]
        chosen = kept(replace(chooser_of(pool.job, drafts), settings=settings).choose(judge, real, drafts))
        models[arm], counts[arm] = learner.fit([*real, *chosen], (), seed=seed), len(chosen)
    said = logits_of(models, texts := sample.texts)  # one tuned encoder: each text is read once
    seconds = time.monotonic() - started
    guard = _guard(kept(pool.screened), texts, seed)
    k, truth = len(task.labels), sample.truth
    return [cell(arm, truth, said[arm].argmax(1), seconds, k) | {"drafts": counts[arm]} | guard for arm in models]


def _guard(drafts: Sequence[Example], texts: Sequence[str], seed: int) -> dict[str, float]:
    """Return the share of planted test texts that the guard finds, and the share of the other drafts that it takes for some."""
    picked = np.random.default_rng(seed).permutation(len(texts))[:PLANTED]
    planted = [replace(drafts[0], id=f"planted-{index}", text=texts[index]) for index in picked]
    found = leaked([*drafts, *planted], texts)
    caught = sum(name.startswith("planted-") for name in found)
    return {"caught": caught / len(planted), "alarms": (len(found) - caught) / len(drafts)}


def _guarded(cells: Cells) -> list[Check]:
    found = cells.find(system="naive")
    caught = figure([100 * one["caught"] for one in found], "%", over="draws", statistic=np.min)
    alarms = figure([100 * one["alarms"] for one in found], "%", over="draws")
    return [
        at_least(f"of {PLANTED} planted test texts found, least", caught, 100.0),
        at_most("ordinary drafts taken for test texts", alarms, 1.0),
    ]


SUITE = Suite(
    SETS,
    groups=(Group(_measure, ("real only", *ARMS)),),
    order=("real only", *ARMS),
    held=tuple(Over(f"default over {arm}", DEFAULT, arm, floor=0.0, aim=0.5) for arm in ARMS if arm != DEFAULT),
    more=_guarded,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
