"""Removes redundancy from a fused graph: empty attention heads, equal rows of embedding tables, tables of low rank.

The graph still computes the same values, up to rounding. So a smaller model is an ordinary one whose weights happen to be zero or
equal, and no further description of it is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from refsynth.core.types import FloatArray, IntArray
from refsynth.models.int8 import LEAST_ROWS

WORTH = 0.9
"""A change must bring the number of a table's values down to less than this share."""

EMPTY = 1e-5
"""Directions with less than this share of the largest singular value hold only rounding errors."""


def slim(graph: Any) -> None:
    """Drop empty heads, then rewrite tables of embeddings whose rows repeat or span fewer dimensions than they have."""
    drop_empty_heads(graph)
    nodes = []
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] >= LEAST_ROWS}
    for node in graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        nodes += [node] if table is None else _looked_up(graph, node, table)
    del graph.node[:]
    graph.node.extend(nodes)


def drop_empty_heads(graph: Any) -> int:
    """Remove from each Attention node the heads whose output nothing reads, except one; return the number of removed heads."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    dropped = 0
    for node in graph.node:
        if node.op_type != "Attention":
            continue
        reader = next(other for other in graph.node if other.op_type == "MatMul" and node.output[0] in other.input)
        output = numpy_helper.to_array(tensors[reader.input[1]])
        count = next(one for one in node.attribute if one.name == "num_heads")
        size = len(output) // count.i
        kept = np.flatnonzero(np.abs(output.reshape(count.i, -1)).max(1))
        kept = kept if len(kept) else np.array([0])
        if len(kept) == count.i:
            continue
        dropped += count.i - len(kept)
        places = (kept[:, None] * size + np.arange(size)).ravel()
        for name in node.input[1:3]:
            parts = np.split(numpy_helper.to_array(tensors[name]), 3, axis=-1)
            _replace(tensors[name], np.concatenate([part[..., places] for part in parts], axis=-1))
        _replace(tensors[reader.input[1]], output[places])
        count.i = len(kept)
        node.attribute.append(helper.make_attribute("qkv_hidden_sizes", [len(places)] * 3))
    return dropped


def _looked_up(graph: Any, node: Any, tensor: Any) -> list[Any]:
    """Return the nodes that look a row up in a smaller table, or the node itself if the table cannot be made smaller."""
    table = numpy_helper.to_array(tensor)
    ids, out, name = node.input[1], node.output[0], tensor.name
    rows, places = _distinct(table)
    if len(rows) < WORTH * len(table):
        _replace(tensor, rows)
        graph.initializer.append(numpy_helper.from_array(places.astype(np.int32), f"{name}_places"))
        return [
            helper.make_node("Gather", [f"{name}_places", ids], [f"{out}_place"], axis=0),
            helper.make_node("Gather", [name, f"{out}_place"], [out], axis=0),
        ]
    directions = _directions(table)
    rank, width = directions.shape
    if rank * (len(table) + width) < WORTH * table.size:
        _replace(tensor, (table.astype(float) @ directions.T).astype(np.float32))
        graph.initializer.append(numpy_helper.from_array(directions.astype(np.float32), f"{name}_directions"))
        return [
            helper.make_node("Gather", [name, ids], [f"{out}_low"], axis=0),
            helper.make_node("MatMul", [f"{out}_low", f"{name}_directions"], [out]),
        ]
    return [node]


def _distinct(table: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the distinct rows of a table [V, D], and the place among them of each row of the table [V]."""
    keys = np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1] * table.itemsize))).ravel()
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], np.asarray(places)


def _directions(table: FloatArray) -> FloatArray:
    """Return orthonormal directions [R, D] that span the rows of a table."""
    exact = table.astype(float)
    values, vectors = np.linalg.eigh(exact.T @ exact)
    return np.asarray(vectors[:, values > EMPTY**2 * values.max()].T)


def _replace(tensor: Any, values: FloatArray) -> None:
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
