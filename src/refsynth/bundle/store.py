"""Writing a bundle: all that is in it is a part of `Contents`; the folder appears whole and tested, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from refsynth.bundle.card import render_card
from refsynth.bundle.certificate import Calibration, FirstTier
from refsynth.bundle.golden import GOLDEN_LIMIT, GOLDEN_TEXTS, flat
from refsynth.bundle.manifest import MANIFEST, NEWEST, Figure, FileEntry, Kind, Label, Manifest
from refsynth.bundle.model import load
from refsynth.bundle.none import NEAR, NEAR_BIAS
from refsynth.bundle.tensors import tensors_of, votes_of
from refsynth.core.errors import InputError
from refsynth.core.intervals import INTERVALS
from refsynth.core.kinds import KindName
from refsynth.core.protocols import Predictor
from refsynth.core.run import file_digest, write_json
from refsynth.core.types import FloatArray, Metric
from refsynth.core.windows import Windows
from refsynth.kinds import KINDS, as_floats
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead
from refsynth.models.static import StaticPredictor
from refsynth.models.tfidf import Vocabulary

ENCODER_FILES = ("int8.onnx", "safe.onnx", "tokenizer.json", "weights.bin")


@dataclass(frozen=True)
class EncoderFiles:
    """A folder that `compress.export.export_encoder` wrote, and how its texts are prepared."""

    folder: Path
    max_tokens: int
    prefix: str = ""
    windows: Windows = "cut"


@dataclass(frozen=True)
class StaticFiles:
    """The tokenizer.json whose tokens a static head [V, K] has votes for, and how many of a text are read."""

    tokenizer: Path
    max_tokens: int
    windows: Windows = "cut"


@dataclass(frozen=True)
class CrfFiles:
    """The features of a CRF, in the order of the rows of its head's weights, and its transitions [C, C]."""

    terms: Sequence[str]
    transitions: FloatArray


@dataclass(frozen=True)
class StaticTier:
    """The first tier of a cascade as it was certified: the votes of the encoder's own tokens, or a CRF before a tagger."""

    predictor: StaticPredictor | CrfPredictor
    facts: FirstTier


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that goes into a bundle.

    `labels` maps each of K labels, in their order, to its description. `features` is the exported encoder, the vocabularies of
    TF-IDF, the features of a CRF, or the tokenizer of a static model. With `first`, which needs an encoder, the bundle is a
    cascade.
    `reference` is the same model in fp32, as it was evaluated: the golden outputs are its answers.
    `near` tells which texts are like no label's rows: see `models.nearness.below`.
    """

    labels: Mapping[str, str]
    language: str
    task: KindName = "classify"
    features: EncoderFiles | StaticFiles | CrfFiles | Sequence[Vocabulary]
    head: LinearHead
    reference: Predictor
    calibration: Calibration
    metrics: Sequence[Metric] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    first: StaticTier | None = None
    near: LinearHead | None = None

    @property
    def kind(self) -> Kind:
        """The kind of bundle that this makes."""
        if isinstance(self.features, CrfFiles):
            return "crf"
        if isinstance(self.features, EncoderFiles) and KINDS[self.task].spans:
            return "tagger_cascade" if self.first else "tagger"
        if isinstance(self.features, EncoderFiles):
            return "cascade" if self.first else "encoder"
        return "static" if isinstance(self.features, StaticFiles) else "tfidf"


def save(folder: Path, contents: Contents) -> None:
    """Write a bundle, replacing one that is there, and open it once to see that it gives its golden outputs.

    Raises:
        InputError: the folder holds something that is not a bundle, or the labels are not those of the reference.
        BundleError: the exported model does not agree with the reference; nothing was written.
    """
    if tuple(contents.labels) != contents.reference.labels:
        raise InputError(f"labels {', '.join(contents.labels)}", expected=f"those of the reference: {contents.reference.labels}")
    check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        _write(partial, contents)
        load(partial).check()
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_place(folder: Path) -> None:
    """See that a bundle may be written there.

    Raises:
        InputError: the folder holds something that is not a bundle.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty and not a bundle", remedy="name a new folder")


def _write(folder: Path, contents: Contents) -> None:
    tensors = tensors_of(contents.head)
    match contents.features:
        case EncoderFiles(folder=source):
            for name in ENCODER_FILES:
                shutil.copyfile(source / name, folder / name)
        case StaticFiles(tokenizer=source):
            shutil.copyfile(source, folder / "tokenizer.json")
            tensors = votes_of(contents.head)
        case CrfFiles(terms=terms, transitions=transitions):
            tensors = tensors_of(contents.head, transitions=transitions)
            write_json(folder / "features.json", {"terms": list(terms)})
        case vocabularies:
            tensors["idf"] = np.concatenate([part.idf for part in vocabularies]).astype(np.float64)
            names = [part.name for part in fields(Vocabulary) if part.name != "idf"]
            parts = [{name: getattr(part, name) for name in names} for part in vocabularies]
            write_json(folder / "vocabulary.json", {"parts": parts})
    if contents.near is not None:
        likeness = tensors_of(contents.near)
        tensors |= {NEAR: likeness["weights"], NEAR_BIAS: likeness["bias"]}
    (folder / "head.safetensors").write_bytes(save_tensors(tensors))
    _write_golden(folder / "golden.json", contents.reference, contents.calibration, contents.task)
    if contents.first is not None:
        _write_first(folder, contents.first.predictor)
        _write_golden(folder / "golden-static.json", contents.first.predictor, contents.first.facts.calibration, contents.task)
    _describe(folder, _manifest(contents), limits=())


def restate(folder: Path, manifest: Manifest, *, limits: Sequence[str] = ()) -> None:
    """Say something else of a bundle: its card and its manifest are written again, the files of the model stay as they are.

    A process that dies in between leaves a bundle that does not open: for folders that nobody reads yet.

    Raises:
        BundleError: it does not open with this manifest.
    """
    _describe(folder, manifest, limits=limits)
    load(folder).check()


def _describe(folder: Path, manifest: Manifest, *, limits: Sequence[str]) -> None:
    (folder / "README.md").write_text(render_card(manifest, limits=limits), encoding="utf-8")
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    files = {path.name: FileEntry(sha256=file_digest(path), size=path.stat().st_size) for path in paths}
    write_json(folder / MANIFEST, _plain(manifest.model_copy(update={"files": files})))


def _plain(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest without the fields that only some bundles have: older versions know no such fields."""
    tree = manifest.model_dump(mode="json", exclude=None if manifest.first else {"first"})
    for calibration in (tree["calibration"], tree.get("first", {}).get("calibration", {})):
        if not calibration.get("thresholds"):
            calibration.pop("thresholds", None)
    return tree


def _write_first(folder: Path, predictor: StaticPredictor | CrfPredictor) -> None:
    if isinstance(predictor, CrfPredictor):
        tensors = tensors_of(predictor.head, transitions=predictor.transitions)
        write_json(folder / "features.json", {"terms": list(predictor.terms)})
    else:
        tensors = votes_of(predictor.head)
    (folder / "static.safetensors").write_bytes(save_tensors(tensors))


def _write_golden(path: Path, reference: Predictor, calibration: Calibration, task: KindName) -> None:
    probabilities = flat(KINDS[task].probabilities(as_floats(reference.logits(GOLDEN_TEXTS)) / calibration.temperature))
    write_json(path, {"texts": GOLDEN_TEXTS, "probabilities": probabilities.round(6).tolist()})


def _manifest(contents: Contents) -> Manifest:
    read = contents.features if isinstance(contents.features, (EncoderFiles, StaticFiles)) else None
    return Manifest(
        schema_version=NEWEST[contents.kind],
        kind=contents.kind,
        task=contents.task,
        refsynth=version("refsynth"),
        labels=tuple(Label(name=name, description=description) for name, description in contents.labels.items()),
        language=contents.language,
        max_tokens=read.max_tokens if read else None,
        windows=read.windows if read else "cut",
        prefix=read.prefix if isinstance(read, EncoderFiles) else "",
        calibration=contents.calibration,
        golden_limit=GOLDEN_LIMIT,
        metrics=figures_of(contents.metrics),
        intervals=INTERVALS,
        lineage=dict(contents.lineage),
        files={},
        first=contents.first.facts if contents.first else None,
    )


def figures_of(metrics: Sequence[Metric]) -> dict[str, Figure]:
    """Return figures as a manifest has them."""
    return {each.name: Figure(**{name: value for name, value in asdict(each).items() if name != "name"}) for each in metrics}


def _replace(partial: Path, folder: Path) -> None:
    """Rename the new folder into place. An old bundle is moved aside first: two folders cannot change places at once."""
    for path in (*partial.iterdir(), partial):
        _flush(path)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
