"""An int8 bundle with ONNX Runtime, tokenizers, safetensors and numpy alone: what the handlers here share.

Each handler runs by itself, where refsynth need not be installed: `python FILE BUNDLE PORT`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors.numpy import load_file
from tokenizers import Tokenizer


class Bare:
    """The classifier. `label` takes texts and gives their labels with probabilities."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        self._labels = [label["name"] for label in manifest["labels"]]
        tier = manifest["tiers"][-1]
        self._temperature = tier["calibration"]["temperature"]
        self._prefix = tier["prefix"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(tier["max_tokens"])
        self._tokenizer.enable_padding()
        head = load_file(folder / "head.safetensors")
        self._weights, self._bias = head["weights"], head["bias"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(folder / "int8.onnx"), options, providers=["CPUExecutionProvider"])

    def label(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the label and the probabilities of each text."""
        rows = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        ids = np.array([row.ids for row in rows], np.int64)
        mask = np.array([row.attention_mask for row in rows], np.int64)
        features = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        logits = (features @ self._weights + self._bias) / self._temperature
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return [
            {"label": self._labels[int(row.argmax())], "probabilities": dict(zip(self._labels, row.tolist(), strict=True))}
            for row in shares
        ]
