"""Opens each kind of tier from the files of a bundle, with numpy, `tokenizers` and ONNX Runtime, without torch.

Trusts no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from refsynth.bundle.manifest import TierEntry
from refsynth.bundle.spec import FEATURES, TOKENIZER, VOCABULARY, WEIGHTS
from refsynth.core.errors import BundleError
from refsynth.core.types import FloatArray
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import Analyzer, TfidfVectors, Vocabulary
from refsynth.models.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Opening:
    """What a tier is opened from.

    Attributes:
        folder: the bundle's folder, for messages.
        entry: the tier's part of the manifest.
        labels: the K labels of the bundle.
        width: the number of columns of the logits: K, or the number of tags of words.
        tensors: the tensors of the head, all finite.
        read: returns the verified bytes of one of the tier's files.
        threads: threads for one batch of texts; 0 for one per core.
    """

    folder: Path
    entry: TierEntry
    labels: tuple[str, ...]
    width: int
    tensors: Mapping[str, FloatArray]
    read: Callable[[str], bytes]
    threads: int

    @property
    def head(self) -> LinearHead:
        """The tier's head."""
        return LinearHead(self.tensors["weights"], self.tensors["bias"])

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are read; every entry of a kind that reads tokens has it."""
        assert self.entry.max_tokens is not None
        return self.entry.max_tokens


def fits(folder: Path, head: LinearHead, dimension: int, k: int) -> LinearHead:
    """Return the head after checking its shape.

    Raises:
        BundleError: the shape is not [dimension, k].
    """
    if head.weights.shape != (dimension, k):
        raise BundleError(f"{folder}: a head of shape {head.weights.shape}", expected=f"{dimension} features and {k} labels")
    return head


def tfidf(opening: Opening, variant: str) -> TfidfPredictor:
    """Open TF-IDF."""
    del variant
    vectors = TfidfVectors(_vocabularies(opening))
    return TfidfPredictor(opening.labels, vectors, fits(opening.folder, opening.head, vectors.dimension, opening.width))


def crf(opening: Opening, variant: str) -> CrfPredictor:
    """Open a CRF."""
    del variant
    try:
        terms = FeaturesFile.model_validate_json(opening.read(FEATURES)).terms
    except ValidationError as error:
        raise BundleError(f"{opening.folder}: {opening.entry.named(FEATURES)}: {error.errors()[0]['msg']}") from error
    return CrfPredictor(opening.labels, terms, opening.head, opening.tensors.get("transitions", np.empty((0, 0))))


def static(opening: Opening, variant: str) -> StaticPredictor:
    """Open a static model, the votes of tokens."""
    del variant
    reader = TextTokenizer(
        opening.read(TOKENIZER),
        max_tokens=opening.max_tokens,
        parallel=opening.threads != 1,
        special=False,
        windows=opening.entry.windows,
    )
    wide = LinearHead(opening.head.weights.astype(np.float32), opening.head.bias.astype(np.float32))
    return StaticPredictor(opening.labels, reader, wide)


def encoder(opening: Opening, variant: str) -> EncoderPredictor:
    """Open a graph that gives embeddings of texts."""
    from refsynth.models.onnx import Graph, OnnxEncoder  # only tiers with a graph load the runtime

    opened = OnnxEncoder(
        Graph(_checked_graph(opening, f"{variant}.onnx"), {WEIGHTS: opening.read(WEIGHTS)}),
        opening.read(TOKENIZER),
        max_tokens=opening.max_tokens,
        prefix=opening.entry.prefix,
        threads=opening.threads,
        windows=opening.entry.windows,
    )
    return EncoderPredictor(opening.labels, opened, fits(opening.folder, opening.head, opened.dimension, opening.width))


def tagger(opening: Opening, variant: str) -> TagPredictor:
    """Open a graph that gives the states of words."""
    from refsynth.models.onnx import Graph, OnnxWords

    opened = OnnxWords(
        Graph(_checked_graph(opening, f"{variant}.onnx"), {WEIGHTS: opening.read(WEIGHTS)}),
        opening.read(TOKENIZER),
        max_tokens=opening.max_tokens,
        threads=opening.threads,
        windows=opening.entry.windows,
    )
    return TagPredictor(opening.labels, opened, fits(opening.folder, opening.head, opened.dimension, opening.width))


class FeaturesFile(BaseModel):
    """The contents of `features.json`: the features of a CRF, in the order of the rows of its weights."""

    model_config = ConfigDict(strict=True, extra="forbid")
    terms: tuple[str, ...]


_LOCATION = re.compile(rb"(?:\x6a\x17\x0a\x08)?location(?:\x12\x0bweights\.bin)?")
_EXPECTED = b"\x6a\x17\x0a\x08location\x12\x0bweights.bin"


def _checked_graph(opening: Opening, name: str) -> bytes:
    """Return the bytes of a graph after checking that it reads no file except `weights.bin`.

    ONNX names the file of a tensor in an entry with the key `location`; each such key must have exactly the bytes that our
    writer gives it. Only newer versions of ONNX Runtime refuse paths outside the folder themselves.
    """
    graph = opening.read(name)
    for match in _LOCATION.finditer(graph):
        if match[0] != _EXPECTED:
            raise BundleError(f"{opening.folder / opening.entry.named(name)}: refers to a file other than {WEIGHTS}")
    return graph


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
    """The contents of `vocabulary.json`; the tensor `idf` has the idf of all parts, concatenated."""

    model_config = ConfigDict(strict=True, extra="forbid")
    parts: tuple[_Part, ...]


def _vocabularies(opening: Opening) -> list[Vocabulary]:
    path, idf = opening.folder / opening.entry.named(VOCABULARY), opening.tensors.get("idf", np.empty(0))
    try:
        content = VocabularyFile.model_validate_json(opening.read(VOCABULARY))
    except ValidationError as error:
        raise BundleError(f"{path}: {error.errors()[0]['msg']}") from error
    if idf.shape != (sum(len(part.terms) for part in content.parts),):
        raise BundleError(f"{path}: its terms and the tensor 'idf' of shape {idf.shape} do not fit")
    parts, start = [], 0
    for part in content.parts:
        parts.append(Vocabulary(**dict(part), idf=idf[start : start + len(part.terms)]))
        start += len(part.terms)
    return parts
