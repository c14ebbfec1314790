"""Fitted predictors on disk: Hugging Face folders, safetensors and JSON files, so that a step can be resumed.

How a predictor is kept is in one table, by its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Writer:
    """Writes predictors into a folder. Each encoder is written once, and the first, left as it was, not."""

    folder: Path
    encoders: list[object]
    index: dict[str, Json] = field(default_factory=dict)

    def write(self, name: str, predictor: Predictor) -> None:
        """Write a predictor and what it is made of.

        Raises:
            TypeError: it is of a kind that cannot be written.
        """
        kind = _kind(predictor)
        if kind not in KEEPERS:
            raise TypeError(f"a {type(predictor).__name__} cannot be written")
        self.index[name] = {"kind": kind, **KEEPERS[kind].keep(self, name, predictor)}

    def number(self, encoder: object) -> int:
        """Return the number of an encoder, written when it is first met."""
        number = next((i for i, each in enumerate(self.encoders) if each is encoder), len(self.encoders))
        if number == len(self.encoders):
            if not isinstance(encoder, TransformerEncoder):
                raise TypeError(f"a {type(encoder).__name__} cannot be written")
            self.encoders.append(encoder)
            encoder.save(self.folder / f"encoder-{number}")
        return number

    def head(self, name: str, head: LinearHead) -> None:
        """Write a head as it is, in the precision that it has."""
        tensors = {"weights": np.ascontiguousarray(head.weights), "bias": np.ascontiguousarray(head.bias)}
        save_file(tensors, self.folder / f"{name}.safetensors")


@dataclass(frozen=True)
class Reader:
    """Reads what a `Writer` wrote."""

    folder: Path
    labels: tuple[str, ...]
    encoders: dict[int, TransformerEncoder]
    index: Mapping[str, Json]

    def read(self, name: str) -> Predictor:
        """Return a predictor."""
        return KEEPERS[self.index[name]["kind"]].recall(self, name, self.index[name])

    def encoder(self, number: int) -> TransformerEncoder:
        """Return an encoder by its number; those that were trained read texts as the first does."""
        if number not in self.encoders:
            base = self.encoders[0]
            self.encoders[number] = TransformerEncoder(
                self.folder / f"encoder-{number}",
                prefix=base.prefix,
                max_tokens=base.max_tokens,
                windows=base.windows,
                device=base.device,
            )
        return self.encoders[number]

    def head(self, name: str) -> LinearHead:
        """Return a head."""
        stored = load_file(self.folder / f"{name}.safetensors")
        return LinearHead(stored["weights"], stored["bias"])


@dataclass(frozen=True)
class Keeper:
    """How predictors of a kind are kept: `keep` writes one and returns its entry in the index, from which `recall` reads it."""

    keep: Callable[[Writer, str, Any], dict[str, Json]]
    recall: Callable[[Reader, str, Json], Predictor]


def _keep_encoder(out: Writer, name: str, predictor: EncoderPredictor | TagPredictor) -> dict[str, Json]:
    out.head(name, predictor.head)
    return {"encoder": out.number(predictor.encoder)}


def _keep_tfidf(out: Writer, name: str, predictor: TfidfPredictor) -> dict[str, Json]:
    out.head(name, predictor.head)
    return {"parts": [asdict(part) | {"idf": part.idf.tolist()} for part in predictor.vectors.parts]}


def _tfidf(given: Reader, name: str, entry: Json) -> TfidfPredictor:
    parts = [Vocabulary(**part | {"terms": tuple(part["terms"]), "idf": np.array(part["idf"])}) for part in entry["parts"]]
    return TfidfPredictor(given.labels, TfidfVectors(parts), given.head(name))


def _keep_ensemble(out: Writer, name: str, predictor: EnsemblePredictor) -> dict[str, Json]:
    for member, each in predictor.members.items():
        out.write(f"{name}.{member}", each)
    told = None if predictor.weights is None else predictor.weights.tolist()
    return {"members": list(predictor.members), "link": predictor.link, "weights": told}


def _ensemble(given: Reader, name: str, entry: Json) -> EnsemblePredictor:
    weights = None if entry["weights"] is None else np.array(entry["weights"])
    members = {member: given.read(f"{name}.{member}") for member in entry["members"]}
    return EnsemblePredictor(given.labels, members, entry["link"], weights)


def _encoder(given: Reader, name: str, entry: Json) -> EncoderPredictor:
    return EncoderPredictor(given.labels, given.encoder(entry["encoder"]), given.head(name))


def _tagger(given: Reader, name: str, entry: Json) -> TagPredictor:
    return TagPredictor(given.labels, given.encoder(entry["encoder"]), given.head(name))


KEEPERS: Mapping[str, Keeper] = {
    EncoderPredictor.kind: Keeper(_keep_encoder, _encoder),
    TagPredictor.kind: Keeper(_keep_encoder, _tagger),
    TfidfPredictor.kind: Keeper(_keep_tfidf, _tfidf),
    EnsemblePredictor.kind: Keeper(_keep_ensemble, _ensemble),
}
"""By the kind of a predictor; what is of another kind is fitted again."""


def can_save(predictor: Predictor) -> bool:
    """Return whether `save_predictors` can write a predictor."""
    return _kind(predictor) in KEEPERS


def save_predictors(predictors: Mapping[str, Predictor], folder: Path, *, base: TransformerEncoder) -> None:
    """Write predictors of the kinds in `KEEPERS`; `base` is the encoder that they began with."""
    out = Writer(folder, [base])
    for name, predictor in predictors.items():
        out.write(name, predictor)
    write_json(folder / INDEX, out.index)


def load_predictors(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> dict[str, Predictor]:
    """Read what `save_predictors` wrote."""
    given = Reader(folder, labels, {0: base}, read_json(folder / INDEX))
    owned = {f"{name}.{member}" for name, entry in given.index.items() for member in entry.get("members", ())}
    return {name: given.read(name) for name in given.index if name not in owned}


def _kind(predictor: Predictor) -> str:
    return getattr(predictor, "kind", "")
