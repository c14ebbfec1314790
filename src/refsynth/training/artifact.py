"""A fitted encoder with its head on disk: a Hugging Face folder and a safetensors file, so that a step can be resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead


def save_predictor(predictor: EncoderPredictor, folder: Path, *, base: TransformerEncoder) -> None:
    """Write the head, and the encoder unless it is `base` itself, left as it was."""
    folder.mkdir(parents=True)
    head = {"weights": np.ascontiguousarray(predictor.head.weights), "bias": np.ascontiguousarray(predictor.head.bias)}
    save_file(head, folder / "head.safetensors")
    if isinstance(predictor.encoder, TransformerEncoder) and predictor.encoder is not base:
        predictor.encoder.save(folder / "encoder")


def load_predictor(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> EncoderPredictor:
    """Read what `save_predictor` wrote."""
    encoder = base
    if (folder / "encoder").is_dir():
        encoder = TransformerEncoder(folder / "encoder", prefix=base.prefix, max_tokens=base.max_tokens)
    head = load_file(folder / "head.safetensors")
    return EncoderPredictor(labels, encoder, LinearHead(head["weights"], head["bias"]))
