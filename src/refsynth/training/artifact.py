"""Fitted encoders with their heads on disk: Hugging Face folders and safetensors files, so that a step can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.core.run import read_json, write_json
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.tagger import TagPredictor

Fitted = EncoderPredictor | TagPredictor
INDEX = "predictors.json"


def save_predictors(predictors: Mapping[str, Fitted], folder: Path, *, base: TransformerEncoder) -> None:
    """Write the heads, and each encoder once; `base` itself, left as it was, is not written."""
    encoders: list[object] = [base]
    index: dict[str, int] = {}
    for name, predictor in predictors.items():
        number = next((i for i, encoder in enumerate(encoders) if encoder is predictor.encoder), len(encoders))
        if number == len(encoders):
            if not isinstance(predictor.encoder, TransformerEncoder):
                raise TypeError(f"a {type(predictor.encoder).__name__} cannot be written")
            encoders.append(predictor.encoder)
            predictor.encoder.save(folder / f"encoder-{number}")
        head = {"weights": np.ascontiguousarray(predictor.head.weights), "bias": np.ascontiguousarray(predictor.head.bias)}
        save_file(head, folder / f"{name}.safetensors")
        index[name] = number
    write_json(folder / INDEX, index)


def load_predictors(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> dict[str, EncoderPredictor]:
    """Read what `save_predictors` wrote of predictors of texts."""
    return {name: EncoderPredictor(labels, *parts) for name, parts in _parts(folder, base).items()}


def load_taggers(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> dict[str, TagPredictor]:
    """Read what `save_predictors` wrote of predictors of words."""
    return {name: TagPredictor(labels, *parts) for name, parts in _parts(folder, base).items()}


def _parts(folder: Path, base: TransformerEncoder) -> dict[str, tuple[TransformerEncoder, LinearHead]]:
    index = read_json(folder / INDEX)
    encoders = {0: base} | {
        number: TransformerEncoder(folder / f"encoder-{number}", prefix=base.prefix, max_tokens=base.max_tokens)
        for number in set(index.values()) - {0}
    }
    heads = {name: load_file(folder / f"{name}.safetensors") for name in index}
    return {name: (encoders[index[name]], LinearHead(head["weights"], head["bias"])) for name, head in heads.items()}
