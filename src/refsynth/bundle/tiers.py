"""The tiers of a bundle: each a predictor that is opened from the bundle's files and tests itself on the golden texts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.golden import TOLERATED, Golden, flat, read_golden
from refsynth.bundle.manifest import Manifest
from refsynth.core.errors import BundleError, ModelError
from refsynth.core.protocols import Predictor
from refsynth.core.types import Array, FloatArray
from refsynth.kinds import Kind, as_floats
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import Analyzer, TfidfVectors, Vocabulary
from refsynth.models.tokenise import TextTokenizer

Variant = Literal["int8", "safe", "exact", "static"]


@dataclass(frozen=True)
class Tier:
    """A predictor that gave its golden outputs here, with its calibration. `variant` says which arithmetic runs."""

    variant: Variant
    predictor: Predictor
    calibration: Calibration
    golden: Golden
    kind: Kind

    def probabilities(self, texts: Sequence[str]) -> Array:
        """Return calibrated probabilities [N, K] of clean texts; of spans, of the words of each [N]."""
        return self.kind.probabilities(as_floats(self.predictor.logits(texts)) / self.calibration.temperature)

    def cuts(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it; what counts words and terms reads all."""
        reader = self.predictor.encoder if isinstance(self.predictor, (EncoderPredictor, TagPredictor)) else self.predictor
        tokenizer: TextTokenizer | None = getattr(reader, "tokenizer", None)
        return tokenizer is not None and tokenizer.cuts(text, words=isinstance(self.predictor, TagPredictor))


def open_first(folder: Path, manifest: Manifest, threads: int) -> Tier:
    """Open the tier that sees every text: the static one of a cascade, or all there is.

    Raises:
        BundleError: it is damaged, or does not give its golden outputs here.
    """
    if manifest.first is None:
        return open_main(folder, manifest, threads)
    return _tested(folder, manifest, ("static",), manifest.first.calibration, "golden-static.json", threads)


def open_main(folder: Path, manifest: Manifest, threads: int) -> Tier:
    """Open the tier that the bundle's figures are of: the second of a cascade, or all there is.

    Raises:
        BundleError: it is damaged, or does not give its golden outputs here.
    """
    variants: dict[str, tuple[Variant, ...]] = {"tfidf": ("exact",), "crf": ("exact",), "static": ("static",)}
    return _tested(folder, manifest, variants.get(manifest.kind, ("int8", "safe")), manifest.calibration, "golden.json", threads)


def _tested(
    folder: Path, manifest: Manifest, variants: Sequence[Variant], calibration: Calibration, golden_file: str, threads: int
) -> Tier:
    try:
        golden = read_golden(folder / golden_file, manifest.width, words=manifest.answers.spans)
        return _first_good(folder, manifest, variants, calibration, golden, threads)
    except (ModelError, OSError) as error:
        raise BundleError(f"{folder}: {error}", remedy="export the bundle again") from error


def _first_good(
    folder: Path, manifest: Manifest, variants: Sequence[Variant], calibration: Calibration, golden: Golden, threads: int
) -> Tier:
    failed = 0.0
    for variant in variants:
        kind = manifest.answers
        tier = Tier(variant, _open(folder, manifest, variant, threads), calibration, golden, kind)
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


def _open(folder: Path, manifest: Manifest, variant: Variant, threads: int) -> Predictor:
    first = variant == "static" and manifest.first is not None
    tensors = _tensors(folder / ("static.safetensors" if first else "head.safetensors"))
    labels = tuple(label.name for label in manifest.labels)
    head = LinearHead(tensors["weights"], tensors["bias"])
    if manifest.answers.spans and variant in ("exact", "static"):
        return CrfPredictor(labels, _terms(folder / "features.json"), head, tensors.get("transitions", np.empty((0, 0))))
    if variant == "exact":
        vectors = TfidfVectors(_vocabularies(folder / "vocabulary.json", tensors.get("idf", np.empty(0))))
        _fits(folder, head, vectors.dimension, len(labels))
        return TfidfPredictor(labels, vectors, head)
    if manifest.max_tokens is None:
        raise BundleError(f"{folder}: max_tokens is missing in the manifest")
    if variant == "static":
        tokenizer = TextTokenizer(
            folder / "tokenizer.json",
            max_tokens=manifest.max_tokens,
            parallel=threads != 1,
            special=False,
            windows=manifest.windows,
        )
        wide = LinearHead(head.weights.astype(np.float32), head.bias.astype(np.float32))
        return StaticPredictor(labels, tokenizer, wide)
    from refsynth.models.onnx import OnnxEncoder, OnnxWords  # only what has a graph loads the runtime

    graph, tokens = folder / f"{variant}.onnx", folder / "tokenizer.json"
    _check_external(graph)
    if manifest.answers.spans:
        tagger = OnnxWords(graph, tokens, max_tokens=manifest.max_tokens, threads=threads, windows=manifest.windows)
        _fits(folder, head, tagger.dimension, manifest.width)
        return TagPredictor(labels, tagger, head)
    longest, windows = manifest.max_tokens, manifest.windows
    encoder = OnnxEncoder(graph, tokens, max_tokens=longest, prefix=manifest.prefix, threads=threads, windows=windows)
    _fits(folder, head, encoder.dimension, len(labels))
    return EncoderPredictor(labels, encoder, head)


class FeaturesFile(BaseModel):
    """What `features.json` holds: the features of a CRF, in the order of the rows of its weights."""

    model_config = ConfigDict(strict=True, extra="forbid")
    terms: tuple[str, ...]


def _terms(path: Path) -> tuple[str, ...]:
    try:
        return FeaturesFile.model_validate_json(path.read_bytes()).terms
    except ValidationError as error:
        raise BundleError(f"{path}: {error.errors()[0]['msg']}") from error


def _tensors(path: Path) -> dict[str, Any]:
    try:
        tensors = load_tensors(path.read_bytes())
    except SafetensorError as error:
        raise BundleError(f"{path}: not a safetensors file ({error})") from error
    for name in ("weights", "bias"):
        if name not in tensors:
            raise BundleError(f"{path}: the tensor {name!r} is missing")
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise BundleError(f"{path}: the tensor {name!r} is not all finite numbers")
    return tensors


def _fits(folder: Path, head: LinearHead, dimension: int, k: int) -> None:
    if head.weights.shape != (dimension, k):
        raise BundleError(f"{folder}: a head of shape {head.weights.shape}", expected=f"{dimension} features and {k} labels")


_LOCATION = re.compile(rb"(?:\x6a\x17\x0a\x08)?location(?:\x12\x0bweights\.bin)?")
_EXPECTED = b"\x6a\x17\x0a\x08location\x12\x0bweights.bin"


def _check_external(graph: Path) -> None:
    """Refuse a graph that reads any file but `weights.bin`.

    ONNX names the file of a tensor in an entry with the key `location`; each such key must stand in exactly the bytes that our
    writer gives it. ONNX Runtime refuses paths out of the folder too, but only its newer versions do.
    """
    for found in _LOCATION.finditer(graph.read_bytes()):
        if found[0] != _EXPECTED:
            raise BundleError(f"{graph}: refers to a file other than weights.bin")


class _Part(BaseModel):
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
    parts: tuple[_Part, ...]


def _vocabularies(path: Path, idf: FloatArray) -> list[Vocabulary]:
    try:
        content = VocabularyFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{path}: {error.errors()[0]['msg']}") from error
    if idf.shape != (sum(len(part.terms) for part in content.parts),):
        raise BundleError(f"{path}: its terms and the tensor 'idf' of shape {idf.shape} do not fit")
    parts, start = [], 0
    for part in content.parts:
        parts.append(Vocabulary(**dict(part), idf=idf[start : start + len(part.terms)]))
        start += len(part.terms)
    return parts
