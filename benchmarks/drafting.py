"""How fast are usable drafts written: how many times as fast as by `transformers.generate` with the same weights?

Both get the same prompts, the same number of drafts per prompt and the same number of threads, sample with the same temperature
and nucleus and stop at the end of a line; both go through the same parsing and screening, and only what survives counts. Sides
take turns within a repeat, so that what else the machine does falls on both. Processor time is measured beside wall time: the
load of the machine hardly touches it.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, figure, markdown, ranged
from benchmarks.sets import read_sample
from benchmarks.suite import SHOTS
from refsynth.core.drafting import SynthesisConfig
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Generator
from refsynth.core.types import Example, kept
from refsynth.models.reference import EmbeddedGenerator, FolderGenerator
from refsynth.models.store import ModelStore
from refsynth.synthesis.drafts import LONGEST_DRAFT
from refsynth.synthesis.plan import Brief, Request, plan_requests
from refsynth.synthesis.sample import BATCH, synthesize
from refsynth.synthesis.selection.filter import screen

BUDGET = 30
TIMED = True
SETS = ("snips", "ag_news_test")
"""Short and longer texts."""

PROMPTS = BATCH
"""What a run sends at once: fewer would leave a worker without work."""

THREADS = 2
REPEATS = 5
OURS, THEIRS = "refsynth", "transformers.generate"
FLOOR, AIM = 3.0, 4.0


def cells(options: Options) -> Iterator[Work]:
    """Yield the repeats of each set, both sides in turn in this process."""
    sides = cache(_sides)
    for name in options.parts(SETS, quick=SETS[:1]):
        for seed in range(options.seeds or REPEATS):
            yield Work({"set": name, "seed": seed}, partial(_turn, sides, options.data, name, seed), (OURS, THEIRS), turns=True)


def _turn(sides: Callable[[], dict[str, Generator]], data: Path, name: str, seed: int) -> Iterator[Cell]:
    """Yield what both sides did; in every second repeat the other begins."""
    examples, requests = _asked(data, name, seed)
    for system in (OURS, THEIRS) if seed % 2 else (THEIRS, OURS):
        yield {"system": system, **_timed(sides()[system], examples, requests, seed)}


def _sides() -> dict[str, Generator]:
    """Return both sides loaded and warm."""
    torch.set_num_threads(THREADS)
    store = ModelStore()
    decoding = SynthesisConfig().model_dump(include={"temperature", "top_p", "max_tokens"})
    sides: dict[str, Generator] = {
        OURS: EmbeddedGenerator(store.path("smollm2"), workers=THREADS, **decoding),
        THEIRS: FolderGenerator(store.path("smollm2-torch"), **decoding),
    }
    prompt = plan_requests((), np.zeros(0, int), {"any": "anything"}, _brief(1, 0))[0].prompt
    for generator in sides.values():
        generator.generate([prompt], n=1, seed=0)
    return sides


def _brief(drafts: int, seed: int) -> Brief:
    settings = SynthesisConfig()
    return Brief(drafts, settings.shots, settings.per_prompt, settings.ways, language="en", seed=seed)


def _asked(data: Path, name: str, seed: int) -> tuple[list[Example], list[Request]]:
    """Return the seed examples and the prompts of a repeat, of as many labels as can be."""
    sample = read_sample(data, name, shots=SHOTS, seed=seed, test_rows=1)
    examples = sample.examples
    drafts = SynthesisConfig().per_prompt * len(sample.labels) * math.ceil(PROMPTS / len(sample.labels))
    folds = np.arange(len(examples)) % 4
    requests = plan_requests(examples, folds, sample.labels, _brief(drafts, seed))
    picked = np.random.default_rng(derive_seed(seed, "drafting", name)).permutation(len(requests))[:PROMPTS]
    return examples, [requests[index] for index in picked]


def _timed(generator: Generator, examples: list[Example], requests: list[Request], seed: int) -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        started, spent = time.monotonic(), time.process_time()
        written = synthesize(
            requests,
            generator,
            decoding={},
            journal=Path(folder) / "journal.jsonl",
            texts={example.id: example.text for example in examples},
            language="en",
            seed=seed,
        )
        seconds, spent = time.monotonic() - started, time.process_time() - spent
    accepted = len(kept(screen(written.drafts, examples, longest=LONGEST_DRAFT)))
    asked = sum(request.n for request in requests)
    words = sum(len(draft.text.split()) for draft in written.drafts)
    measured = {
        "asked": asked,
        "accepted": accepted,
        "words": words,
        "seconds": round(seconds, 4),
        "cpu_seconds": round(spent, 4),
    }
    return {**measured, "rate": accepted / seconds, "load": round(os.getloadavg()[0], 1)}


def table(cells: Cells) -> str:
    """Return rates and ratios."""
    head = ["set", "repeats", f"{OURS}, accepted/s", f"{THEIRS}, accepted/s", "ratio [least-most]", "ratio by processor time"]
    rows = []
    for name in SETS:
        if pairs := _pairs(cells, name):
            sides = list(zip(*pairs, strict=True))
            ratios = [[mine["rate"] / other["rate"] for mine, other in pairs]]
            ratios += [[_effort(other) / _effort(mine) for mine, other in pairs]]
            rows.append([name, len(pairs), *map(_rate, sides), *map(ranged, ratios)])
    return markdown(head, rows)


def checks(cells: Cells) -> list[Check]:
    """Return the ratio of rates, which is held to its floor."""
    ratios = [mine["rate"] / other["rate"] for name in SETS for mine, other in _pairs(cells, name)]
    found = figure(ratios, "times", over="repeats", statistic=np.median)
    return [at_least("accepted drafts per second over transformers.generate, median", found, FLOOR, AIM)]


def _pairs(cells: Cells, name: str) -> list[tuple[Cell, Cell]]:
    """Return our cell and theirs of each repeat that has both."""
    ours, theirs = ({one["seed"]: one for one in cells.find(set=name, system=system)} for system in (OURS, THEIRS))
    return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def _effort(cell: Cell) -> float:
    """Return the seconds of processor time that an accepted draft took."""
    return float(cell["cpu_seconds"] / max(cell["accepted"], 1))


def _rate(cells: Sequence[Cell]) -> str:
    """Return accepted drafts per second over all repeats, and which share of the completions was accepted."""
    accepted, asked, seconds = (sum(one[name] for one in cells) for name in ("accepted", "asked", "seconds"))
    return f"{accepted / seconds:.2f} ({100 * accepted / asked:.0f}% accepted)"
