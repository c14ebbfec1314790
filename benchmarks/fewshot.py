"""What are 8 labels per class worth: is what ships better than SetFit, full fine-tuning and plain baselines on six data sets?"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.cells import Cell
from benchmarks.ours import OURS, four_arms
from benchmarks.peers import setfit
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.core.config import RunConfig
from refsynth.core.task import Task
from refsynth.learning.context import LearnerContext, make_context
from refsynth.learning.makers import make_learner
from refsynth.models.encoders import encoder_for
from refsynth.models.store import ModelStore

BUDGET = 490
TIMED = False
SETS = ("ag_news_test", "financial_phrasebank", "imdb_counterfactual", "snips", "bitext_support", "medical_abstracts_test")


def english_encoder() -> Path:
    """Return the folder of the encoder for English texts."""
    return ModelStore().path(encoder_for("en").name)


def workshop(sample: Sample) -> LearnerContext:
    """Return what makes learners for the sample's labels."""
    return make_context(Task.of(RunConfig.parse({"labels": dict(sample.labels)})), "en", english_encoder(), max_tokens=128)


def _setfit(sample: Sample, name: str, seed: int) -> list[Cell]:
    started = time.monotonic()
    texts = [row["text"] for row in sample.train]
    said = setfit(english_encoder(), texts, sample.classes(sample.train), sample.texts, seed=seed)
    return [cell("setfit", sample.truth, said, time.monotonic() - started, len(sample.labels))]


def _finetune(sample: Sample, name: str, seed: int) -> list[Cell]:
    context = workshop(sample)
    started = time.monotonic()
    said = make_learner("finetune", context).fit(sample.examples, (), seed=seed).logits(sample.texts)
    return [cell("finetune", sample.truth, np.asarray(said).argmax(1), time.monotonic() - started, len(sample.labels))]


SUITE = Suite(
    SETS,
    groups=(Group(four_arms, OURS), Group(_setfit, ("setfit",), "setfit"), Group(_finetune, ("finetune",))),
    order=("tfidf", "frozen", "finetune", "setfit", "real only", "real + synthetic", "shipped"),
    held=(
        Over("shipped over setfit", "shipped", "setfit", floor=0.0, aim=3.0),
        Over("worst of shipped over real only", "shipped", "real only", floor=-1.0, aim=0.0, worst=True),
    ),
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
