"""Does the int8 encoder give the labels of fp32, whatever shares its batch, and ONNX Runtime's own int8 beside it?

How fast they are `serve-core` measures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.engine.speeds import latest_of
from benchmarks.figures import Check, at_most, figure, markdown
from benchmarks.sets import read_sample
from refsynth.compress.export import INT8, export_encoder, fused_graph
from refsynth.core.protocols import Encoder
from refsynth.learning.baseline import FrozenLearner
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.store import ModelStore

BUDGET = 8
TIMED = False
SETS = ("banking77", "medical_abstracts_test")
"""Short and long texts."""

SHOTS, MAX_TOKENS, THREADS = 8, 128, 2
ROWS = 500
TORCH, FUSED, OTHER, OURS = "torch fp32", "fused fp32", "int8, a scale a tensor", "int8, a scale a token"


def cells(options: Options) -> Iterator[Work]:
    """Yield the sets; all sides are asked about each."""
    with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
        network = cache(lambda: TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS))
        sides = cache(lambda: _sides(network(), Path(work)))
        for name in options.parts(SETS):
            key = {"set": name, "quick": options.quick}
            yield Work(key, partial(_measure, options, name, network, sides), (TORCH, FUSED, OTHER, OURS))


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
    options: Options,
    name: str,
    network: Callable[[], TransformerEncoder],
    made: Callable[[], tuple[dict[str, Encoder], dict[str, int]]],
) -> Iterator[Cell]:
    torch.set_num_threads(THREADS)
    sample = read_sample(options.data, name, shots=SHOTS, seed=0, test_rows=100 if options.quick else ROWS)
    texts, (sides, sizes) = sample.texts, made()
    head = FrozenLearner(tuple(sample.labels), network()).fit(sample.examples, (), seed=0).head
    exact = head.logits(network().encode(texts)).argmax(1)
    for side, encoder in sides.items():
        batched = head.logits(encoder.encode(texts)).argmax(1)
        single = head.logits(np.concatenate([encoder.encode([text]) for text in texts])).argmax(1)
        shares = {"changed": float(np.mean(batched != exact)), "flips": float(np.mean(batched != single))}
        yield {"system": side, **shares, "rows": len(texts), "size": sizes[side]}


def table(cells: Cells) -> str:
    """Return sizes and labels that differ."""
    rows = [
        [*key, f"{one['size'] / 1e6:.1f}", f"{100 * one['changed']:.2f}%", f"{100 * one['flips']:.2f}%"]
        for key, one in latest_of(cells).items()
    ]
    return markdown(["set", "side", "MB", "other label than fp32", "other label in a batch"], rows)


def checks(cells: Cells) -> list[Check]:
    """Return labels that change with the batch, and the size."""
    latest = latest_of(cells)
    flips = [100 * one["flips"] for (_, side), one in latest.items() if side == OURS]
    sizes = {side: one["size"] for (_, side), one in latest.items()}
    size = figure([sizes[OURS] / sizes[TORCH]] if sizes else [], "x", over="models")
    return [
        at_most("labels that change with the batch", figure(flips, "%", over="sets", statistic=np.max), 0.1),
        at_most("size, int8 / fp32", size, 0.27),
    ]
