"""Restores the encoder of a bundle as a transformers folder: the weights of `safe.onnx` in fp32, and the head.

The result computes the same as the safe variant, whose int8 weights are converted to fp32. A graph from which heads, rows or
directions were removed, or which has adapters, is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertModel

from refsynth.bundle.manifest import Manifest
from refsynth.compress.huggingface import config_of
from refsynth.core.errors import InputError
from refsynth.core.files import write_json
from refsynth.core.types import Array

CODE = "modeling_refsynth.py"
CLASS = "MeanBertForSequenceClassification"

_MODELING = '''"""BERT, the mean of its states, a linear layer: transformers has no such class of its own."""

import torch
from transformers import BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanBertForSequenceClassification(BertPreTrainedModel):
    """Logits are calibrated: their softmax (or sigmoid, for several labels) are the probabilities."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **unread):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.bert(input_ids=input_ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        vectors = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return SequenceClassifierOutput(logits=self.classifier(vectors))
'''
_DENSE = re.compile(r"/layer\.(\d+)/(attention/output/dense|intermediate/dense|output/dense)/MatMul")
_ATTENTION = re.compile(r"/layer\.(\d+)/attention/self/")


def write_torch(bundle: Path, manifest: Manifest, out: Path) -> None:
    """Write config.json, model.safetensors and the class that reads them.

    Raises:
        InputError: the graph is not that of a complete BERT.
    """
    graph = onnx.load(bundle / "safe.onnx").graph
    state, config = _restored(graph, str(bundle))
    head, temperature = load_file(bundle / "head.safetensors"), manifest.calibration.temperature
    tensors = {f"bert.{name}": np.ascontiguousarray(value, np.float32) for name, value in state.items()}
    tensors["classifier.weight"] = np.ascontiguousarray(head["weights"].T / temperature, np.float32)
    tensors["classifier.bias"] = np.ascontiguousarray(head["bias"] / temperature, np.float32)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / CODE).write_text(_MODELING, encoding="utf-8")
    place = f"{CODE.removesuffix('.py')}.{CLASS}"
    classes = {"architectures": [CLASS], "auto_map": {"AutoModelForSequenceClassification": place}}
    write_json(out / "config.json", config_of(manifest, **config, **classes, dtype="float32"))


def _restored(graph: Any, where: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the weights of a BERT by their names in transformers, and the shape for its configuration."""
    values = _values(graph)
    state = {name.removeprefix("encoder."): value for name, value in values.items() if name.startswith("encoder.")}
    heads, epsilon = set(), set()
    for node in graph.node:
        facts = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        epsilon |= {facts["epsilon"]} if "epsilon" in facts else set()
        if node.op_type == "MatMul" and (match := _DENSE.search(node.output[0])) and node.input[1] in values:
            state[f"encoder.layer.{match[1]}.{match[2].replace('/', '.')}.weight"] = values[node.input[1]].T
        elif node.op_type == "Attention" and (match := _ATTENTION.search(node.output[0])):
            heads.add(facts["num_heads"])
            parts = [np.split(values[name], 3, axis=-1) for name in node.input[1:3]]
            for name, weight, bias in zip(("query", "key", "value"), *parts, strict=True):
                place = f"encoder.layer.{match[1]}.attention.self.{name}"
                state |= {f"{place}.weight": weight.T, f"{place}.bias": bias}
    try:
        words, width = state["embeddings.word_embeddings.weight"].shape
        shape = {
            "vocab_size": words,
            "hidden_size": width,
            "num_hidden_layers": len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")}),
            "num_attention_heads": heads.pop(),
            "intermediate_size": len(state["encoder.layer.0.intermediate.dense.bias"]),
            "max_position_embeddings": len(state["embeddings.position_embeddings.weight"]),
            "type_vocab_size": len(state["embeddings.token_type_embeddings.weight"]),
            "layer_norm_eps": float(f"{max(epsilon):.6g}"),
            "hidden_act": "gelu",
        }
        model = BertModel(BertConfig(**shape), add_pooling_layer=False)
        model.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"{where}: its encoder is not a complete BERT: heads, words or directions were removed, or it has adapters",
            expected="the form 'full', of the learners frozen, contrastive or finetune",
            remedy="export it --to onnx, which takes every encoder",
        ) from error
    return state, shape


def _values(graph: Any) -> dict[str, Array]:
    """Return the tensors of a graph in fp32; int8 tensors have the names of the tensors that they replace."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = {name: value for name, value in stored.items() if value.dtype == np.float32}
    for name, rows in stored.items():
        if name.endswith("_rows") and (scales := stored.get(f"{name.removesuffix('_rows')}_scales")) is not None:
            values[name.removesuffix("_rows")] = rows.astype(np.float32) * scales
            del values[f"{name.removesuffix('_rows')}_scales"]
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            values[node.output[0]] = stored[node.input[0]].astype(np.float32) * stored[node.input[1]]
    return values
