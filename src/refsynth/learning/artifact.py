"""Fitted predictors on disk: Hugging Face folders, safetensors and JSON files, so that a step can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.core.protocols import Predictor
from refsynth.core.run import Json, read_json, write_json
from refsynth.learning.ensemble import EnsemblePredictor
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary

INDEX = "predictors.json"


def can_save(predictor: Predictor) -> bool:
    """Return whether `save_predictors` can write a predictor."""
    return isinstance(predictor, EncoderPredictor | TagPredictor | TfidfPredictor | EnsemblePredictor)


def save_predictors(predictors: Mapping[str, Predictor], folder: Path, *, base: TransformerEncoder) -> None:
    """Write predictors on an encoder, of texts or of words, on TF-IDF, and ensembles of such.

    Each encoder is written once, and `base`, left as it was, not.
    """
    encoders: list[object] = [base]
    index: dict[str, Json] = {}

    def write(name: str, predictor: Predictor) -> None:
        match predictor:
            case EncoderPredictor(encoder=encoder, head=head):
                index[name] = _number(encoder, encoders, folder)
                _write_head(head, folder / f"{name}.safetensors")
            case TagPredictor(encoder=encoder, head=head):
                index[name] = {"words": _number(encoder, encoders, folder)}
                _write_head(head, folder / f"{name}.safetensors")
            case TfidfPredictor(vectors=vectors, head=head):
                index[name] = {"tfidf": [asdict(part) | {"idf": part.idf.tolist()} for part in vectors.parts]}
                _write_head(head, folder / f"{name}.safetensors")
            case EnsemblePredictor(members=members, link=link, weights=weights):
                for member, each in members.items():
                    write(f"{name}.{member}", each)
                told = None if weights is None else weights.tolist()
                index[name] = {"members": list(members), "link": link, "weights": told}
            case _:
                raise TypeError(f"a {type(predictor).__name__} cannot be written")

    for name, predictor in predictors.items():
        write(name, predictor)
    write_json(folder / INDEX, index)


def _number(encoder: object, encoders: list[object], folder: Path) -> int:
    """Return the number of an encoder, written when it is first met."""
    number = next((i for i, each in enumerate(encoders) if each is encoder), len(encoders))
    if number == len(encoders):
        if not isinstance(encoder, TransformerEncoder):
            raise TypeError(f"a {type(encoder).__name__} cannot be written")
        encoders.append(encoder)
        encoder.save(folder / f"encoder-{number}")
    return number


def _numbered(entry: Json) -> int | None:
    """Return the number of the encoder of an entry; None for what has none of its own."""
    number = entry.get("words") if isinstance(entry, dict) else entry
    return number if isinstance(number, int) else None


def _write_head(head: LinearHead, path: Path) -> None:
    save_file({"weights": np.ascontiguousarray(head.weights), "bias": np.ascontiguousarray(head.bias)}, path)


def load_predictors(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> dict[str, Predictor]:
    """Read what `save_predictors` wrote."""
    index = read_json(folder / INDEX)
    ensembles = {name: entry["members"] for name, entry in index.items() if isinstance(entry, dict) and "members" in entry}
    encoders = {0: base} | {
        number: TransformerEncoder(
            folder / f"encoder-{number}",
            prefix=base.prefix,
            max_tokens=base.max_tokens,
            windows=base.windows,
            device=base.device,
        )
        for number in set(map(_numbered, index.values())) - {0, None}
    }

    def read(name: str) -> Predictor:
        entry = index[name]
        if name in ensembles:
            weights = None if entry["weights"] is None else np.array(entry["weights"])
            members = {member: read(f"{name}.{member}") for member in entry["members"]}
            return EnsemblePredictor(labels, members, entry["link"], weights)
        stored = load_file(folder / f"{name}.safetensors")
        head = LinearHead(stored["weights"], stored["bias"])
        if isinstance(entry, int):
            return EncoderPredictor(labels, encoders[entry], head)
        if "words" in entry:
            return TagPredictor(labels, encoders[entry["words"]], head)
        parts = [Vocabulary(**part | {"terms": tuple(part["terms"]), "idf": np.array(part["idf"])}) for part in entry["tfidf"]]
        return TfidfPredictor(labels, TfidfVectors(parts), head)

    owned = {f"{name}.{member}" for name, members in ensembles.items() for member in members}
    return {name: read(name) for name in index if name not in owned}
