"""Fitted predictors on disk: Hugging Face folders, safetensors and JSON files, so that a step can be resumed.

The table `KEEPERS` has a writer and a reader for some kinds of predictors. A predictor of any other kind that ships is stored as
the tier of a bundle, by the functions of its `TierSpec`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.manifest import TierEntry
from refsynth.bundle.opening import Opening
from refsynth.bundle.packing import pack
from refsynth.bundle.spec import HEAD, TIERS
from refsynth.core.files import Json, read_json, write_json
from refsynth.core.protocols import Predictor
from refsynth.core.registry import load
from refsynth.core.spans import tag_names
from refsynth.learning.ensemble import EnsemblePredictor
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary

INDEX = "predictors.json"


@dataclass(frozen=True)
class PredictorWriter:
    """Writes predictors into a folder. Each encoder is written once; the first is the base encoder, which is not written."""

    folder: Path
    encoders: list[object]
    index: dict[str, Json] = field(default_factory=dict)

    def write(self, name: str, predictor: Predictor) -> None:
        """Write a predictor and its parts.

        Raises:
            TypeError: predictors of its kind cannot be written.
        """
        if not can_save(predictor):
            raise TypeError(f"a {type(predictor).__name__} cannot be written")
        kind = _kind(predictor)
        self.index[name] = {"kind": kind, **KEEPERS.get(kind, TIER).keep(self, name, predictor)}

    def number(self, encoder: object) -> int:
        """Return the number of an encoder, which is written the first time."""
        number = next((i for i, known in enumerate(self.encoders) if known is encoder), len(self.encoders))
        if number == len(self.encoders):
            if not isinstance(encoder, TransformerEncoder):
                raise TypeError(f"a {type(encoder).__name__} cannot be written")
            self.encoders.append(encoder)
            encoder.save(self.folder / f"encoder-{number}")
        return number

    def head(self, name: str, head: LinearHead) -> None:
        """Write a head in its own precision."""
        tensors = {"weights": np.ascontiguousarray(head.weights), "bias": np.ascontiguousarray(head.bias)}
        save_file(tensors, self.folder / f"{name}.safetensors")


@dataclass(frozen=True)
class PredictorReader:
    """Reads what a `PredictorWriter` wrote."""

    folder: Path
    labels: tuple[str, ...]
    encoders: dict[int, TransformerEncoder]
    index: Mapping[str, Json]

    def read(self, name: str) -> Predictor:
        """Return a predictor."""
        return KEEPERS.get(self.index[name]["kind"], TIER).recall(self, name, self.index[name])

    def encoder(self, number: int) -> TransformerEncoder:
        """Return an encoder by its number, with the prefix and limits of the base encoder."""
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
    """How predictors of a kind are stored: `keep` writes one and returns its entry in the index; `recall` reads it back."""

    keep: Callable[[PredictorWriter, str, Any], dict[str, Json]]
    recall: Callable[[PredictorReader, str, Json], Predictor]


def _keep_encoder(writer: PredictorWriter, name: str, predictor: EncoderPredictor | TagPredictor) -> dict[str, Json]:
    writer.head(name, predictor.head)
    return {"encoder": writer.number(predictor.encoder)}


def _keep_tfidf(writer: PredictorWriter, name: str, predictor: TfidfPredictor) -> dict[str, Json]:
    writer.head(name, predictor.head)
    return {"parts": [asdict(part) | {"idf": part.idf.tolist()} for part in predictor.vectors.parts]}


def _tfidf(reader: PredictorReader, name: str, entry: Json) -> TfidfPredictor:
    parts = [Vocabulary(**part | {"terms": tuple(part["terms"]), "idf": np.array(part["idf"])}) for part in entry["parts"]]
    return TfidfPredictor(reader.labels, TfidfVectors(parts), reader.head(name))


def _keep_ensemble(writer: PredictorWriter, name: str, ensemble: EnsemblePredictor) -> dict[str, Json]:
    for member, predictor in ensemble.members.items():
        writer.write(f"{name}.{member}", predictor)
    weights = None if ensemble.weights is None else ensemble.weights.tolist()
    return {"members": list(ensemble.members), "link": ensemble.link, "weights": weights}


def _ensemble(reader: PredictorReader, name: str, entry: Json) -> EnsemblePredictor:
    weights = None if entry["weights"] is None else np.array(entry["weights"])
    members = {member: reader.read(f"{name}.{member}") for member in entry["members"]}
    return EnsemblePredictor(reader.labels, members, entry["link"], weights)


def _encoder(reader: PredictorReader, name: str, entry: Json) -> EncoderPredictor:
    return EncoderPredictor(reader.labels, reader.encoder(entry["encoder"]), reader.head(name))


def _tagger(reader: PredictorReader, name: str, entry: Json) -> TagPredictor:
    return TagPredictor(reader.labels, reader.encoder(entry["encoder"]), reader.head(name))


def _keep_tier(writer: PredictorWriter, name: str, predictor: Predictor) -> dict[str, Json]:
    folder = writer.folder / name
    folder.mkdir()
    packed = pack(predictor, folder)
    for file, content in packed.files.items():
        if isinstance(content, bytes):
            (folder / file).write_bytes(content)
        elif content != folder / file:
            shutil.copyfile(content, folder / file)
    save_file(dict(packed.tensors), folder / HEAD)
    return {"max_tokens": packed.max_tokens, "windows": packed.windows, "prefix": packed.prefix}


def _tier(reader: PredictorReader, name: str, entry: Json) -> Predictor:
    spec, folder = TIERS[entry["kind"]], reader.folder / name
    opening = Opening(
        folder=folder,
        entry=TierEntry(**entry, files=tuple(sorted(spec.names)), calibration=Calibration()),
        labels=reader.labels,
        width=len(tag_names(reader.labels) if spec.words else reader.labels),
        tensors=load_file(folder / HEAD),
        read=lambda file: (folder / file).read_bytes(),
        threads=0,
    )
    predictor: Predictor = load(spec.open)(opening, spec.variants[0])
    return predictor


TIER = Keeper(_keep_tier, _tier)
"""The keeper of predictors that only a bundle can hold, such as a CRF or that of another package."""

KEEPERS: Mapping[str, Keeper] = {
    EncoderPredictor.kind: Keeper(_keep_encoder, _encoder),
    TagPredictor.kind: Keeper(_keep_encoder, _tagger),
    TfidfPredictor.kind: Keeper(_keep_tfidf, _tfidf),
    EnsemblePredictor.kind: Keeper(_keep_ensemble, _ensemble),
}
"""Keepers by the kind of predictor: those that keep more than a bundle does, such as an encoder that can be trained further."""


def can_save(predictor: Predictor) -> bool:
    """Return whether `save_predictors` can write a predictor, with all its members if it has any."""
    if isinstance(predictor, EnsemblePredictor):
        return all(map(can_save, predictor.members.values()))
    return _kind(predictor) in {*KEEPERS, *TIERS}


def save_predictors(predictors: Mapping[str, Predictor], folder: Path, *, base: TransformerEncoder) -> None:
    """Write predictors that `can_save` allows; `base` is the encoder that they started from."""
    writer = PredictorWriter(folder, [base])
    for name, predictor in predictors.items():
        writer.write(name, predictor)
    write_json(folder / INDEX, writer.index)


def load_predictors(folder: Path, labels: tuple[str, ...], *, base: TransformerEncoder) -> dict[str, Predictor]:
    """Read what `save_predictors` wrote."""
    reader = PredictorReader(folder, labels, {0: base}, read_json(folder / INDEX))
    members = {f"{name}.{member}" for name, entry in reader.index.items() for member in entry.get("members", ())}
    return {name: reader.read(name) for name in reader.index if name not in members}


def _kind(predictor: Predictor) -> str:
    return getattr(predictor, "kind", "")
