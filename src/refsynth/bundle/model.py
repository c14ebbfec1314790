"""A loaded bundle. `load` checks every file before it parses one, opens the model and lets it test itself.

A bundle may come from anywhere: whatever is in it, the worst outcome is a BundleError. Nothing in it is ever executed but the
operators of ONNX Runtime.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from refsynth.bundle.golden import TOLERATED, Golden, read_golden
from refsynth.bundle.manifest import Manifest, verify
from refsynth.core.errors import BundleError, ModelError
from refsynth.core.protocols import Predictor
from refsynth.core.types import FloatArray, Prediction
from refsynth.data.text import clean
from refsynth.metrics import softmax
from refsynth.models.predict import EncoderPredictor, LinearHead, OnnxEncoder, TfidfPredictor
from refsynth.models.tfidf import Analyzer, TfidfVectors, Vocabulary

Variant = Literal["int8", "safe", "exact"]


class Contributions(NamedTuple):
    """Why a label: `base` and the values of all terms sum to log p(label) less the mean of log p over the labels."""

    base: float
    terms: tuple[tuple[str, float], ...]


class Model:
    """A classifier that is ready to use. `variant` says which arithmetic runs: int8, its safe form, or exact (TF-IDF)."""

    def __init__(self, predictor: Predictor, manifest: Manifest, variant: Variant) -> None:
        self.manifest, self.variant = manifest, variant
        self._predictor = predictor

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of the columns of `logits`."""
        return tuple(label.name for label in self.manifest.labels)

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return unnormalised log-probabilities before calibration: [N, K]."""
        return self._predictor.logits([clean(text) for text in texts])  # as the training rows were

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return calibrated probabilities [N, K]."""
        return softmax(np.asarray(self.logits(texts), float) / self.manifest.calibration.temperature)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Return one prediction per text; it abstains where the top probability is below the calibrated threshold."""
        if isinstance(texts, str):
            raise TypeError("predict takes a sequence of texts: model.predict([text])")
        labels, threshold = self.labels, self.manifest.calibration.threshold
        return [
            Prediction(labels[row.argmax()], dict(zip(labels, row.tolist(), strict=True)), bool(row.max() < threshold))
            for row in self.probabilities(texts)
        ]

    def contributions(self, text: str, label: str) -> Contributions | None:
        """Return what each n-gram of a text says for a label, exactly, or None where the model is not additive (encoders)."""
        if not isinstance(self._predictor, TfidfPredictor):
            return None
        terms, parts = self._predictor.parts(clean(text))
        column, temperature = self.labels.index(label), self.manifest.calibration.temperature
        bias = self._predictor.head.bias
        values = (parts[:, column] - parts.mean(1)) / temperature
        return Contributions(float(bias[column] - bias.mean()) / temperature, tuple(zip(terms, values.tolist(), strict=True)))


def load(folder: str | Path, *, threads: int = 0) -> Model:
    """Open a bundle.

    Args:
        folder: the bundle.
        threads: for one batch of texts; 0 takes one per core.

    Raises:
        BundleError: it is damaged, altered, of a newer format or no bundle; or it does not give its golden outputs here.
    """
    folder = Path(folder)
    manifest = verify(folder)
    try:
        golden = read_golden(folder / "golden.json", len(manifest.labels))
        return _tested(folder, manifest, golden, threads)
    except (ModelError, OSError) as error:
        raise BundleError(f"{folder}: {error}", remedy="export the bundle again") from error


def _tested(folder: Path, manifest: Manifest, golden: Golden, threads: int) -> Model:
    variants: tuple[Variant, ...] = ("int8", "safe") if manifest.kind == "encoder" else ("exact",)
    failed = 0.0
    for variant in variants:
        model = Model(_open(folder, manifest, variant, threads), manifest, variant)
        probabilities = model.probabilities(golden.texts)
        off = golden.share_off(probabilities, limit=manifest.golden_limit)
        if off <= TOLERATED:
            if variant == "safe":
                warnings.warn(
                    f"{folder}: int8 arithmetic goes wrong on this machine ({failed:.0%} of the golden texts), "
                    "using the safe variant: right, but slower (CPUs with VNNI run int8)",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return model
        failed = off
    raise BundleError(
        f"{folder}: the model does not give its golden outputs here: {failed:.0%} of them differ",
        expected=f"at most {TOLERATED:.0%} with a probability off by more than {manifest.golden_limit:.2f}",
        remedy="export the bundle again; if it fails there too, the exported model is not the one that was trained",
    )


def _open(folder: Path, manifest: Manifest, variant: Variant, threads: int) -> Predictor:
    tensors = _tensors(folder / "head.safetensors")
    labels = tuple(label.name for label in manifest.labels)
    head = LinearHead(tensors["weights"], tensors["bias"])
    if variant == "exact":
        vectors = TfidfVectors(_vocabularies(folder / "vocabulary.json", tensors.get("idf", np.empty(0))))
        _fits(folder, head, vectors.dimension, len(labels))
        return TfidfPredictor(labels, vectors, head)
    if manifest.max_tokens is None:
        raise BundleError(f"{folder}: max_tokens is missing in the manifest")
    graph = folder / f"{variant}.onnx"
    _check_external(graph)
    encoder = OnnxEncoder(
        graph, folder / "tokenizer.json", max_tokens=manifest.max_tokens, prefix=manifest.prefix, threads=threads
    )
    _fits(folder, head, encoder.dimension, len(labels))
    return EncoderPredictor(labels, encoder, head)


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
