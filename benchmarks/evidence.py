"""Is what a run says of itself true? Its interval, its confidence, its threshold and its verdict on drafts, over many small runs.

A run here has no reference and no fine-tuning: TF-IDF and the frozen encoder, whose embeddings are computed once a set. Drafts
are other rows of the training file, under their own labels, which must help, and under shuffled ones, which cannot. What a draft
was shown is made up as a run plans it: rows of half of the folds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.claims import outcome
from benchmarks.sets import Sample, read_sample
from benchmarks.smallrun import LEARNERS, SmallRun
from refsynth.core.config import RunConfig
from refsynth.core.errors import InputError
from refsynth.core.machine import describe_machine
from refsynth.core.protocols import Encoder
from refsynth.core.run import derive_seed
from refsynth.core.types import Draft, Example, Provenance
from refsynth.core.windows import LONGEST
from refsynth.data.text import clean
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.pipeline.rows import Rows
from refsynth.pipeline.worth import Remembering
from refsynth.task import Task

__all__ = ["SETS", "SHOTS", "measure", "outcome"]

SETS = ("ag_news_test", "financial_phrasebank", "snips")
SHOTS = (8, 32)
TEST_ROWS, DRAFTS = 1000, 600
POOL = 3000
"""Rows of the training file that drafts are taken from, the same for all seeds: each is encoded."""

QUICK_DRAFTS, QUICK_TEST, QUICK_POOL, QUICK_SEEDS = 200, 300, 1000, 5

Row = dict[str, Any]
"""A text with its label."""


@dataclass(frozen=True)
class Material:
    """A set with the embeddings of all that is used of it. `pool` are rows that drafts are taken from."""

    name: str
    data: Path
    pool: Sequence[Row]
    encoder: Encoder
    drafts: int
    test_rows: int

    def sample(self, shots: int, seed: int) -> Sample:
        """Return the labeled rows of a draw, and the test rows."""
        return _sample(self.data, self.name, shots, seed, self.test_rows)


def _sample(data: Path, name: str, shots: int, seed: int, test_rows: int) -> Sample:
    read = read_sample(data, name, shots=shots, seed=seed, test_rows=sys.maxsize)
    train, test = ([{**row, "text": clean(row["text"])} for row in rows] for rows in (read.train, read.test))
    return Sample(train, evenly(test, test_rows, np.random.default_rng(0)), read.labels)


def evenly(rows: Sequence[Row], most: int, rng: np.random.Generator) -> list[Row]:
    """Return equally many rows of each label, at most so many in all, in random order.

    Labelled rows are drawn evenly, and what a run says of itself is about rows like these.
    """
    by_label: dict[str, list[Row]] = {}
    for place in rng.permutation(len(rows)):
        by_label.setdefault(rows[place]["label"], []).append(rows[place])
    each = min(most // max(1, len(by_label)), *map(len, by_label.values()))
    some = [row for found in by_label.values() for row in found[:each]]
    return [some[place] for place in rng.permutation(len(some))]


def load_encoder() -> Encoder:
    """Return the encoder of a run on English texts."""
    return TransformerEncoder(ModelStore().path("minilm"), max_tokens=LONGEST)


def prepare(data: Path, name: str, encoder: Encoder, *, seeds: int, quick: bool) -> Material:
    """Return a set, encoded."""
    test_rows = QUICK_TEST if quick else TEST_ROWS
    samples = [_sample(data, name, max(SHOTS), seed, test_rows) for seed in range(seeds)]
    rows = [json.loads(line) for line in (data / name / "train.jsonl").read_text("utf-8").splitlines()]
    order = np.random.default_rng(derive_seed(0, "evidence", name)).permutation(len(rows))[: QUICK_POOL if quick else POOL]
    pool = [{"text": clean(rows[place]["text"]), "label": rows[place]["label"]} for place in order]
    texts = [row["text"] for part in (pool, *(each.train for each in samples), samples[0].test) for row in part]
    return Material(name, data, pool, Remembering(encoder, texts), QUICK_DRAFTS if quick else DRAFTS, test_rows)


def measure(
    data: Path,
    results: Path,
    *,
    seeds: int,
    sets: Sequence[str] | None,
    quick: bool,
    version: str,
    say: Callable[[str], None],
) -> Cells:
    """Measure the runs that are missing, and return all.

    Raises:
        InputError: a data set is not there or not one of these.
    """
    if unknown := set(sets or ()) - set(SETS):
        raise InputError(f"--sets {', '.join(sorted(unknown))}: not in this bench", expected=", ".join(SETS))
    cells, seeds = Cells(results / "evidence.jsonl"), min(seeds, QUICK_SEEDS) if quick else seeds
    for name in sets or SETS:
        common = {"set": name, "quick": quick, "version": version}
        keys: list[Cell] = [{**common, "shots": shots, "seed": seed} for seed, shots in product(range(seeds), SHOTS)]
        missing = [key for key in keys if not cells.find(**key)]
        if missing:
            material = prepare(data, name, load_encoder(), seeds=seeds, quick=quick)
        for key in missing:
            started = time.monotonic()
            cell = run_cell(material, shots=key["shots"], seed=key["seed"])
            seconds = round(time.monotonic() - started, 1)
            cells.add({**key, **cell, "seconds": seconds, "machine": describe_machine()})
            say(f"{name}, {key['shots']} rows a class, seed {key['seed']}: {100 * cell['accuracy']:.1f} ({seconds:.0f} s)")
    return cells


def run_cell(material: Material, *, shots: int, seed: int) -> Cell:
    """Return what a run without drafts says of itself and what is so, and what the gate makes of each kind of drafts."""
    sample = material.sample(shots, seed)
    with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
        train, _ = sample.write(Path(work) / "data")
        tree = {
            "language": "en",
            "labels": dict(sample.labels),
            "data": {"train": str(train)},
            "learners": LEARNERS,
            "seed": seed,
        }
        small = SmallRun(Task.of(RunConfig.parse(tree)), material.encoder, sample, Path(work))
        return small.claims() | {"drafts": small.verdicts(other_rows(material, small.rows, seed))}


def other_rows(material: Material, rows: Rows, seed: int) -> list[Draft]:
    """Return rows that were not drawn, evenly by label, as drafts whose prompts showed a row of each of half of the folds.

    Evenly, as a run asks for drafts: else the labels alone, shuffled or not, would tell which are frequent.
    """
    known = {example.text for example in rows.examples}
    free = list({row["text"]: row for row in material.pool if row["text"] not in known}.values())
    rng = np.random.default_rng(derive_seed(seed, "evidence", "drafts"))
    by_fold = [np.flatnonzero(rows.folds == fold) for fold in np.unique(rows.folds)]
    drafts = []
    for number, row in enumerate(evenly(free, material.drafts, rng)):
        folds = rng.permutation(len(by_fold))[: len(by_fold) // 2]
        shown = tuple(rows.examples[int(rng.choice(by_fold[fold]))].id for fold in folds)
        origin = Provenance("other rows", shown, seed, "people")
        drafts.append(Draft(Example(f"draft-{number}", row["text"], row["label"], origin)))
    return drafts
