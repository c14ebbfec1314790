"""Is what a run says of itself true: its interval, its confidence, its threshold, its verdict on drafts, over many small runs?

A run here has no reference and no fine-tuning: TF-IDF and the frozen encoder, whose embeddings are computed once a set. Drafts
are other rows of the training file, under their own labels, which must help, and under shuffled ones, which cannot. What a draft
was shown is made up as a run plans it: rows of half of the folds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell
from benchmarks.claims import checks, table
from benchmarks.sets import Row, Sample, read_sample, read_set
from benchmarks.smallrun import LEARNERS, SmallRun
from refsynth.core.config import RunConfig
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Encoder
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, Provenance
from refsynth.core.windows import LONGEST
from refsynth.data.text import clean
from refsynth.labels.curves import CachedEncoder
from refsynth.learning.rows import Rows
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

__all__ = ["cells", "checks", "table"]

BUDGET = 20
TIMED = False
SEEDS = 20

SETS = ("ag_news_test", "financial_phrasebank", "snips")
SHOTS = (8, 32)
TEST_ROWS, DRAFTS = 1000, 600
POOL = 3000
"""Rows of the training file that drafts are taken from, the same for all seeds: each is encoded."""

QUICK_DRAFTS, QUICK_TEST, QUICK_POOL, QUICK_SEEDS = 200, 300, 1000, 5


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

    Labeled rows are drawn evenly, and what a run says of itself is about rows like these.
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


def prepare(options: Options, name: str, seeds: int) -> Material:
    """Return a set, encoded."""
    test_rows, pool_rows = (QUICK_TEST, QUICK_POOL) if options.quick else (TEST_ROWS, POOL)
    samples = [_sample(options.data, name, max(SHOTS), seed, test_rows) for seed in range(seeds)]
    rows = read_set(options.data, name)[0]
    order = np.random.default_rng(derive_seed(0, "evidence", name)).permutation(len(rows))[:pool_rows]
    pool = [{"text": clean(rows[place]["text"]), "label": rows[place]["label"]} for place in order]
    texts = [row["text"] for part in (pool, *(each.train for each in samples), samples[0].test) for row in part]
    drafts = QUICK_DRAFTS if options.quick else DRAFTS
    return Material(name, options.data, pool, CachedEncoder(load_encoder(), texts), drafts, test_rows)


def cells(options: Options) -> Iterator[Work]:
    """Yield the runs; a set is encoded when the first of its runs is measured."""
    seeds = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    for name in options.parts(SETS):
        material = cache(partial(prepare, options, name, seeds))
        for seed, shots in product(range(seeds), SHOTS):
            key = {"set": name, "quick": options.quick, "shots": shots, "seed": seed}
            yield Work(key, partial(_timed, material, shots, seed))


def _timed(material: Callable[[], Material], shots: int, seed: int) -> list[Cell]:
    found, started = material(), time.monotonic()
    return [run_cell(found, shots=shots, seed=seed) | {"seconds": round(time.monotonic() - started, 1)}]


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
