"""The tiers of a bundle: each a predictor that is opened from the bundle's files and tests itself on the golden texts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.files import Files
from refsynth.bundle.golden import TOLERATED, Golden, flat, parse_golden
from refsynth.bundle.none import NEAR, NEAR_BIAS
from refsynth.core.errors import BundleError, ModelError
from refsynth.core.protocols import Predictor
from refsynth.core.types import Array, BoolArray, FloatArray
from refsynth.kinds import Kind, as_floats
from refsynth.models.crf import CrfPredictor
from refsynth.models.nearness import joined, strange
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import Analyzer, TfidfVectors, Vocabulary
from refsynth.models.tokenise import TextTokenizer

WEIGHTS = "weights.bin"
"""Where the graphs of a bundle have their large tensors."""

Variant = Literal["int8", "safe", "exact", "static"]


@dataclass(frozen=True)
class Tier:
    """A predictor that gave its golden outputs here, with its calibration. `variant` says which arithmetic runs.

    `near` reads the same features, and tells which texts are like no label's rows; None where the bundle cannot.
    """

    variant: Variant
    predictor: Predictor
    calibration: Calibration
    golden: Golden
    kind: Kind
    near: LinearHead | None = None

    def cuts(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it; what counts words and terms reads all."""
        reader = self.predictor.encoder if isinstance(self.predictor, (EncoderPredictor, TagPredictor)) else self.predictor
        tokenizer: TextTokenizer | None = getattr(reader, "tokenizer", None)
        return tokenizer is not None and tokenizer.cuts(text, words=isinstance(self.predictor, TagPredictor))

    def probabilities(self, texts: Sequence[str]) -> Array:
        """Return calibrated probabilities [N, K] of clean texts; of spans, of the words of each [N]."""
        return self.kind.probabilities(as_floats(self.predictor.logits(texts)) / self.calibration.temperature)

    def both(self, texts: Sequence[str]) -> tuple[Array, BoolArray]:
        """Return the same, and which texts are about none of the labels [N]."""
        if self._whole is None:
            return self.probabilities(texts), np.zeros(len(texts), bool)
        said, k = as_floats(self._whole.logits(texts)), len(self.predictor.labels)
        return self.kind.probabilities(said[:, :k] / self.calibration.temperature), strange(said[:, k:])

    @cached_property
    def _whole(self) -> Predictor | None:
        """What gives logits and likeness at once; None where there is no likeness."""
        if self.near is None or not isinstance(self.predictor, (EncoderPredictor, TfidfPredictor)):
            return None
        return replace(self.predictor, head=joined(self.predictor.head, self.near))


def open_first(files: Files, threads: int) -> Tier:
    """Open the tier that sees every text: the static one of a cascade, or all there is.

    Raises:
        BundleError: it is damaged, or does not give its golden outputs here.
    """
    first = files.manifest.first
    if first is None:
        return open_main(files, threads)
    return _tested(files, ("static",), first.calibration, "golden-static.json", threads)


def open_main(files: Files, threads: int) -> Tier:
    """Open the tier that the bundle's figures are of: the second of a cascade, or all there is.

    Raises:
        BundleError: it is damaged, or does not give its golden outputs here.
    """
    variants: dict[str, tuple[Variant, ...]] = {"tfidf": ("exact",), "crf": ("exact",), "static": ("static",)}
    manifest = files.manifest
    return _tested(files, variants.get(manifest.kind, ("int8", "safe")), manifest.calibration, "golden.json", threads)


def _tested(files: Files, variants: Sequence[Variant], calibration: Calibration, golden_file: str, threads: int) -> Tier:
    manifest = files.manifest
    try:
        golden = parse_golden(files.read(golden_file), manifest.width, words=manifest.answers.spans)
        return _first_good(files, variants, calibration, golden, threads)
    except ModelError as error:
        raise BundleError(f"{files.folder}: {error}", remedy="export the bundle again") from error


def _first_good(files: Files, variants: Sequence[Variant], calibration: Calibration, golden: Golden, threads: int) -> Tier:
    folder, manifest, failed = files.folder, files.manifest, 0.0
    for variant in variants:
        kind = manifest.answers
        predictor, near = _open(files, variant, threads)
        tier = Tier(variant, predictor, calibration, golden, kind, near)
        off = golden.share_off(flat(tier.probabilities(golden.texts)), limit=manifest.golden_limit, several=kind.several)
        if off <= TOLERATED:
            if variant == "safe":
                warnings.warn(
                    f"{folder}: int8 arithmetic goes wrong on this machine ({failed:.0%} of the golden texts), "
                    "using the safe variant: right, but slower (CPUs with VNNI run int8)",
                    RuntimeWarning,
                    stacklevel=5,
                )
            return tier
        failed = off
    raise BundleError(
        f"{folder}: the model does not give its golden outputs here: {failed:.0%} of them differ",
        expected=f"at most {TOLERATED:.0%} with a probability off by more than {manifest.golden_limit:.2f}",
        remedy="export the bundle again; if it fails there too, the exported model is not the one that was trained",
    )


def _open(files: Files, variant: Variant, threads: int) -> tuple[Predictor, LinearHead | None]:
    first = variant == "static" and files.manifest.first is not None
    tensors = _tensors(files.read("static.safetensors" if first else "head.safetensors"), files.folder)
    predictor = _predictor(files, variant, threads, tensors)
    if NEAR not in tensors or NEAR_BIAS not in tensors or not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        return predictor, None
    near, own = LinearHead(tensors[NEAR], tensors[NEAR_BIAS]), predictor.head
    _fits(files.folder, near, *own.weights.shape)
    return predictor, near


def _predictor(files: Files, variant: Variant, threads: int, tensors: Mapping[str, Any]) -> Predictor:
    manifest, folder = files.manifest, files.folder
    labels = tuple(label.name for label in manifest.labels)
    head = LinearHead(tensors["weights"], tensors["bias"])
    if manifest.answers.spans and variant in ("exact", "static"):
        return CrfPredictor(labels, _terms(files), head, tensors.get("transitions", np.empty((0, 0))))
    if variant == "exact":
        vectors = TfidfVectors(_vocabularies(files, tensors.get("idf", np.empty(0))))
        _fits(folder, head, vectors.dimension, len(labels))
        return TfidfPredictor(labels, vectors, head)
    if manifest.max_tokens is None:
        raise BundleError(f"{folder}: max_tokens is missing in the manifest")
    tokenizer = files.read("tokenizer.json")
    if variant == "static":
        reader = TextTokenizer(
            tokenizer, max_tokens=manifest.max_tokens, parallel=threads != 1, special=False, windows=manifest.windows
        )
        wide = LinearHead(head.weights.astype(np.float32), head.bias.astype(np.float32))
        return StaticPredictor(labels, reader, wide)
    from refsynth.models.onnx import Graph, OnnxEncoder, OnnxWords  # only what has a graph loads the runtime

    graph = Graph(_own_graph(files, f"{variant}.onnx"), {WEIGHTS: files.read(WEIGHTS)})
    longest, windows = manifest.max_tokens, manifest.windows
    if manifest.answers.spans:
        tagger = OnnxWords(graph, tokenizer, max_tokens=longest, threads=threads, windows=windows)
        _fits(folder, head, tagger.dimension, manifest.width)
        return TagPredictor(labels, tagger, head)
    encoder = OnnxEncoder(graph, tokenizer, max_tokens=longest, prefix=manifest.prefix, threads=threads, windows=windows)
    _fits(folder, head, encoder.dimension, len(labels))
    return EncoderPredictor(labels, encoder, head)


class FeaturesFile(BaseModel):
    """What `features.json` holds: the features of a CRF, in the order of the rows of its weights."""

    model_config = ConfigDict(strict=True, extra="forbid")
    terms: tuple[str, ...]


def _terms(files: Files) -> tuple[str, ...]:
    try:
        return FeaturesFile.model_validate_json(files.read("features.json")).terms
    except ValidationError as error:
        raise BundleError(f"{files.folder}: features.json: {error.errors()[0]['msg']}") from error


def _tensors(data: bytes, folder: Path) -> dict[str, Any]:
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise BundleError(f"{folder}: its head is not a safetensors file ({error})") from error
    for name in ("weights", "bias"):
        if name not in tensors:
            raise BundleError(f"{folder}: the tensor {name!r} is missing in its head")
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise BundleError(f"{folder}: the tensor {name!r} of its head is not all finite numbers")
    return tensors


def _fits(folder: Path, head: LinearHead, dimension: int, k: int) -> None:
    if head.weights.shape != (dimension, k):
        raise BundleError(f"{folder}: a head of shape {head.weights.shape}", expected=f"{dimension} features and {k} labels")


_LOCATION = re.compile(rb"(?:\x6a\x17\x0a\x08)?location(?:\x12\x0bweights\.bin)?")
_EXPECTED = b"\x6a\x17\x0a\x08location\x12\x0bweights.bin"


def _own_graph(files: Files, name: str) -> bytes:
    """Return the bytes of a graph that reads no file but `weights.bin`.

    ONNX names the file of a tensor in an entry with the key `location`; each such key must stand in exactly the bytes that our
    writer gives it. ONNX Runtime refuses paths out of the folder too, but only its newer versions do.
    """
    graph = files.read(name)
    for found in _LOCATION.finditer(graph):
        if found[0] != _EXPECTED:
            raise BundleError(f"{files.folder / name}: refers to a file other than {WEIGHTS}")
    return graph


class _TierPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    analyzer: Analyzer
    low: int
    high: int
    lowercase: bool
    sublinear: bool
    pattern: str
    terms: tuple[str, ...]


class VocabularyFile(BaseModel):
    """What `vocabulary.json` holds; the idf of all parts, one after the other, is the tensor `idf`."""

    model_config = ConfigDict(strict=True, extra="forbid")
    parts: tuple[_TierPart, ...]


def _vocabularies(files: Files, idf: FloatArray) -> list[Vocabulary]:
    path = files.folder / "vocabulary.json"
    try:
        content = VocabularyFile.model_validate_json(files.read(path.name))
    except ValidationError as error:
        raise BundleError(f"{path}: {error.errors()[0]['msg']}") from error
    if idf.shape != (sum(len(part.terms) for part in content.parts),):
        raise BundleError(f"{path}: its terms and the tensor 'idf' of shape {idf.shape} do not fit")
    parts, start = [], 0
    for part in content.parts:
        parts.append(Vocabulary(**dict(part), idf=idf[start : start + len(part.terms)]))
        start += len(part.terms)
    return parts
