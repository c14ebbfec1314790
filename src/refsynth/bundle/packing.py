"""What of a tier goes into a bundle: its files by the names that its spec has, and its tensors. Exports are in `compress`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from refsynth.bundle.spec import FEATURES, TIERS, TOKENIZER, VOCABULARY
from refsynth.core.protocols import Predictor
from refsynth.core.registry import load
from refsynth.core.run import indented
from refsynth.core.types import FloatArray
from refsynth.core.windows import Windows
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tfidf import Vocabulary

GRAPHS = ("int8.onnx", "safe.onnx", TOKENIZER, "weights.bin")


@dataclass(frozen=True)
class PackedTier:
    """A tier as a bundle holds it.

    Attributes:
        kind: in `TIERS`.
        tensors: `weights` and `bias` of its head, and what else it has of numbers, as they are stored.
        files: what is in its other files, or where they are.
        max_tokens: of a text that are read; None for what reads no tokens.
        windows: how a longer text is read.
        prefix: goes before each text.
    """

    kind: str
    tensors: Mapping[str, FloatArray]
    files: Mapping[str, bytes | Path]
    max_tokens: int | None = None
    windows: Windows = "cut"
    prefix: str = ""


def pack(predictor: Predictor, folder: Path) -> PackedTier:
    """Return what of a predictor goes into a bundle.

    Args:
        predictor: whose `kind` is one of `TIERS`.
        folder: an encoder is exported into it; of a student it has the `tokenizer.json`.

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
    """Return an encoder, of `words` or of texts, that `compress.export.export_encoder` wrote into a folder."""
    files = {name: folder / name for name in GRAPHS}
    return PackedTier("tagger" if words else "encoder", head.tensors(), files, max_tokens, windows, prefix)


def pack_static(predictor: StaticPredictor, folder: Path) -> PackedTier:
    """Return votes of the tokens of the `tokenizer.json` in a folder."""
    reader = predictor.tokenizer
    return PackedTier("static", predictor.tensors(), {TOKENIZER: folder / TOKENIZER}, reader.max_tokens, reader.windows)


def pack_crf(predictor: CrfPredictor, folder: Path) -> PackedTier:
    """Return a CRF: the features in the order of the rows of its weights."""
    del folder
    return PackedTier("crf", predictor.tensors(), {FEATURES: indented({"terms": list(predictor.terms)})})


def pack_tfidf(predictor: TfidfPredictor, folder: Path) -> PackedTier:
    """Return TF-IDF: its settings and terms; the idf of all parts, one after the other, is a tensor."""
    del folder
    names = [part.name for part in fields(Vocabulary) if part.name != "idf"]
    parts: list[dict[str, Any]] = [{name: getattr(part, name) for name in names} for part in predictor.vectors.parts]
    return PackedTier("tfidf", predictor.tensors(), {VOCABULARY: indented({"parts": parts})})
