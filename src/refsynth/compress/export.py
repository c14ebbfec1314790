"""A trained encoder as ONNX: `int8.onnx` and `safe.onnx` over one `weights.bin`, beside `tokenizer.json`.

Both graphs map token ids [N, T] and their mask [N, T] to pooled embeddings [N, D] and read the same int8 weights.
`int8.onnx` also quantises activations while it runs, which is fast; `safe.onnx` turns the weights back to fp32 first, which is
right on every CPU (design/003-bundle.md). Knows nothing of labels and heads.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from transformers import AutoModel

from refsynth.core.errors import ModelError
from refsynth.core.types import FloatArray, IntArray
from refsynth.models.adapted import has_parts
from refsynth.models.pooling import is_causal, pooled

INT8, SAFE, WEIGHTS, TOKENIZER = "int8.onnx", "safe.onnx", "weights.bin", "tokenizer.json"
OPSET = 17
INLINE_BYTES = 1024  # below this a tensor stays in the graph: shapes and scalars, which ONNX Runtime reads while it optimises
ALIGNMENT = 64


class Export(NamedTuple):
    """What an export weighs. `quantized` is the number of weight matrices in int8, the embedding table included."""

    folder: Path
    size: int
    quantized: int


def export_encoder(encoder: Path | torch.nn.Module, tokenizer: Path, out: Path, *, normalize: bool = True) -> Export:
    """Write the four files of an encoder into the folder `out`, which is made if it is absent.

    Args:
        encoder: a Hugging Face folder of a BERT-like model, or such a model; its vocabulary is that of the tokenizer.
        tokenizer: its `tokenizer.json`.
        out: the folder to write to.
        normalize: whether the graph scales embeddings to unit length.

    Raises:
        ModelError: the attention layers were not recognised, so that most weights would stay in fp32.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = encoder if isinstance(encoder, torch.nn.Module) else AutoModel.from_pretrained(encoder, dtype=torch.float32)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as work:
        fused = _fuse(_trace(model, Path(work), normalize=normalize), model.config, altered=has_parts(model))
        tables = _quantize_tables(fused.graph)
        quantized = _quantize(fused, Path(work))
        safe = _dequantize_weights(fused, quantized)
    matrices = tables + len(_quantized_names(quantized.graph))
    with (out / WEIGHTS).open("wb") as stream:
        _externalize([quantized, safe], stream)
    (out / INT8).write_bytes(quantized.SerializeToString())
    (out / SAFE).write_bytes(safe.SerializeToString())
    shutil.copyfile(tokenizer, out / TOKENIZER)
    return Export(out, sum((out / name).stat().st_size for name in (INT8, SAFE, WEIGHTS, TOKENIZER)), matrices)


class _Pooled(torch.nn.Module):
    """The encoder with its pooling: [N, T] -> [N, D]."""

    def __init__(self, encoder: torch.nn.Module, *, normalize: bool) -> None:
        super().__init__()
        self.encoder, self.normalize = encoder, normalize

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the embeddings [N, D] of token ids [N, T]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = pooled(states, attention_mask, self.encoder.config)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def _trace(model: Any, work: Path, *, normalize: bool) -> Path:
    ids = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    training, attention = model.training, model.config._attn_implementation
    model.eval().set_attn_implementation("eager")  # the form of attention that the optimiser knows
    axes = {0: "texts", 1: "tokens"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, on shapes that the pooling makes constant
            torch.onnx.export(
                _Pooled(model, normalize=normalize).eval(),
                (ids, mask),
                str(work / "traced.onnx"),
                input_names=["input_ids", "attention_mask"],
                output_names=["embedding"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "texts"}},
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        model.set_attn_implementation(attention)
        model.train(training)
    return work / "traced.onnx"


def _fuse(path: Path, config: Any, *, altered: bool) -> onnx.ModelProto:
    if is_causal(config):
        traced = onnx.load(path)  # of its attention the optimiser knows no pattern
        traced.graph.output[0].type.tensor_type.shape.dim[1].dim_value = config.hidden_size
        return traced
    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # it would hide the embedding table from `_quantize_tables`
    fused = optimizer.optimize_model(
        str(path),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=1,
        optimization_options=options,
    )
    found = fused.get_fused_operator_statistics()["Attention"]
    # Adapters and prefixes hide the pattern of an attention layer: its matrices are then quantised one by one.
    if found != config.num_hidden_layers and not altered:
        raise ModelError(
            f"{found} of {config.num_hidden_layers} attention layers of this {config.model_type} were recognised",
            expected="an encoder of the BERT family",
        )
    model: onnx.ModelProto = fused.model
    return model


def _quantize_tables(graph: Any, *, rows: int = 128) -> int:
    """Replace embedding tables [V, D] by int8 rows and a scale per row, looked up together; return how many there were.

    A scale per row keeps rare tokens exact where one scale for the whole table would round them away.
    """
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] >= rows}
    nodes, used = [], set()
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            nodes.append(node)
            continue
        table, (ids, out) = node.input[0], (node.input[1], node.output[0])
        used.add(table)
        nodes += [
            helper.make_node("Gather", [f"{table}_rows", ids], [f"{out}_int8"], axis=0),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_cast"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}_scales", ids], [f"{out}_scale"], axis=0),
            helper.make_node("Mul", [f"{out}_cast", f"{out}_scale"], [out]),
        ]
    for name in used:
        quantized, scales = quantize_rows(numpy_helper.to_array(tables[name]))
        graph.initializer.remove(tables[name])
        graph.initializer.append(numpy_helper.from_array(quantized, f"{name}_rows"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
    del graph.node[:]
    graph.node.extend(nodes)
    return len(used)


def quantize_rows(table: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return int8 values [V, D] and scales [V, 1] with `values * scales` nearest to the table, symmetric around 0."""
    scales = np.maximum(np.abs(table).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.round(table / scales).astype(np.int8), scales


def _quantize(fused: onnx.ModelProto, work: Path) -> onnx.ModelProto:
    source, target = work / "fused.onnx", work / "quantized.onnx"
    add_pre_process_metadata(fused)  # the fusion has done what the quantiser would otherwise ask for
    onnx.save(fused, source)
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Shape inference does not know the fused operators; without a default the quantiser gives up at their outputs.
        extra_options={"DefaultTensorType": TensorProto.FLOAT, "WeightSymmetric": True},
    )
    return onnx.load(target)


def _quantized_names(graph: Any) -> list[str]:
    suffix = "_quantized"
    return [t.name.removesuffix(suffix) for t in graph.initializer if t.name.endswith(suffix) and t.data_type == TensorProto.INT8]


def _dequantize_weights(fused: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """Return the fp32 graph with each weight that was quantised computed from its int8 form."""
    safe = onnx.ModelProto()
    safe.CopyFrom(fused)
    int8 = {tensor.name: tensor for tensor in quantized.graph.initializer}
    nodes = []
    for name in _quantized_names(quantized.graph):
        parts = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        nodes.append(helper.make_node("DequantizeLinear", parts, [name], axis=1))
        safe.graph.initializer.remove(next(tensor for tensor in safe.graph.initializer if tensor.name == name))
        safe.graph.initializer.extend(int8[part] for part in parts)
    nodes.extend(safe.graph.node)
    del safe.graph.node[:]
    safe.graph.node.extend(nodes)
    return safe


def _externalize(models: list[onnx.ModelProto], stream: Any) -> None:
    """Move the large tensors of all models to one file, equal ones once."""
    places: dict[bytes, int] = {}
    for tensor in (tensor for model in models for tensor in _large(model.graph)):
        data = numpy_helper.to_array(tensor).tobytes()
        key = sha256(data).digest()
        if key not in places:
            stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
            places[key] = stream.tell()
            stream.write(data)
        for field in ("raw_data", "float_data", "int32_data", "int64_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        for part, value in (("location", WEIGHTS), ("offset", places[key]), ("length", len(data))):
            tensor.external_data.add(key=part, value=str(value))


def _large(graph: Any) -> Iterator[Any]:
    for tensor in graph.initializer:
        if numpy_helper.to_array(tensor).nbytes >= INLINE_BYTES:
            yield tensor
