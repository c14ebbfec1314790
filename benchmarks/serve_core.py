"""The engine beside other engines: texts/s, one text alone, size, memory, start to first answer, distance to the machine's peak.

All sides read the same texts with the same tokenizer, longest text and threads, and take turns; a ratio is taken within a repeat.
Peers that want other versions of what is installed here run in a process that takes its turn like the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.cells import Cell, Cells, figure
from benchmarks.engine.reference import costs
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
    seconds_of,
)
from benchmarks.engine.worker import PeerError, peers
from benchmarks.sets import read_sample
from refsynth.compress.static import distilled
from refsynth.core.machine import describe_machine
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

SHORT, LONG = "banking77", "medical_abstracts_test"
MAX_TOKENS, THREADS, REPEATS, WARM = 128, 2, 5, 1
ALPHA, DELTA = 0.02, 0.1
SENTENCE, OPTIMUM = "sentence-transformers, ONNX int8", "optimum-onnx pipeline, int8"
FOLDER = Path("build") / "bench" / "engine"
ANSWER = 600.0
"""Seconds that a process of its own may take."""


class Size(NamedTuple):
    """How much is measured.

    Texts of a pass on each set, labelled rows per class, texts that memory is taken after, texts one at a time, seconds for the
    peak, texts that the reference is asked about, and how often.
    """

    texts: Mapping[str, int]
    shots: int
    memory: int
    alone: int
    peak: float
    asked: int
    asks: int


WHOLE = Size({SHORT: 256, LONG: 64}, 16, 100_000, 32, 20.0, 20, REPEATS)
QUICK = Size({SHORT: 48, LONG: 8}, 2, 1000, 6, 3.0, 2, 1)


class Ratio(NamedTuple):
    """How many times faster one side is than another on a set, in texts/s or with one text at a time."""

    name: str
    ours: str
    over: str
    on: str
    floor: float
    aim: float
    one: bool = False


RATIOS = (
    Ratio("P1: int8 / torch fp32, texts/s, short texts", OURS, TORCH, SHORT, 2.0, 3.0),
    Ratio("P2: int8 / fused fp32, one long text", OURS, FUSED, LONG, 1.5, 2.0, one=True),
    Ratio("P3a: by length / in arrival order, padded to the maximum", OURS, PADDED, SHORT, 2.5, 4.0),
    Ratio("P3b: by length / in arrival order, padded to the longest", OURS, LONGEST, SHORT, 1.3, 2.0),
    Ratio("P4: static / int8, texts/s", STATIC, OURS, SHORT, 30.0, 60.0),
    Ratio("int8 / sentence-transformers' int8", OURS, SENTENCE, SHORT, 1.0, 1.5),
    Ratio("int8 / optimum-onnx pipeline", OURS, OPTIMUM, SHORT, 1.0, 1.5),
    Ratio("int8 / SetFit's predict", OURS, SETFIT, SHORT, 2.0, 3.0),
    Ratio("static / model2vec", STATIC, MODEL2VEC, SHORT, 0.5, 1.0),
    Ratio("static / TF-IDF", STATIC, TFIDF, SHORT, 0.3, 1.0),
)
SIZES = (("P13: size, int8 / fp32", OURS, 0.27), ("P13: size, static / fp32", STATIC, 0.35))
STARTS = (("P13: cold start, torch / int8", OURS, 5.0), ("P13: cold start, torch / static", STATIC, 20.0))


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the sets that are missing, and return all cells."""
    cells = Cells(results / "serve-core.jsonl", machine=describe_machine())
    common = {"version": version, "quick": quick}
    if all(cells.find(set=name, **common) for name in (SHORT, LONG, "processes", "reference")):
        return cells
    size = QUICK if quick else WHOLE
    torch.set_num_threads(THREADS)
    network = TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS).eval()
    made = distilled(network)
    peak = int8_peak(threads=THREADS, seconds=size.peak)
    common |= {"machine": describe_machine(), "peak": peak}
    with ExitStack() as stack:
        for name in (SHORT, LONG):
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refsynth-bench-")))
            sample = read_sample(data, name, shots=size.shots, seed=0, test_rows=size.texts[name])
            sides = make_sides(sample, network, made, work, threads=THREADS, alpha=ALPHA, delta=DELTA)
            say(f"{name}: all sides fitted")
            texts = [row["text"] for row in sample.test]
            if not cells.find(set=name, version=version, quick=quick):
                for cell in _passes(sides, texts, size, say):
                    cells.add({"set": name, **common, **cell})
                say(f"{name}: measured")
            if name == SHORT and not cells.find(set="processes", version=version, quick=quick):
                for cell in _processes(sides, texts, work, size):
                    cells.add({"set": "processes", **common, **cell})
                    say(f"{cell['system']}: first answer after {cell['first']:.1f} s")
            if name == SHORT and not cells.find(set="reference", version=version, quick=quick):
                asked = costs(sample, network, sides.ask[CASCADE], count=size.asked, repeats=size.asks)
                cells.add({"set": "reference", "system": CASCADE, **common, **asked})
                say("the reference has been asked")
    return cells


def _passes(sides: Sides, texts: Sequence[str], size: Size, say: Callable[[str], None]) -> Iterable[Cell]:
    """Time all sides in turn; the first turn warms up."""
    ask: dict[str, Callable[[Sequence[str], bool], float]] = {name: _local(name, one) for name, one in sides.ask.items()}
    whole: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    with ExitStack() as stack:
        try:
            ask |= stack.enter_context(peers(sides.source, FOLDER, threads=THREADS, max_tokens=MAX_TOKENS))
        except PeerError as error:
            say(f"left out: {error}")
        for turn in range(REPEATS + WARM):
            for name, seconds in ask.items():
                took = seconds(texts, False), seconds(texts[: size.alone], True)
                if turn >= WARM:
                    whole.setdefault(name, []).append(took[0])
                    alone.setdefault(name, []).append(took[1] / len(texts[: size.alone]))
    work = operations(sides.network, texts)
    tokens = tokens_per_second(sides.tokenizer, texts, repeats=REPEATS)
    counted = sum(map(len, sides.tokenizer.encode(texts)))
    for name in ask:
        cell = {"system": name, "texts": len(texts), "seconds": whole[name], "alone": alone[name], "megabytes": None}
        cell["megabytes"] = sides.megabytes.get(name)
        if name in (OURS, STATIC):
            cell |= {"operations": work if name == OURS else None, "tokens": counted, "tokenizer": tokens}
        yield cell


def _local(name: str, ask: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str], bool], float]:
    return lambda texts, one: seconds_of(name, ask, texts, one=one)


def _processes(sides: Sides, texts: Sequence[str], work: Path, size: Size) -> Iterable[Cell]:
    """Start each tier, and torch, in a process of its own; in turn, thrice."""
    source = work / "texts.json"
    source.write_text(json.dumps(list(texts)), "utf-8")
    tiers = {name: ("bundle", folder) for name, folder in sides.bundles.items()} | {TORCH: ("torch", sides.source)}
    starts: dict[str, list[float]] = {name: [] for name in tiers}
    for _ in range(3):
        for name, (kind, folder) in tiers.items():
            starts[name].append(_child(kind, folder, 0, source)["seconds"])
    for name, (kind, folder) in tiers.items():
        facts = _child(kind, folder, 0 if name == TORCH else size.memory, source)
        memory = {"loaded": facts["loaded"], "after": facts["after"], "texts": facts["texts"]}
        yield {"system": name, "starts": starts[name], "first": float(np.median(starts[name])), **memory}


def _child(kind: str, folder: Path, count: int, source: Path) -> dict[str, float]:
    """Return the seconds from the start of a process to its first answer, and its memory then and at the end, in bytes."""
    command = [sys.executable, "-m", "benchmarks.engine.child", kind, str(folder), str(count), str(source)]
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


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table and the checks."""
    latest = {(cell["set"], cell["system"]): cell for cell in cells.rows}
    checks = [_ratio(latest, ratio) for ratio in RATIOS]
    checks.append(_cost(latest.get(("reference", CASCADE))))
    fp32 = (latest.get((SHORT, TORCH)) or {}).get("megabytes")
    for title, system, limit in SIZES:
        value = (latest.get((SHORT, system)) or {}).get("megabytes", np.nan) / (fp32 or np.nan)
        checks.append({"name": title, "value": value, "unit": "x", "limit": limit, "n": 1, "ok": bool(value <= limit)})
    for title, system, floor in STARTS:
        cold = [latest.get(("processes", name), {}).get("starts", []) for name in (TORCH, system)]
        checks.append(_check(title, [one / other for one, other in zip(*cold, strict=True)], floor, floor))
    table = "\n\n".join(part for part in (_speeds(latest), _roofs(latest), _memory(latest)) if part)
    return {"name": "serve-core", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": table}


def _ratio(latest: Mapping[tuple[str, str], Cell], ratio: Ratio) -> dict[str, Any]:
    key = "alone" if ratio.one else "seconds"
    theirs, ours = ((latest.get((ratio.on, name)) or {}).get(key, []) for name in (ratio.over, ratio.ours))
    found = [one / other for one, other in zip(theirs, ours, strict=True)] if theirs and ours else []
    return _check(ratio.name, found, ratio.floor, ratio.aim)


def _check(title: str, found: Sequence[float], floor: float, aim: float) -> dict[str, Any]:
    """Return a check on the median of ratios; where nothing could be measured it is not met."""
    measured = figure(found, "x", over="repeats", statistic=np.median)
    return {"name": title, **measured, "floor": floor, "aim": aim, "ok": measured["value"] >= floor}


def _cost(cell: Cell | None) -> dict[str, Any]:
    """Return how much less processor time the cascade takes than the reference; not met if it is right less often."""
    spent = [] if cell is None else list(zip(cell["cpu"]["reference"], cell["cpu"]["cascade"], strict=True))
    found = _check(
        "P6: the reference on every text / cascade, processor time", [one / other for one, other in spent], 50.0, 200.0
    )
    return found | {"ok": found["ok"] and cell is not None and cell["right"]["cascade"] >= cell["right"]["reference"]}


def _speeds(latest: Mapping[tuple[str, str], Cell]) -> str:
    lines = ["| set | side | texts/s | ms alone | MB |", "|---" * 5 + "|"]
    for (name, side), cell in latest.items():
        if name in (SHORT, LONG):
            size = "" if cell["megabytes"] is None else f"{cell['megabytes']:.1f}"
            speed, single = cell["texts"] / np.median(cell["seconds"]), 1000 * np.median(cell["alone"])
            lines.append(f"| {name} | {side} | {speed:.0f} | {single:.2f} | {size} |")
    return "\n".join(lines)


def _roofs(latest: Mapping[tuple[str, str], Cell]) -> str:
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


def _memory(latest: Mapping[tuple[str, str], Cell]) -> str:
    found = {side: cell for (name, side), cell in latest.items() if name == "processes"}
    if not found:
        return ""
    lines = ["| tier | first answer (s) | memory then (MB) | after so many texts | memory (MB) |", "|---" * 5 + "|"]
    for side, cell in found.items():
        after = f"{cell['texts']:,} | {cell['after'] / 1e6:.0f}" if cell["texts"] else " | "
        lines.append(f"| {side} | {cell['first']:.2f} | {cell['loaded'] / 1e6:.0f} | {after} |")
    return "\n".join(lines)
