"""Quantizes a fused encoder graph to int8: matrices by output channel, embedding tables by row, activations by token at run time.

Every token has its own scale, from its largest activation. So the answer to a text does not depend on the other texts of its
batch, and one outlier does not round the others away; design/003-bundle.md has the cost of other scales.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from refsynth.core.types import FloatArray, IntArray

MICROSOFT = "com.microsoft"
FLAT = {"SkipLayerNormalization": 2, "BiasGelu": 1}
"""Operators that work on tokens [M, D] as well as on texts [N, T, D], with the number of such inputs; the next input is [D]."""

ZERO = 128
"""The zero point of unsigned activations, the same for all tokens."""

TABLE_ROWS = 128
"""The smallest number of rows of a lookup table that counts as embeddings."""

PREFIX = "int8_"
"""The prefix of names that are added once per graph."""


class Quantized(NamedTuple):
    """A graph with int8 matrices, and their names."""

    model: onnx.ModelProto
    matrices: tuple[str, ...]


def quantize_rows(table: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return int8 values [V, D] and scales [V, 1] with `values * scales` nearest to the table, symmetric around 0."""
    scales = np.maximum(np.abs(table).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.round(table / scales).astype(np.int8), scales


def quantize_tables(graph: Any) -> int:
    """Replace embedding tables [V, D] by int8 rows with a scale per row; return the number of tables.

    One scale for the whole table would round rare tokens away.
    """
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] >= TABLE_ROWS}
    nodes, used = [], dict[str, None]()  # in the graph's order: the same graph gives the same bytes
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            nodes.append(node)
            continue
        table, (ids, out) = node.input[0], (node.input[1], node.output[0])
        used[table] = None
        nodes += [
            helper.make_node("Gather", [f"{table}_rows", ids], [f"{out}_row"], axis=0),
            helper.make_node("Cast", [f"{out}_row"], [f"{out}_row_cast"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}_scales", ids], [f"{out}_row_scale"], axis=0),
            helper.make_node("Mul", [f"{out}_row_cast", f"{out}_row_scale"], [out]),
        ]
    for name in used:
        quantized, scales = quantize_rows(numpy_helper.to_array(tables[name]))
        graph.initializer.remove(tables[name])
        graph.initializer.append(numpy_helper.from_array(quantized, f"{name}_rows"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
    _replace_nodes(graph, nodes)
    return len(used)


def quantize_matrices(fused: onnx.ModelProto) -> Quantized:
    """Return the graph with every product of activations and a matrix in int8, attention's among them."""
    model = onnx.ModelProto()
    model.CopyFrom(fused)
    rewriting = _Rewriting(model.graph)
    for node in fused.graph.node:
        rewriting.take(node)
    _replace_nodes(model.graph, rewriting.nodes)
    return Quantized(model, tuple(rewriting.matrices))


def dequantize_matrices(fused: onnx.ModelProto, quantized: Quantized) -> onnx.ModelProto:
    """Return the fp32 graph in which each quantized matrix is computed from its int8 form."""
    safe = onnx.ModelProto()
    safe.CopyFrom(fused)
    int8 = {tensor.name: tensor for tensor in quantized.model.graph.initializer}
    nodes = []
    for name in quantized.matrices:
        parts = [f"{name}_quantized", f"{name}_scale"]
        nodes.append(helper.make_node("DequantizeLinear", parts, [name], axis=1))
        safe.graph.initializer.remove(next(tensor for tensor in safe.graph.initializer if tensor.name == name))
        safe.graph.initializer.extend(int8[part] for part in parts)
    _replace_nodes(safe.graph, [*nodes, *safe.graph.node])
    return safe


class _Rewriting:
    """Takes the nodes of a graph in order and collects the nodes of its int8 form.

    Between products, activations stay in the form of tokens [M, D]. `_flat` maps the name of a tensor of texts [N, T, D], or of
    any other rank, to the name of that form, `_lead` to the name of its shape without D.
    """

    def __init__(self, graph: Any) -> None:
        self.nodes: list[Any] = []
        self.matrices: list[str] = []
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._flat: dict[str, str] = {}
        self._lead: dict[str, str] = {}
        self._only_flat: dict[str, int] = {}  # with their width D
        self._shapes: set[str] = set()
        self._quantized: dict[str, tuple[str, str]] = {}
        for name, value in (
            ("zero", np.uint8(ZERO)),
            ("one", np.float32(1)),
            ("step", np.float32(1 / 127)),
            ("last", np.array([1])),
        ):
            self._constant(PREFIX + name, value)

    def take(self, node: Any) -> None:
        """Add the nodes that replace a node."""
        out = node.output[0]
        if node.op_type == "MatMul" and node.input[1] in self._tensors:
            self._flat[out], self._only_flat[out] = self._product(node.input[0], node.input[1], out)
        elif node.op_type == "Attention":
            self._attend(node)
        elif node.op_type in FLAT:
            flat = onnx.NodeProto()
            flat.CopyFrom(node)
            width = self._only_flat[out] = int(self._tensors[node.input[FLAT[node.op_type]]].dims[0])
            self._lead[out] = self._lead_of(node.input[0])
            for place in range(FLAT[node.op_type]):
                flat.input[place] = self._flattened(node.input[place], width)
            flat.output[0] = self._flat[out] = f"{out}_flat"
            self.nodes.append(flat)
        else:
            for name in node.input:
                if name in self._only_flat:
                    self._texts(self._flat[name], self._lead[name], self._only_flat.pop(name), name)
            self.nodes.append(node)

    def _attend(self, node: Any) -> None:
        texts, matrix, bias, mask = node.input[:4]
        out = node.output[0]
        product, width = self._product(texts, matrix, out)
        parts = [f"{out}_query", f"{out}_key", f"{out}_value"]
        joined = self._texts(product, self._lead_of(texts), width, f"{out}_joined")
        self.nodes.append(helper.make_node("Split", [joined], parts, axis=-1))
        heads = next(helper.get_attribute_value(one) for one in node.attribute if one.name == "num_heads")
        self._add("MultiHeadAttention", [*parts, bias, mask], out, domain=MICROSOFT, num_heads=heads)

    def _product(self, texts: str, matrix: str, out: str) -> tuple[str, int]:
        """Add the product of activations and a matrix [D, E] in place of `out`; return the name of the product [M, E], and E."""
        self._lead[out] = self._lead_of(texts)
        values, scales = quantize_rows(numpy_helper.to_array(self._tensors[matrix]).T)
        self._graph.initializer.remove(self._tensors[matrix])
        self._constant(f"{matrix}_quantized", np.ascontiguousarray(values.T))
        self._constant(f"{matrix}_scale", scales[:, 0])
        self.matrices.append(matrix)
        tokens, steps = self._tokens_int8(texts, values.shape[1])
        inputs = [tokens, f"{matrix}_quantized", PREFIX + "one", f"{matrix}_scale", PREFIX + "zero"]
        product = self._add("MatMulIntegerToFloat", inputs, f"{out}_unscaled", domain=MICROSOFT)
        return self._add("Mul", [product, steps], f"{out}_product"), len(scales)

    def _tokens_int8(self, texts: str, width: int) -> tuple[str, str]:
        """Return the names of the int8 activations [M, D] and of the scale of each token [M, 1]."""
        if texts not in self._quantized:
            tokens = self._flattened(texts, width)
            largest = self._add("ReduceMax", [self._add("Abs", [tokens], f"{texts}_abs")], f"{texts}_max", axes=[1], keepdims=0)
            steps = self._add("Mul", [largest, PREFIX + "step"], f"{texts}_steps")
            zero = numpy_helper.from_array(np.array([ZERO], np.uint8))
            zeros = self._add("ConstantOfShape", [self._add("Shape", [steps], f"{texts}_m")], f"{texts}_zeros", value=zero)
            values = self._add("QuantizeLinear", [tokens, steps, zeros], f"{texts}_int8", axis=0)
            self._quantized[texts] = values, self._add("Unsqueeze", [steps, PREFIX + "last"], f"{texts}_scale")
        return self._quantized[texts]

    def _flattened(self, texts: str, width: int) -> str:
        if texts not in self._flat:
            self._once(f"{PREFIX}tokens_{width}", np.array([-1, width]))
            self._flat[texts] = self._add("Reshape", [texts, f"{PREFIX}tokens_{width}"], f"{texts}_flat")
        return self._flat[texts]

    def _lead_of(self, texts: str) -> str:
        if texts not in self._lead:
            self._lead[texts] = self._add("Shape", [texts], f"{texts}_lead", end=-1)
        return self._lead[texts]

    def _texts(self, tokens: str, lead: str, width: int, out: str) -> str:
        """Add a node that reshapes tokens [M, D] to texts [N, T, D]."""
        shape = f"{lead}_{width}"
        if shape not in self._shapes:
            self._shapes.add(shape)
            self._once(f"{PREFIX}width_{width}", np.array([width]))
            self._add("Concat", [lead, f"{PREFIX}width_{width}"], shape, axis=0)
        return self._add("Reshape", [tokens, shape], out)

    def _once(self, name: str, value: Any) -> None:
        if name not in self._shapes:
            self._shapes.add(name)
            self._constant(name, value)

    def _constant(self, name: str, value: Any) -> None:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))

    def _add(self, kind: str, inputs: list[str], out: str, *, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [out], domain=domain, **attributes))
        return out


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
