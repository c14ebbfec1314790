"""What the machine can do at most: int8 products in a second, and tokens that the tokenizer alone makes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from refsynth.models.network import TransformerEncoder
from refsynth.models.tokenizer import TextTokenizer

ROWS, WIDTH = 1024, 1024


def int8_peak(*, threads: int, seconds: float) -> float:
    """Return the most int8 operations a second, two a multiplication, of ONNX Runtime's product of two [1024, 1024]."""
    weights = np.random.default_rng(0).integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    ends = [
        helper.make_tensor_value_info("a", TensorProto.UINT8, [ROWS, WIDTH]),
        helper.make_tensor_value_info("c", TensorProto.INT32, [ROWS, WIDTH]),
    ]
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "peak", ends[:1], ends[1:], [numpy_helper.from_array(weights, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    left = {"a": np.random.default_rng(1).integers(0, 256, (ROWS, WIDTH)).astype(np.uint8)}
    best, until = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        session.run(None, left)
        best = min(best, time.perf_counter() - started)
    return float(2 * ROWS * WIDTH * WIDTH / best)


def operations(encoder: TransformerEncoder, texts: Sequence[str]) -> float:
    """Return the operations that the products of the encoder's matrices and the texts' tokens take, attention's own left out."""
    config = encoder.transformer.config
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return float(2 * config.num_hidden_layers * layer * sum(map(len, encoder.tokenize(texts))))


def tokens_per_second(tokenizer: TextTokenizer, texts: Sequence[str], *, repeats: int) -> float:
    """Return how many tokens the tokenizer makes in a second, the median over repeats."""
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        rows = tokenizer.encode(texts)
        rates.append(sum(map(len, rows)) / (time.perf_counter() - started))
    return float(np.median(rates))
