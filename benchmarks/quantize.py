"""The int8 encoder beside torch fp32, fused fp32 and ONNX Runtime's own dynamic int8: speed, size, labels against fp32.

All sides read the same texts in the same batches with the same tokenizer and take turns in one process; a ratio is taken within a
repeat and the median over repeats counts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from benchmarks.cells import Cell, Cells, figure
from benchmarks.sets import read_sample
from refsynth.compress.export import INT8, export_encoder, fused_graph
from refsynth.core.machine import describe_machine
from refsynth.core.protocols import Encoder
from refsynth.core.types import Example
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.store import ModelStore
from refsynth.training.baseline import FrozenLearner

SHORT, LONG = "banking77", "medical_abstracts_test"
SETS: Mapping[str, int] = {SHORT: 256, LONG: 32}
"""Texts of each set in a timed pass."""

SHOTS, MAX_TOKENS, THREADS = 8, 128, 2
FLIP_ROWS = 500
TORCH, FUSED, OTHER, OURS = "torch fp32", "fused fp32", "int8, a scale a tensor", "int8, a scale a token"


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the sets that are missing, and return all cells."""
    cells = Cells(results / "quantize.jsonl", machine=describe_machine())
    missing = [name for name in SETS if not cells.find(set=name, version=version, quick=quick)]
    if missing:
        torch.set_num_threads(THREADS)
        network = TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS)
        with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
            sides, sizes = _sides(network, Path(work))
            for name in missing:
                for cell in _measure(data, name, network, sides, repeats=2 if quick else 5, rows=100 if quick else FLIP_ROWS):
                    common = {"set": name, "version": version, "quick": quick, "machine": describe_machine()}
                    cells.add({**common, **cell, "size": sizes[cell["system"]]})
                say(f"{name}: measured")
    return cells


def _sides(network: TransformerEncoder, work: Path) -> tuple[dict[str, Encoder], dict[str, int]]:
    """Return the encoders by side, and what each weighs in bytes."""
    network.save(work / "source")
    tokenizer = work / "source" / "tokenizer.json"
    export_encoder(network.transformer, tokenizer, work / "ours")
    fused = fused_graph(network.transformer)
    add_pre_process_metadata(fused)
    onnx.save(fused, work / "fused.onnx")
    quantize_dynamic(
        work / "fused.onnx",
        work / "tensor.onnx",
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT, "WeightSymmetric": True},
    )
    graphs = {FUSED: work / "fused.onnx", OTHER: work / "tensor.onnx", OURS: work / "ours" / INT8}
    encoders: dict[str, Encoder] = {TORCH: network}
    for name, path in graphs.items():
        encoders[name] = OnnxEncoder(path, tokenizer, max_tokens=MAX_TOKENS, threads=THREADS)
    sizes = {name: path.stat().st_size for name, path in graphs.items()}
    sizes[TORCH] = (work / "source" / "model.safetensors").stat().st_size
    sizes[OURS] = sum(path.stat().st_size for path in (work / "ours").iterdir())
    return encoders, sizes


def _measure(
    data: Path, name: str, network: TransformerEncoder, sides: Mapping[str, Encoder], *, repeats: int, rows: int
) -> list[Cell]:
    sample = read_sample(data, name, shots=SHOTS, seed=0, test_rows=rows)
    texts = [row["text"] for row in sample.test]
    train = [Example(str(number), row["text"], row["label"]) for number, row in enumerate(sample.train)]
    head = FrozenLearner(tuple(sample.labels), network).fit(train, (), seed=0).head
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    alone: dict[str, list[float]] = {side: [] for side in sides}
    timed = texts[: SETS[name]]
    for _ in range(repeats):
        for side, encoder in sides.items():
            started = time.perf_counter()
            encoder.encode(timed)
            seconds[side].append(time.perf_counter() - started)
            started = time.perf_counter()
            for text in timed[:16]:
                encoder.encode([text])
            alone[side].append((time.perf_counter() - started) / len(timed[:16]))
    truth = head.logits(network.encode(texts)).argmax(1)
    cells = []
    for side, encoder in sides.items():
        batched = head.logits(encoder.encode(texts)).argmax(1)
        single = head.logits(np.concatenate([encoder.encode([text]) for text in texts])).argmax(1)
        flips = {"changed": float(np.mean(batched != truth)), "flips": float(np.mean(batched != single)), "rows": len(texts)}
        cells.append({"system": side, "texts": len(timed), "seconds": seconds[side], "alone": alone[side], **flips})
    return cells


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table and the checks."""
    latest = {(cell["set"], cell["system"]): cell for cell in cells.rows}
    head = "| set | side | texts/s | ms alone | MB | other label than fp32 | other label in a batch |"
    lines = [head, "|---" * 7 + "|"]
    for (name, side), cell in latest.items():
        speed, single = cell["texts"] / np.median(cell["seconds"]), 1000 * np.median(cell["alone"])
        shares = f"{100 * cell['changed']:.2f}% | {100 * cell['flips']:.2f}%"
        lines.append(f"| {name} | {side} | {speed:.0f} | {single:.2f} | {cell['size'] / 1e6:.1f} | {shares} |")
    ours = [cell for (_, side), cell in latest.items() if side == OURS]
    flips = max((cell["flips"] for cell in ours), default=float("nan"))
    sizes = {side: cell["size"] for (_, side), cell in latest.items()}
    share = sizes.get(OURS, np.nan) / sizes.get(TORCH, np.nan)
    checks = [
        _ratio(latest, "int8 / torch fp32, texts/s, short texts", SHORT, TORCH, "seconds", floor=2.0, aim=3.0),
        _ratio(latest, "int8 / fused fp32, one long text", LONG, FUSED, "alone", floor=1.5, aim=2.0),
        {
            "name": "labels that change with the batch",
            "value": 100 * flips,
            "unit": "%",
            "limit": 0.1,
            "ok": bool(flips <= 0.001),
        },
        {"name": "size, int8 / fp32", "value": share, "unit": "x", "limit": 0.27, "ok": bool(share <= 0.27)},
    ]
    checks = [{"n": sum(cell["rows"] for cell in ours), **check} for check in checks]
    return {"name": "quantize", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _ratio(
    latest: Mapping[tuple[str, str], Cell], title: str, name: str, over: str, key: str, *, floor: float, aim: float
) -> dict[str, Any]:
    """Return how many times faster ours is: the median over repeats of the ratio within one."""
    pair = [latest.get((name, side)) for side in (over, OURS)]
    found = [theirs / ours for theirs, ours in zip(*(cell[key] for cell in pair if cell), strict=True)] if all(pair) else []
    measured = figure(found, "x", over="repeats", statistic=np.median)
    return {"name": title, **measured, "floor": floor, "aim": aim, "ok": measured["value"] >= floor}
