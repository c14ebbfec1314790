"""How fast usable drafts are written: the embedded engine against `transformers.generate` with the same weights.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cells import Cell, Cells, figure
from benchmarks.sets import read_sample
from benchmarks.suite import SHOTS
from refsynth.core.drafting import SynthesisConfig
from refsynth.core.machine import describe_machine
from refsynth.core.protocols import Generator
from refsynth.core.run import derive_seed
from refsynth.core.types import Example
from refsynth.models.reference import EmbeddedGenerator, FolderGenerator
from refsynth.models.store import ModelStore
from refsynth.pipeline.drafts import LONGEST_DRAFT
from refsynth.quality.filter import kept, screen
from refsynth.synthesis.plan import Brief, Request, plan_requests
from refsynth.synthesis.sample import BATCH, synthesize

SETS = ("snips", "ag_news_test")
"""Short and longer texts."""

PROMPTS = BATCH
"""What a run sends at once: fewer would leave a worker without work."""

THREADS = 2
REPEATS = 5
OURS, THEIRS = "refsynth", "transformers.generate"
FLOOR, AIM = 3.0, 4.0


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the repeats that are missing, both sides in this process, and return all."""
    cells = Cells(results / "drafting.jsonl", machine=describe_machine())
    missing = [
        (name, seed)
        for name in SETS[: 1 if quick else None]
        for seed in range(REPEATS)
        if len(cells.find(set=name, seed=seed, version=version)) < 2
    ]
    if not missing:
        return cells
    sides = _sides()
    for name, seed in missing:
        examples, requests = _asked(data, name, seed)
        order = list(sides) if seed % 2 else list(reversed(sides))
        for system in order:
            key = {"set": name, "seed": seed, "version": version, "system": system}
            cells.add({**key, **_timed(sides[system], examples, requests, seed), "machine": describe_machine()})
        one = {cell["system"]: cell["rate"] for cell in cells.find(set=name, seed=seed, version=version)}
        say(f"{name} {seed}: {one[OURS]:.1f} against {one[THEIRS]:.1f} accepted drafts/s")
    return cells


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
    examples = [Example(f"row-{index}", row["text"], row["label"]) for index, row in enumerate(sample.train)]
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
        "seconds": round(seconds, 2),
        "cpu_seconds": round(spent, 2),
    }
    return {**measured, "rate": accepted / seconds, "load": round(os.getloadavg()[0], 1)}


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table and the check of the ratio against its floor."""
    columns = f"set | repeats | {OURS}, accepted/s | {THEIRS}, accepted/s | ratio [least-most] | ratio by processor time"
    lines = [f"| {columns} |", "|---" * 6 + "|"]
    every: list[float] = []
    for name in SETS:
        ours, theirs = ({one["seed"]: one for one in cells.find(set=name, system=system)} for system in (OURS, THEIRS))
        both = sorted(ours.keys() & theirs.keys())
        if not both:
            continue
        ratios = [ours[seed]["rate"] / theirs[seed]["rate"] for seed in both]
        effort = [_effort(theirs[seed]) / _effort(ours[seed]) for seed in both]
        rates = " | ".join(_rate([side[seed] for seed in both]) for side in (ours, theirs))
        spread = " | ".join(f"{np.median(some):.2f} [{min(some):.2f}-{max(some):.2f}]" for some in (ratios, effort))
        lines.append(f"| {name} | {len(both)} | {rates} | {spread} |")
        every += ratios
    measured = figure(every, "times", over="repeats", statistic=np.median)
    check = {"name": "accepted drafts per second over transformers.generate, median", **measured}
    bounds = {"floor": FLOOR, "aim": AIM, "ok": measured["value"] >= FLOOR}
    return {
        "name": "drafting",
        "machine": describe_machine(),
        "rows": cells.rows,
        "checks": [check | bounds],
        "table": "\n".join(lines),
    }


def _effort(cell: Cell) -> float:
    """Return the seconds of processor time that an accepted draft took."""
    return float(cell["cpu_seconds"] / cell["accepted"])


def _rate(cells: list[Cell]) -> str:
    """Return accepted drafts per second over all repeats, and which share of the completions was accepted."""
    accepted, asked, seconds = (sum(one[name] for one in cells) for name in ("accepted", "asked", "seconds"))
    return f"{accepted / seconds:.2f} ({100 * accepted / asked:.0f}% accepted)"
