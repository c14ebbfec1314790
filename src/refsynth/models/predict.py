"""Inference with what the base install has: ONNX Runtime, tokenizers, numpy. Texts in, logits [N, K] out.

Knows nothing of folders with manifests (that is `bundle`), of calibration or of training.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from refsynth.core.errors import ModelError
from refsynth.core.protocols import Encoder, Predictor
from refsynth.core.types import FloatArray
from refsynth.models.tfidf import TfidfVectors
from refsynth.models.tokenise import TextTokenizer, length_batches

Name = TypeVar("Name", bound=Hashable)

TOKENS_PER_BATCH = 256  # short batches stay in the cache: 1.6 times the texts/s of 2048 on 15-token texts, 2 cores
# ONNX Runtime's errors share no base class of their own.
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(ort_errors, name)
    for name in (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
)


class OnnxEncoder:
    """An exported encoder: token ids and mask in, embeddings out, pooled (and scaled) inside the graph.

    What a text is given does not depend on the texts that share its batch, but for the last digits of a float.

    Args:
        graph: the ONNX file, with its external data beside it.
        tokenizer: the `tokenizer.json`.
        max_tokens: the longest text, special tokens included; longer ones are cut.
        prefix: what the encoder wants before each text.
        threads: for one batch; 0 lets ONNX Runtime take one per core.

    Raises:
        ModelError: a file is absent or is not what it should be.
    """

    def __init__(self, graph: Path, tokenizer: Path, *, max_tokens: int, prefix: str = "", threads: int = 0) -> None:
        self.tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens, prefix=prefix, parallel=threads != 1)
        self._session = open_session(graph, threads)
        self.dimension = int(self._session.get_outputs()[0].shape[-1])

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return embeddings [N, D], float32.

        Raises:
            ModelError: the graph does not run on what the tokenizer gives.
        """
        rows = self.tokenizer.encode(texts)
        out = np.zeros((len(rows), self.dimension), np.float32)
        for batch in length_batches(rows, tokens=TOKENS_PER_BATCH):
            out[batch] = self.embed([rows[index] for index in batch])
        return out

    def embed(self, rows: Sequence[Sequence[int]], *, width: int | None = None) -> FloatArray:
        """Return embeddings [N, D] of token ids that go through the graph together, padded to the longest or to `width`.

        Raises:
            ModelError: the graph does not run on them.
        """
        return run_session(self._session, rows, pad=self.tokenizer.pad, width=width)


def run_session(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], *, pad: int, width: int | None = None
) -> FloatArray:
    """Return what a graph makes of rows of token ids that go through it together, padded to the longest or to `width`.

    Raises:
        ModelError: the graph does not run on them.
    """
    width = width or max(map(len, rows))
    ids = np.full((len(rows), width), pad, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    try:
        return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
    except ORT_ERRORS as error:
        raise ModelError(f"the encoder's graph does not run ({_first_line(error)})") from error


def open_session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph from token ids and their mask to one output whose last dimension is known.

    Raises:
        ModelError: it is absent or not such a graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it plans memory for one shape; ours change with every batch
    # Weights that are stored as int8 for size alone become fp32 once, at load, rather than int8 arithmetic by another door.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Threads that spin between batches take the cores of whoever shares the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise ModelError(f"{graph}: not a graph that ONNX Runtime loads ({_first_line(error)})") from error
    inputs, outputs = [node.name for node in session.get_inputs()], [node.shape for node in session.get_outputs()]
    if sorted(inputs) != ["attention_mask", "input_ids"] or len(outputs) != 1 or not isinstance(outputs[0][-1], int):
        raise ModelError(f"{graph}: inputs {inputs}, outputs {outputs}", expected="input_ids and attention_mask to one embedding")
    return session


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weights + bias, with weights [D, K] and bias [K]."""

    weights: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ModelError: they do not fit.
        """
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise ModelError(f"a head with weights {self.weights.shape} and bias {self.bias.shape}", expected="[D, K] and [K]")

    def logits(self, features: FloatArray) -> FloatArray:
        """Return logits [N, K] of features [N, D]."""
        return np.asarray(features @ self.weights + self.bias)


@dataclass(frozen=True)
class EncoderPredictor:
    """A head on an encoder's embeddings."""

    labels: tuple[str, ...]
    encoder: Encoder
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        return self.head.logits(self.encoder.encode(texts))


@dataclass(frozen=True)
class TfidfPredictor:
    """A head on TF-IDF features, which stay sparse: work is proportional to the n-grams of a text."""

    labels: tuple[str, ...]
    vectors: TfidfVectors
    head: LinearHead

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return logits [N, K]."""
        out = np.empty((len(texts), len(self.labels)))
        for index, row in enumerate(self.vectors.rows(texts)):
            out[index] = row.values @ self.head.weights[row.indices] + self.head.bias
        return out

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the J n-grams of a text and what each adds to the logits, [J, K]: their sum and the bias are the logits."""
        row = self.vectors.rows([text])[0]
        return self.vectors.terms(row.indices), row.values[:, None] * self.head.weights[row.indices]


def logits_of(predictors: Mapping[Name, Predictor], texts: Sequence[str]) -> dict[Name, FloatArray]:
    """Return what each predictor says of the texts, logits [N, K]; an encoder that several share reads them once."""
    features: dict[int, FloatArray] = {}
    said: dict[Name, FloatArray] = {}
    for name, predictor in predictors.items():
        if isinstance(predictor, EncoderPredictor):
            if id(predictor.encoder) not in features:
                features[id(predictor.encoder)] = predictor.encoder.encode(texts)
            said[name] = predictor.head.logits(features[id(predictor.encoder)])
        else:
            said[name] = predictor.logits(texts)
    return said
