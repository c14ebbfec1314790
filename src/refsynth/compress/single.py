"""Exports a bundle as one ONNX graph: token ids and their mask in, calibrated logits and probabilities out.

`probabilities` are the softmax, or the sigmoid, of `logits`. Only the tokenizer is outside the graph, so every runtime with ONNX
Runtime's operators gives the same as `refsynth predict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from refsynth.bundle.manifest import Manifest
from refsynth.core.errors import InputError
from refsynth.core.types import FloatArray

OPSET = 17
IDS, MASK, LOGITS, PROBABILITIES = "input_ids", "attention_mask", "logits", "probabilities"


def why_not(manifest: Manifest) -> str:
    """Return why a bundle cannot be a single graph from token ids; empty if it can."""
    if len(manifest.tiers) > 1:
        cascade = "uses several models in turn, the next only where the one before is unsure"
        return f"it labels words, and {cascade}" if manifest.answers.words else f"it {cascade}"
    return manifest.last.spec.no_graph


def tiers_of(manifest: Manifest) -> str:
    """Return the tiers of a bundle as part of a message."""
    kinds = [f"'{tier.kind}'" for tier in manifest.tiers]
    return f"with the tier{'s' * (len(kinds) > 1)} {' and '.join(kinds)}"


def one_graph(bundle: Path, manifest: Manifest, variant: str) -> onnx.ModelProto:
    """Return the graph of a bundle, with all weights.

    Args:
        bundle: the verified folder.
        manifest: its manifest.
        variant: the arithmetic: `int8` or `safe` for an encoder, or `static`.

    Raises:
        InputError: bundles of this kind cannot be a single graph.
    """
    if why := why_not(manifest):
        raise InputError(
            f"{bundle}: a bundle {tiers_of(manifest)} cannot be one graph: {why}",
            remedy="export it --to mlflow or --to hub, which keep the bundle as it is; or train with other learners",
        )
    head = load_file(bundle / "head.safetensors")
    if manifest.last.kind == "static":
        return _finished(_votes(head["weights"]), "votes", head["bias"], manifest)
    graph = onnx.load(bundle / f"{variant}.onnx")  # with its external data
    weights = head["weights"].astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(weights, "head_weights"))
    graph.graph.node.append(helper.make_node("MatMul", [graph.graph.output[0].name, "head_weights"], ["head_product"]))
    return _finished(graph, "head_product", head["bias"], manifest)


def _votes(votes: FloatArray) -> onnx.ModelProto:
    """Return the graph of a static model: the mean of the votes [V, K] of a text's tokens."""
    axes = numpy_helper.from_array(np.array([1], np.int64), "axis")
    tensors = [numpy_helper.from_array(votes.astype(np.float32), "table"), axes]
    nodes = [
        helper.make_node("Gather", ["table", IDS], ["each"]),
        helper.make_node("Cast", [MASK], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis_last"], ["column"]),
        helper.make_node("Mul", ["each", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["tokens"], keepdims=1),
        helper.make_node("Max", ["tokens", "one"], ["count"]),  # a text without tokens gets the bias alone
        helper.make_node("Div", ["sum", "count"], ["votes"]),
    ]
    tensors += [
        numpy_helper.from_array(np.array([2], np.int64), "axis_last"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in (IDS, MASK)]
    graph = helper.make_graph(nodes, "static", inputs, [], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _finished(model: onnx.ModelProto, scores: str, bias: FloatArray, manifest: Manifest) -> onnx.ModelProto:
    """Return the graph with bias, temperature and link after its scores [N, K]."""
    graph = model.graph
    inverse = np.array(1 / manifest.calibration.temperature, np.float32)
    graph.initializer.extend(
        [numpy_helper.from_array(bias.astype(np.float32), "head_bias"), numpy_helper.from_array(inverse, "inverse_temperature")]
    )
    axis: dict[str, Any] = {} if manifest.answers.several else {"axis": -1}
    link = helper.make_node("Softmax" if axis else "Sigmoid", [LOGITS], [PROBABILITIES], **axis)
    graph.node.extend(
        [
            helper.make_node("Add", [scores, "head_bias"], ["uncalibrated"]),
            helper.make_node("Mul", ["uncalibrated", "inverse_temperature"], [LOGITS]),
            link,
        ]
    )
    del graph.output[:]
    shape: list[str | int | None] = ["texts", len(manifest.labels)]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (LOGITS, PROBABILITIES))
    return model
