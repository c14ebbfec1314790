"""What of a predictor goes into a bundle: its features, exported to int8 where it has an encoder, and its head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refsynth.bundle.store import EncoderFiles
from refsynth.compress.export import export_encoder
from refsynth.core.protocols import Predictor
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.tfidf import Vocabulary


def head_of(predictor: Predictor) -> LinearHead:
    """Return the head."""
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    return predictor.head


def features_of(predictor: Predictor, work: Path) -> EncoderFiles | Sequence[Vocabulary]:
    """Return the vocabularies, or the encoder, which is exported into the folder `work`."""
    if isinstance(predictor, TfidfPredictor):
        return predictor.vectors.parts
    if not isinstance(predictor, EncoderPredictor) or not isinstance(predictor.encoder, TransformerEncoder):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    encoder = predictor.encoder
    work.mkdir(parents=True)
    encoder.save(work / "source")
    export_encoder(encoder.transformer, work / "source" / "tokenizer.json", work / "onnx")
    return EncoderFiles(work / "onnx", max_tokens=encoder.max_tokens, prefix=encoder.prefix)
