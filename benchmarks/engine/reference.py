"""What it costs to ask the reference about every text, against the cascade: processor time, and answers that are right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cells import Cell
from benchmarks.sets import Sample
from refsynth.core.protocols import Encoder
from refsynth.models.reference import EmbeddedGenerator
from refsynth.models.store import ModelStore
from refsynth.prompting.learner import Manner, PromptLearner
from refsynth.prompting.templates import templates_for


def costs(sample: Sample, encoder: Encoder, cascade: Callable[[Sequence[str]], Any], *, count: int, repeats: int) -> Cell:
    """Return the processor seconds of both for `count` test texts, pass by pass in turn, and how many each gets right."""
    texts, truth = [row["text"] for row in sample.test[:count]], sample.classes(sample.test[:count])
    generator = EmbeddedGenerator(ModelStore().path("smollm2"))
    manner, templates = Manner("direct", calibration="none"), templates_for("en")
    learner = PromptLearner(sample.labels, lambda: generator, encoder, manner=manner, templates=templates, language="en")
    ask = {"reference": learner.fit([], (), seed=0).logits, "cascade": cascade}
    spent: dict[str, list[float]] = {name: [] for name in ask}
    right: dict[str, int] = {}
    for _ in range(repeats):
        for name, side in ask.items():
            started = time.process_time()
            said = np.asarray(side(texts)).argmax(1)
            spent[name].append(time.process_time() - started)
            right[name] = int((said == truth).sum())
    return {"texts": len(texts), "cpu": spent, "right": right}
