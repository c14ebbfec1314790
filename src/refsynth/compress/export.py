"""Exports a trained encoder to ONNX: `int8.onnx` and `safe.onnx` with a shared `weights.bin`, and `tokenizer.json`.

Both graphs map token ids [N, T] and their mask [N, T] to pooled embeddings [N, D] and read the same int8 weights.
`int8.onnx` also quantizes activations at run time, token by token, which is fast; `safe.onnx` first converts the weights to fp32,
which is correct on every CPU (design/003-bundle.md). Knows nothing of labels and heads.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from transformers import AutoModel

from refsynth.compress.graph import slim
from refsynth.compress.quantize import dequantize_matrices, quantize_matrices, quantize_tables
from refsynth.core.errors import ModelError
from refsynth.models.adapted import has_parts
from refsynth.models.pooling import is_causal, pooled

INT8, SAFE, WEIGHTS, TOKENIZER = "int8.onnx", "safe.onnx", "weights.bin", "tokenizer.json"
OPSET = 17
INLINE_BYTES = 1024  # smaller tensors stay in the graph: shapes and scalars, which ONNX Runtime reads while it optimizes
ALIGNMENT = 64


class Export(NamedTuple):
    """The folder of an export, its size in bytes, and the number of weight matrices in int8, including embedding tables."""

    folder: Path
    size: int
    quantized: int


def export_encoder(encoder: Path | torch.nn.Module, tokenizer: Path, out: Path, *, pool: bool = True) -> Export:
    """Write the four files of an encoder into the folder `out`, which is created if necessary.

    Args:
        encoder: a Hugging Face folder of a BERT-like model, or such a model; it has the vocabulary of the tokenizer.
        tokenizer: its `tokenizer.json`.
        out: the folder to write to.
        pool: whether the graph gives one embedding of unit length per text; otherwise the states of its tokens [N, T, D].

    Raises:
        ModelError: the attention layers were not recognized, so that most weights would stay in fp32.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = _on_cpu(encoder) if isinstance(encoder, torch.nn.Module) else AutoModel.from_pretrained(encoder, dtype=torch.float32)
    fused = fused_graph(model, pool=pool)
    slim(fused.graph)
    tables = quantize_tables(fused.graph)
    quantized = quantize_matrices(fused)
    safe = dequantize_matrices(fused, quantized)
    with (out / WEIGHTS).open("wb") as stream:
        _externalize([quantized.model, safe], stream)
    (out / INT8).write_bytes(quantized.model.SerializeToString())
    (out / SAFE).write_bytes(safe.SerializeToString())
    shutil.copyfile(tokenizer, out / TOKENIZER)
    size = sum((out / name).stat().st_size for name in (INT8, SAFE, WEIGHTS, TOKENIZER))
    return Export(out, size, tables + len(quantized.matrices))


def _on_cpu(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model, or a copy on the CPU if it is on another device."""
    return model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).cpu()


def fused_graph(model: Any, *, pool: bool = True) -> onnx.ModelProto:
    """Return the graph of a BERT-like model in fp32, with ONNX Runtime's own operators for attention, GELU and norms.

    Raises:
        ModelError: the attention layers were not recognized.
    """
    with tempfile.TemporaryDirectory(prefix="refsynth-export-") as work:
        return _fuse(_trace(model, Path(work), pool=pool), model.config, altered=has_parts(model))


class _Traced(torch.nn.Module):
    """The encoder's output in an export: pooled vectors of unit length [N, D], or states of tokens [N, T, D], 0 for padding."""

    def __init__(self, encoder: torch.nn.Module, *, pool: bool) -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the output for token ids [N, T]."""
        states: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if not self.pool:
            return states[:, -input_ids.shape[1] :] * attention_mask.unsqueeze(-1).to(states.dtype)
        return torch.nn.functional.normalize(pooled(states, attention_mask, self.encoder.config), dim=-1)


def _trace(model: Any, work: Path, *, pool: bool) -> Path:
    ids = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    training, attention = model.training, model.config._attn_implementation
    model.eval().set_attn_implementation("eager")  # the form of attention that the optimizer recognizes
    axes = {0: "texts", 1: "tokens"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of shapes that the pooling makes constant
            torch.onnx.export(
                _Traced(model, pool=pool).eval(),
                (ids, mask),
                str(work / "traced.onnx"),
                input_names=["input_ids", "attention_mask"],
                output_names=["embedding"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "texts"} if pool else axes},
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        model.set_attn_implementation(attention)
        model.train(training)
    return work / "traced.onnx"


def _fuse(path: Path, config: Any, *, altered: bool) -> onnx.ModelProto:
    if is_causal(config):
        traced = onnx.load(path)  # the optimizer has no pattern for causal attention
        traced.graph.output[0].type.tensor_type.shape.dim[1].dim_value = config.hidden_size
        return traced
    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # it would hide the embedding table from `quantize_tables`
    fused = optimizer.optimize_model(
        str(path),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=1,
        optimization_options=options,
    )
    layers = fused.get_fused_operator_statistics()["Attention"]
    # Adapters and prefixes hide the pattern of an attention layer; its matrices are then quantized one by one.
    if layers != config.num_hidden_layers and not altered:
        raise ModelError(
            f"{layers} of {config.num_hidden_layers} attention layers of this {config.model_type} were recognized",
            expected="an encoder of the BERT family",
        )
    model: onnx.ModelProto = fused.model
    return model


def _externalize(models: list[onnx.ModelProto], stream: Any) -> None:
    """Move the large tensors of all models to one file; equal tensors are stored once."""
    places: dict[bytes, int] = {}
    for tensor in (tensor for model in models for tensor in model.graph.initializer):
        data = numpy_helper.to_array(tensor).tobytes()
        if len(data) < INLINE_BYTES:
            continue
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
