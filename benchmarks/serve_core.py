"""How fast, small and near the machine's peak is the engine beside others, and how soon does it answer first?

All sides read the same texts with the same tokenizer, longest text and threads, and take turns; a ratio is taken within a repeat.
Peers that want other versions of what is installed here run in a process that takes its turn like the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.bench import BUILD, Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.engine import child
from benchmarks.engine.roofline import int8_peak, operations, tokens_per_second
from benchmarks.engine.sides import (
    CASCADE,
    FUSED,
    LONGEST,
    MODEL2VEC,
    OURS,
    PADDED,
    SETFIT,
    STATIC,
    TFIDF,
    TORCH,
    Sides,
    make_sides,
)
from benchmarks.engine.speeds import Latest, Ratio, in_turn, latest_of, ratios, speeds, timing
from benchmarks.engine.worker import peers
from benchmarks.figures import Check, at_most, figure, markdown
from benchmarks.peer_env import PeerError
from benchmarks.sets import Sample, read_sample
from refsynth.compress.static import distilled
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

BUDGET = 30
TIMED = True
SHORT, LONG, PROCESSES = "banking77", "medical_abstracts_test", "processes"
MAX_TOKENS, THREADS, REPEATS, WARM = 128, 2, 5, 1
ALPHA, DELTA = 0.02, 0.1
SENTENCE, OPTIMUM = "sentence-transformers, ONNX int8", "optimum-onnx pipeline, int8"
FAST, TIMES = frozenset({STATIC, MODEL2VEC, TFIDF}), 8
"""Sides that are so fast that a pass is made several times."""


class Size(NamedTuple):
    """How much is measured.

    Texts of a pass on each set, labeled rows per class, texts that memory is taken after, texts one at a time, seconds for the
    peak.
    """

    texts: Mapping[str, int]
    shots: int
    memory: int
    alone: int
    peak: float


WHOLE = Size({SHORT: 256, LONG: 64}, 16, 100_000, 32, 20.0)
QUICK = Size({SHORT: 48, LONG: 8}, 2, 1000, 6, 3.0)


RATIOS = (
    Ratio("P1: int8 / torch fp32, texts/s, short texts", OURS, TORCH, SHORT, 2.0, 3.0),
    Ratio("P2: int8 / fused fp32, one long text", OURS, FUSED, LONG, 1.5, 2.0, one=True),
    Ratio("P3a: by length / in arrival order, padded to the maximum", OURS, PADDED, SHORT, 2.5, 4.0),
    Ratio("P3b: by length / in arrival order, padded to the longest", OURS, LONGEST, SHORT, 1.3, 2.0),
    Ratio("P4: static / int8, texts/s", STATIC, OURS, SHORT, 30.0, 60.0),
    Ratio("P5: cascade / int8, texts/s", CASCADE, OURS, SHORT, 4.0, 8.0),
    Ratio("int8 / sentence-transformers' int8", OURS, SENTENCE, SHORT, 1.0, 1.5),
    Ratio("int8 / optimum-onnx pipeline", OURS, OPTIMUM, SHORT, 1.0, 1.5),
    Ratio("int8 / SetFit's predict", OURS, SETFIT, SHORT, 2.0, 3.0),
    Ratio("static / model2vec", STATIC, MODEL2VEC, SHORT, 0.5, 1.0),
    Ratio("static / TF-IDF", STATIC, TFIDF, SHORT, 0.3, 1.0),
)
SIZES = (("P13: size, int8 / fp32", OURS, 0.27), ("P13: size, static / fp32", STATIC, 0.35))
STARTS = (("P13: cold start, torch / int8", OURS, 5.0), ("P13: cold start, torch / static", STATIC, 20.0))


def cells(options: Options) -> Iterator[Work]:
    """Yield both sets, and the tiers in processes of their own."""
    size = QUICK if options.quick else WHOLE
    with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
        lab = _Lab(options, size, Path(work))
        for name in options.parts((SHORT, LONG, PROCESSES)):
            measure = partial(_processes, lab) if name == PROCESSES else partial(_passes, lab, name)
            yield Work({"set": name, "quick": options.quick}, measure)


class _Lab:
    """What the parts share; each is made when it is first asked for."""

    def __init__(self, options: Options, size: Size, work: Path) -> None:
        self.options, self.size, self.work = options, size, work
        torch.set_num_threads(THREADS)

    @cached_property
    def network(self) -> TransformerEncoder:
        return TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS).eval()

    @cached_property
    def peak(self) -> float:
        return int8_peak(threads=THREADS, seconds=self.size.peak)

    @cached_property
    def table(self) -> Any:
        return distilled(self.network)

    @cache  # noqa: B019 - as long as the bench runs
    def sample(self, name: str) -> Sample:
        return read_sample(self.options.data, name, shots=self.size.shots, seed=0, test_rows=self.size.texts[name])

    @cache  # noqa: B019
    def sides(self, name: str) -> Sides:
        work = self.work / name
        work.mkdir()
        return make_sides(self.sample(name), self.network, self.table, work, threads=THREADS, alpha=ALPHA, delta=DELTA)


def _passes(lab: _Lab, name: str) -> Iterator[Cell]:
    """Time all sides in turn; the first turn warms up."""
    sides, texts = lab.sides(name), lab.sample(name).texts
    ask = {side: timing(one, times=TIMES if side in FAST else 1) for side, one in sides.ask.items()}
    with ExitStack() as stack:
        try:
            ask |= stack.enter_context(peers(sides.source, BUILD / "engine", threads=THREADS, max_tokens=MAX_TOKENS))
        except PeerError as error:
            lab.options.say(f"left out: {error}")
        found = in_turn(ask, texts, alone=lab.size.alone, repeats=REPEATS, warm=WARM)
    facts = {"tokens": sum(map(len, sides.tokenizer.encode(texts))), "peak": lab.peak}
    facts["tokenizer"] = tokens_per_second(sides.tokenizer, texts, repeats=REPEATS)
    for side in ask:
        more = facts | {"operations": operations(sides.network, texts)} if side in (OURS, STATIC) else {}
        yield {"system": side, "texts": len(texts), **found[side], "megabytes": sides.megabytes.get(side), **more}


def _processes(lab: _Lab) -> Iterator[Cell]:
    """Start each tier, and torch, in a process of its own; in turn, thrice."""
    sides, texts = lab.sides(SHORT), lab.sample(SHORT).texts
    source = lab.work / "texts.json"
    source.write_text(json.dumps(list(texts)), "utf-8")
    tiers = {name: ("bundle", folder) for name, folder in sides.bundles.items()} | {TORCH: ("torch", sides.source)}
    starts: dict[str, list[float]] = {name: [] for name in tiers}
    for _ in range(3):
        for name, (kind, folder) in tiers.items():
            starts[name].append(_child(kind, folder, 0, source)["seconds"])
    for name, (kind, folder) in tiers.items():
        facts = _child(kind, folder, 0 if name == TORCH else lab.size.memory, source)
        memory = {"loaded": facts["loaded"], "after": facts["after"], "texts": facts["texts"]}
        yield {"system": name, "starts": starts[name], "first": float(np.median(starts[name])), **memory}


def _child(kind: str, folder: Path, count: int, source: Path) -> dict[str, float]:
    """Return the seconds from the start of a process to its first answer, and its memory then and at the end, in bytes."""
    command = [sys.executable, "-P", child.__file__, kind, str(folder), str(count), str(source)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - started
        rest, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    last = json.loads(rest)
    return {"seconds": seconds, "loaded": json.loads(first)["rss"], "after": last["rss"], "texts": last["texts"]}


def checks(cells: Cells) -> list[Check]:
    """Return speeds, sizes and cold starts."""
    latest = latest_of(cells)
    found = [ratio.check(latest) for ratio in RATIOS]
    for title, side, limit in SIZES:
        ours, theirs = (latest.get((SHORT, name), {}).get("megabytes") for name in (side, TORCH))
        found.append(at_most(title, figure([ours / theirs] if ours and theirs else [], "x", over="models"), limit))
    for title, side, floor in STARTS:
        cold = [latest.get((PROCESSES, name), {}).get("starts", []) for name in (TORCH, side)]
        found.append(ratios(title, [one / other for one, other in zip(*cold, strict=True)], floor, floor))
    return found


def table(cells: Cells) -> str:
    """Return speeds, how near they come to what the machine can do, and memory."""
    latest = latest_of(cells)
    head = ["set", "side", "texts/s", "ms alone", "MB", "int8 / it, texts/s"]
    rows = []
    for (name, side), cell in latest.items():
        if name in (SHORT, LONG):
            size = "" if cell["megabytes"] is None else f"{cell['megabytes']:.1f}"
            against = Ratio("", OURS, side, name, 0.0, 0.0).check(latest)["value"]
            rows.append([name, side, *speeds(cell), size, f"{against:.2g}"])
    return "\n\n".join(filter(None, (markdown(head, rows), _roofs(latest), _memory(latest))))


def _roofs(latest: Latest) -> str:
    """Say how near the int8 tier comes to the machine's peak, and the static tier to the tokenizer alone."""
    lines = []
    for name in (SHORT, LONG):
        int8, static = latest.get((name, OURS)), latest.get((name, STATIC))
        if int8 is None or static is None:
            continue
        rate = int8["operations"] / float(np.median(int8["seconds"]))
        tokens = static["tokens"] / float(np.median(static["seconds"]))
        lines.append(
            f"{name}: int8 {rate / 1e9:.0f} of {int8['peak'] / 1e9:.0f} G operations/s ({rate / int8['peak']:.0%}); "
            f"static {tokens / 1e3:.0f} of the tokenizer's {static['tokenizer'] / 1e3:.0f} thousand tokens/s"
        )
    return "\n".join(lines)


def _memory(latest: Latest) -> str:
    head = ["tier", "first answer (s)", "memory then (MB)", "after so many texts", "memory (MB)"]
    rows = []
    for (name, side), cell in latest.items():
        if name == PROCESSES:
            after = [f"{cell['texts']:,}", f"{cell['after'] / 1e6:.0f}"] if cell["texts"] else ["", ""]
            rows.append([side, f"{cell['first']:.2f}", f"{cell['loaded'] / 1e6:.0f}", *after])
    return markdown(head, rows) if rows else ""
