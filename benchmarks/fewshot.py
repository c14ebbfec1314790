"""Few labels: accuracy on the test rows of six data sets with 8 labelled rows per class, ours beside its peers."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.cells import Cell
from benchmarks.ours import OURS, four_arms
from benchmarks.peers import setfit
from benchmarks.sets import Sample
from benchmarks.suite import Check, Group, Suite, cell
from refsynth.core.config import RunConfig
from refsynth.core.types import Example, IntArray
from refsynth.models.catalog import encoder_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.workshop import LEARNERS, make_workshop
from refsynth.task import Task

SETS = ("ag_news_test", "financial_phrasebank", "imdb_counterfactual", "snips", "bitext_support", "medical_abstracts_test")


def _setfit(sample: Sample, name: str, seed: int) -> list[Cell]:
    encoder = ModelStore().path(encoder_for("en").name)
    started = time.monotonic()
    texts = [row["text"] for row in sample.train]
    said = setfit(encoder, texts, sample.classes(sample.train), [row["text"] for row in sample.test], seed=seed)
    return [cell("setfit", sample.classes(sample.test), said, time.monotonic() - started, len(sample.labels))]


def _finetune(sample: Sample, name: str, seed: int) -> list[Cell]:
    task = Task.of(RunConfig.parse({"labels": dict(sample.labels)}))
    shop = make_workshop(task, "en", ModelStore().path(encoder_for("en").name), max_tokens=128)
    train = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    started = time.monotonic()
    predictor = LEARNERS["finetune"](shop).fit(train, (), seed=seed)
    said: IntArray = np.argmax(predictor.logits([row["text"] for row in sample.test]), axis=1)
    return [cell("finetune", sample.classes(sample.test), said, time.monotonic() - started, len(sample.labels))]


FEWSHOT = Suite(
    "fewshot",
    sets=SETS,
    groups=(
        Group(four_arms, OURS, "refsynth"),
        Group(_setfit, ("setfit",), "setfit"),
        Group(_finetune, ("finetune",), "refsynth"),
    ),
    order=("tfidf", "frozen", "finetune", "setfit", "real only", "real + synthetic", "shipped"),
    checks=(
        Check("shipped over setfit", "shipped", "setfit", floor=0.0, aim=3.0),
        Check("worst of shipped over real only", "shipped", "real only", floor=-1.0, aim=0.0, worst=True),
    ),
)

CHINESE = Suite(
    "chinese",
    sets=("csl_zh", "coldataset_zh"),
    groups=(Group(four_arms, OURS, "refsynth"),),
    order=("tfidf", "frozen", "real only", "shipped"),
    checks=(
        Check("shipped over tfidf, csl_zh", "shipped", "tfidf", floor=12.0, aim=20.0, sets=("csl_zh",)),
        Check("shipped over tfidf, coldataset_zh", "shipped", "tfidf", floor=4.0, aim=8.0, sets=("coldataset_zh",)),
    ),
)
"""The same with the multilingual encoder. The embedded reference writes English only, so there are no drafts."""
