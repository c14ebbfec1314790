"""How good is the reference as a classifier: zero- and few-shot, both ways of asking, each calibration, a searched prompt?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import get_args

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import markdown
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell, over_each
from refsynth.core.protocols import Encoder, Generator
from refsynth.core.types import FloatArray
from refsynth.learning.prompting.calibrate import Calibration, calibration_texts, taste
from refsynth.learning.prompting.classify import score_labels
from refsynth.learning.prompting.learner import PromptLearner, PromptOptions
from refsynth.learning.prompting.templates import templates_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference import FolderGenerator
from refsynth.models.store import ModelStore

BUDGET = 180
TIMED = False
SETS = ("snips", "ag_news_test", "financial_phrasebank", "imdb_counterfactual")
TEST_ROWS = 100
"""Each is read once for every label and every manner of asking."""
SHOTS, PROPOSALS = 4, 4

MANNERS = {
    "direct": PromptOptions("direct", calibration="none"),
    "channel": PromptOptions("channel", calibration="none"),
    f"direct, {SHOTS} shots": PromptOptions("direct", SHOTS, calibration="none"),
    f"direct, {SHOTS} nearest": PromptOptions("direct", SHOTS, "nearest", calibration="none"),
    f"channel, {SHOTS} shots": PromptOptions("channel", SHOTS, calibration="none"),
    "direct, searched": PromptOptions("direct", proposals=PROPOSALS, calibration="none"),
    "channel, searched": PromptOptions("channel", proposals=PROPOSALS, calibration="none"),
}
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


def system_name(manner: str, calibration: Calibration) -> str:
    """Return what a cell is called."""
    return manner if calibration == "none" else f"{manner}, {calibration}"


def _measure(manner: str, sample: Sample, name: str, seed: int) -> list[Cell]:
    del name
    store = ModelStore()
    # The embedded reference's own weights, on torch: a prompt is read once for all that is scored under it.
    generator, encoder = FolderGenerator(store.path("smollm2-torch")), TransformerEncoder(store.path("minilm"))
    return list(measured(sample, manner, generator, encoder, seed=seed))


def measured(sample: Sample, manner: str, generator: Generator, encoder: Encoder, *, seed: int) -> Iterator[Cell]:
    """Yield a cell for each calibration of one manner of asking; they share what the reference says of the test rows."""
    started = time.monotonic()
    rows = sample.examples
    learner = PromptLearner(
        sample.labels, lambda: generator, encoder, options=MANNERS[manner], templates=templates_for("en"), language="en"
    )
    fitted = learner.fit(rows, (), seed=seed)
    truth, k = sample.truth, len(sample.labels)
    scores = score_labels(generator, fitted.asking, sample.texts, fitted.shown)
    for calibration in CALIBRATIONS:
        free = calibration_texts(calibration, [row.text for row in rows], seed=seed)
        bias: FloatArray = taste(score_labels(generator, fitted.asking, free, fitted.shown) if free else np.zeros((0, k)))
        yield cell(system_name(manner, calibration), truth, (scores - bias).argmax(1), time.monotonic() - started, k)


def _names(manner: str) -> tuple[str, ...]:
    return tuple(system_name(manner, calibration) for calibration in CALIBRATIONS)


ORDER = tuple(name for manner in MANNERS for name in _names(manner))


def by_calibration(cells: Cells) -> str:
    """Return the accuracy of each manner with each calibration, the mean over all sets and seeds."""

    def mean(manner: str, calibration: Calibration) -> str:
        found = over_each(cells.find(system=system_name(manner, calibration)), "accuracy")
        return f"{100 * np.mean(found):.1f}" if len(found) == len(SETS) else ""

    rows = [[manner, *(mean(manner, calibration) for calibration in CALIBRATIONS)] for manner in MANNERS]
    return markdown(["asked", *CALIBRATIONS], rows)


SUITE = Suite(
    SETS,
    groups=tuple(Group(partial(_measure, manner), _names(manner)) for manner in MANNERS),
    order=ORDER,
    held=(
        *(Over(f"batch calibration, {manner}", f"{manner}, batch", manner, floor=0.0, aim=5.0) for manner in MANNERS),
        *(
            Over(f"search, {method}", f"{method}, searched, batch", f"{method}, batch", floor=0.0, aim=3.0)
            for method in ("direct", "channel")
        ),
    ),
    seeds=3,
    quick=("imdb_counterfactual",),
    test_rows=TEST_ROWS,
    notes=by_calibration,
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
