"""Exported encoders by ONNX Runtime: texts in, embeddings or the states of words out.

Apart from `predict` so that a bundle without a graph does not load the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from refsynth.core.errors import ModelError
from refsynth.core.types import FloatArray
from refsynth.core.windows import Windows, joined, split_rows, word_parts
from refsynth.models.tokenizer import Pieces, TextTokenizer, length_batches

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


class Graph(NamedTuple):
    """A graph and the files that it refers to, by name, as bytes: what was verified before is what runs."""

    model: bytes
    external: Mapping[str, bytes]


class OnnxEncoder:
    """An exported encoder: token ids and mask in, embeddings out, pooled (and scaled) inside the graph.

    What a text is given does not depend on the texts that share its batch, but for the last digits of a float.

    Args:
        graph: the ONNX file, with its external data beside it; or the bytes of both.
        tokenizer: the `tokenizer.json`, or its bytes.
        max_tokens: the longest text, special tokens included.
        prefix: what the encoder wants before each text.
        threads: for one batch; 0 lets ONNX Runtime take one per core.
        windows: what is read of longer texts.

    Raises:
        ModelError: a file is absent or is not what it should be.
    """

    def __init__(
        self,
        graph: Path | Graph,
        tokenizer: Path | bytes,
        *,
        max_tokens: int,
        prefix: str = "",
        threads: int = 0,
        windows: Windows = "cut",
    ) -> None:
        self.tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens, prefix=prefix, parallel=threads != 1, windows=windows)
        self._session = open_session(graph, threads)
        self.dimension = int(self._session.get_outputs()[0].shape[-1])

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return embeddings [N, D], float32.

        Raises:
            ModelError: the graph does not run on what the tokenizer gives.
        """
        split = split_rows(self.tokenizer.encode(texts), self.tokenizer.max_tokens, self.tokenizer.frame)
        out = np.zeros((len(split.rows), self.dimension), np.float32)
        for batch in length_batches(split.rows, tokens=TOKENS_PER_BATCH):
            out[batch] = self.embed([split.rows[index] for index in batch])
        return joined(out, split, len(texts))

    def embed(self, rows: Sequence[Sequence[int]], *, width: int | None = None) -> FloatArray:
        """Return embeddings [N, D] of token ids that go through the graph together, padded to the longest or to `width`.

        Raises:
            ModelError: the graph does not run on them.
        """
        return run_session(self._session, rows, pad=self.tokenizer.pad, width=width)


class OnnxWords:
    """An exported encoder of words: token ids and mask in, states of tokens [N, T, D] out.

    Args:
        graph: the ONNX file, with its external data beside it; or the bytes of both.
        tokenizer: the `tokenizer.json`, or its bytes.
        max_tokens: the longest text, special tokens included.
        threads: for one batch; 0 lets ONNX Runtime take one per core.
        windows: `cut`, or longer texts are read in windows that overlap.

    Raises:
        ModelError: a file is absent or is not what it should be.
    """

    def __init__(
        self, graph: Path | Graph, tokenizer: Path | bytes, *, max_tokens: int, threads: int = 0, windows: Windows = "cut"
    ) -> None:
        windows = windows if windows == "cut" else "mean"
        self.tokenizer = TextTokenizer(tokenizer, max_tokens=max_tokens, parallel=threads != 1, windows=windows)
        self._session = open_session(graph, threads)
        self.dimension = int(self._session.get_outputs()[0].shape[-1])

    def words(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the words of each text as tokens."""
        return self.tokenizer.words(texts)

    def states(self, rows: Sequence[Pieces]) -> list[FloatArray]:
        """Return the mean state of the tokens of each word: [M, D] for each text, float32.

        Raises:
            ModelError: the graph does not run on what the tokenizer gives.
        """
        longest, frame = self.tokenizer.max_tokens, self.tokenizer.frame
        whole = [word_parts(row.ids, row.starts, row.ends, longest, frame) for row in rows]
        parts = [part for each in whole for part in each]
        found: list[FloatArray] = [np.zeros((0, self.dimension), np.float32)] * len(parts)
        for batch in length_batches([part.ids for part in parts], tokens=TOKENS_PER_BATCH):
            states = run_session(self._session, [parts[index].ids for index in batch], pad=self.tokenizer.pad)
            for index, each in zip(batch, states, strict=True):
                places = zip(parts[index].starts, parts[index].ends, strict=True)
                means = [each[start:end].mean(0) for start, end in places]
                found[index] = np.array(means, np.float32).reshape(-1, self.dimension)
        stops = np.cumsum([0, *map(len, whole)]).tolist()
        return [np.concatenate(found[first:last]) for first, last in pairwise(stops)]


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


def open_session(graph: Path | Graph, threads: int) -> onnxruntime.InferenceSession:
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
    name = "the graph" if isinstance(graph, Graph) else str(graph)
    if isinstance(graph, Graph) and graph.external:
        files = graph.external
        options.add_external_initializers_from_files_in_memory(list(files), list(files.values()), list(map(len, files.values())))
    try:
        source = graph.model if isinstance(graph, Graph) else str(graph)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise ModelError(f"{name}: not a graph that ONNX Runtime loads ({_first_line(error)})") from error
    inputs, outputs = [node.name for node in session.get_inputs()], [node.shape for node in session.get_outputs()]
    if sorted(inputs) != ["attention_mask", "input_ids"] or len(outputs) != 1 or not isinstance(outputs[0][-1], int):
        raise ModelError(f"{name}: inputs {inputs}, outputs {outputs}", expected="input_ids and attention_mask to one embedding")
    return session


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300]
