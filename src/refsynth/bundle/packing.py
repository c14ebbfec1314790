"""Packs predictors as tiers of a bundle: the files that the tier's spec names, and tensors. Exports are in `compress`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from refsynth.bundle.spec import FEATURES, TIERS, TOKENIZER, VOCABULARY
from refsynth.core.files import indented
from refsynth.core.protocols import Predictor
from refsynth.core.registry import load
from refsynth.core.types import FloatArray
from refsynth.core.windows import Windows
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tfidf import Vocabulary


@dataclass(frozen=True)
class PackedTier:
    """A tier as a bundle stores it.

    Attributes:
        kind: the tier's name in `TIERS`.
        tensors: `weights` and `bias` of the head, and further tensors, as they are stored.
        files: the bytes of the other files, or their paths.
        max_tokens: the number of tokens of a text that are read; None for a tier that reads no tokens.
        windows: how a longer text is read.
        prefix: the prefix of each text.
    """

    kind: str
    tensors: Mapping[str, FloatArray]
    files: Mapping[str, bytes | Path]
    max_tokens: int | None = None
    windows: Windows = "cut"
    prefix: str = ""


def pack(predictor: Predictor, folder: Path) -> PackedTier:
    """Return a predictor as a tier.

    Args:
        predictor: its `kind` is a name in `TIERS`.
        folder: where an encoder is exported to, or where the `tokenizer.json` of a static student is.

    Raises:
        TypeError: there is no such tier.
    """
    kind = getattr(predictor, "kind", "")
    if kind not in TIERS:
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    packed: PackedTier = load(TIERS[kind].pack)(predictor, folder)
    return packed


def pack_graphs(
    folder: Path, head: LinearHead, max_tokens: int, *, prefix: str = "", windows: Windows = "cut", words: bool = False
) -> PackedTier:
    """Return the tier of an encoder of texts or `words` that `compress.export.export_encoder` wrote into a folder."""
    kind = "tagger" if words else "encoder"
    files = {name: folder / name for name in TIERS[kind].files}
    return PackedTier(kind, head.tensors(), files, max_tokens, windows, prefix)


def pack_static(predictor: StaticPredictor, folder: Path) -> PackedTier:
    """Return a static model, whose `tokenizer.json` is in a folder."""
    reader = predictor.tokenizer
    return PackedTier("static", predictor.tensors(), {TOKENIZER: folder / TOKENIZER}, reader.max_tokens, reader.windows)


def pack_crf(predictor: CrfPredictor, folder: Path) -> PackedTier:
    """Return a CRF: its features, in the order of the rows of its weights, and its tensors."""
    del folder
    return PackedTier("crf", predictor.tensors(), {FEATURES: indented({"terms": list(predictor.terms)})})


def pack_tfidf(predictor: TfidfPredictor, folder: Path) -> PackedTier:
    """Return TF-IDF: its settings and terms, and a tensor with the idf of all parts, concatenated."""
    del folder
    names = [part.name for part in fields(Vocabulary) if part.name != "idf"]
    parts: list[dict[str, Any]] = [{name: getattr(part, name) for name in names} for part in predictor.vectors.parts]
    return PackedTier("tfidf", predictor.tensors(), {VOCABULARY: indented({"parts": parts})})
