"""Exported encoders on ONNX Runtime: texts in, embeddings or the states of words out.

A module of its own, so that a bundle without a graph does not load the runtime.
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

TOKENS_PER_BATCH = 256
"""Small batches stay in the CPU's cache: 1.6 times the texts/s of 2048 tokens for 15-token texts on 2 cores."""

# ONNX Runtime's errors have no common base class.
_ERRORS = "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NoModel NoSuchFile NotImplemented RuntimeException"
ORT_ERRORS: tuple[type[Exception], ...] = tuple(getattr(ort_errors, name) for name in _ERRORS.split())


class Graph(NamedTuple):
    """A graph and its external files by name, as bytes, so that the graph that runs is the one that was verified."""

    model: bytes
    external: Mapping[str, bytes]


class OnnxEncoder:
    """An exported encoder: token ids and mask in, embeddings out, pooled and scaled inside the graph.

    An embedding does not depend on the other texts of its batch, except for rounding.

    Args:
        graph: the ONNX file, with its external data beside it; or the bytes of both.
        tokenizer: the `tokenizer.json`, or its bytes.
        max_tokens: the most tokens of a text, including special tokens.
        prefix: the encoder's prefix for each text.
        threads: threads for one batch; 0 is one per core.
        windows: how longer texts are read.

    Raises:
        ModelError: a file is missing or invalid.
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
            ModelError: the graph does not run on the tokens.
        """
        split = split_rows(self.tokenizer.encode(texts), self.tokenizer.max_tokens, self.tokenizer.frame)
        out = np.zeros((len(split.rows), self.dimension), np.float32)
        for batch in length_batches(split.rows, tokens=TOKENS_PER_BATCH):
            out[batch] = self.embed([split.rows[index] for index in batch])
        return joined(out, split, len(texts))

    def embed(self, rows: Sequence[Sequence[int]], *, width: int | None = None) -> FloatArray:
        """Return embeddings [N, D] of one batch of token ids, padded to the longest row or to `width`.

        Raises:
            ModelError: the graph does not run on the tokens.
        """
        return run_session(self._session, rows, pad=self.tokenizer.pad, width=width)


class OnnxWords:
    """An exported encoder of words: token ids and mask in, states of tokens [N, T, D] out.

    The arguments are those of `OnnxEncoder`; all `windows` but `cut` read longer texts in overlapping windows.

    Raises:
        ModelError: a file is missing or invalid.
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
            ModelError: the graph does not run on the tokens.
        """
        longest, frame = self.tokenizer.max_tokens, self.tokenizer.frame
        windows = [word_parts(row.ids, row.starts, row.ends, longest, frame) for row in rows]
        parts = [part for of_row in windows for part in of_row]
        means: list[FloatArray] = [np.zeros((0, self.dimension), np.float32)] * len(parts)
        for batch in length_batches([part.ids for part in parts], tokens=TOKENS_PER_BATCH):
            states = run_session(self._session, [parts[index].ids for index in batch], pad=self.tokenizer.pad)
            for index, tokens in zip(batch, states, strict=True):
                words = [tokens[start:end].mean(0) for start, end in zip(parts[index].starts, parts[index].ends, strict=True)]
                means[index] = np.array(words, np.float32).reshape(-1, self.dimension)
        stops = np.cumsum([0, *map(len, windows)]).tolist()
        return [np.concatenate(means[first:last]) for first, last in pairwise(stops)]


def run_session(
    session: onnxruntime.InferenceSession, rows: Sequence[Sequence[int]], *, pad: int, width: int | None = None
) -> FloatArray:
    """Return the output of a graph for one batch of token ids, padded to the longest row or to `width`.

    Raises:
        ModelError: the graph does not run on the tokens.
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
    """Open a graph with the inputs token ids and mask, and one output with a fixed last dimension.

    Raises:
        ModelError: the file is missing, or is not such a graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it plans memory for one shape, but every batch has another
    # Weights that are int8 only on disk become fp32 when the graph is loaded, instead of turning on int8 arithmetic.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Threads that spin between batches take the cores of other processes.
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
