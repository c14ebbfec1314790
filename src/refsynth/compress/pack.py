"""Packs encoders as tiers of a bundle: exports them to int8 into a folder."""

from __future__ import annotations

from pathlib import Path

from refsynth.bundle.packing import PackedTier, pack_graphs
from refsynth.compress.export import export_encoder
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.tagger import TagPredictor


def of_texts(predictor: EncoderPredictor, folder: Path) -> PackedTier:
    """Export an encoder of texts.

    Raises:
        TypeError: the encoder cannot be exported.
    """
    encoder = _exported(predictor.encoder, folder, pool=True)
    return pack_graphs(folder / "onnx", predictor.head, encoder.max_tokens, prefix=encoder.prefix, windows=encoder.windows)


def of_words(predictor: TagPredictor, folder: Path) -> PackedTier:
    """Export an encoder of words.

    Raises:
        TypeError: the encoder cannot be exported.
    """
    encoder = _exported(predictor.encoder, folder, pool=False)
    return pack_graphs(folder / "onnx", predictor.head, encoder.max_tokens, windows=encoder.windows, words=True)


def _exported(encoder: object, folder: Path, *, pool: bool) -> TransformerEncoder:
    if not isinstance(encoder, TransformerEncoder):
        raise TypeError(f"no bundle is known for a {type(encoder).__name__}")
    folder.mkdir(parents=True)
    encoder.save(folder / "source")
    export_encoder(encoder.transformer, folder / "source" / "tokenizer.json", folder / "onnx", pool=pool)
    return encoder
