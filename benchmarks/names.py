"""What are label names alone worth: more than always saying the most frequent class, and than asking the reference?"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from benchmarks.cells import Cell
from benchmarks.fewshot import SETS
from benchmarks.ours import arms, run_ours
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.evaluation.testfile import SHIPPED
from refsynth.learning.prompting.classify import Asking, score_labels
from refsynth.learning.prompting.examples import NothingShown
from refsynth.learning.prompting.templates import templates_for
from refsynth.models.reference import EmbeddedGenerator
from refsynth.models.store import ModelStore

BUDGET = 60
TIMED = False
ASKED_ROWS = 300
"""Test rows: the reference reads each once for every label."""


def _ours(sample: Sample, name: str, seed: int) -> list[Cell]:
    return arms(run_ours(replace(sample, train=[]), f"{name}-names", seed), {"shipped": SHIPPED})


def _majority(sample: Sample, name: str, seed: int) -> list[Cell]:
    """Say the class that is most frequent among the test rows: more than anyone without labels could know."""
    truth = sample.truth
    return [cell("majority", truth, np.full(len(truth), np.bincount(truth).argmax()), 0.0, len(sample.labels))]


def _reference(sample: Sample, name: str, seed: int) -> list[Cell]:
    if seed:  # nothing is drawn: seeds would only repeat it
        return []
    started = time.monotonic()
    generator = EmbeddedGenerator(ModelStore().path("smollm2"))
    asking = Asking("direct", templates_for("en")[0], tuple(sample.labels.values()))
    scores = score_labels(generator, asking, sample.texts, NothingShown())
    truth, seconds = sample.truth, time.monotonic() - started
    said = {"reference": scores, "reference, calibrated": scores - scores.mean(0)}
    return [cell(system, truth, values.argmax(1), seconds, len(sample.labels)) for system, values in said.items()]


SUITE = Suite(
    SETS,
    groups=(
        Group(_ours, ("shipped",)),
        Group(_majority, ("majority",)),
        Group(_reference, ("reference", "reference, calibrated")),
    ),
    order=("majority", "reference", "reference, calibrated", "shipped"),
    held=(
        Over("shipped over majority", "shipped", "majority", floor=0.0, aim=20.0),
        Over("shipped over the reference", "shipped", "reference, calibrated", floor=0.0, aim=10.0, fixed=True),
    ),
    seeds=3,
    test_rows=ASKED_ROWS,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
