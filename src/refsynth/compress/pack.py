"""What of a predictor goes into a bundle: its features, exported to int8 where it has an encoder, and its head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refsynth.bundle.store import CrfFiles, EncoderFiles
from refsynth.compress.export import export_encoder
from refsynth.core.protocols import Predictor
from refsynth.models.crf import CrfPredictor
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.tagger import TagPredictor
from refsynth.models.tfidf import Vocabulary


def head_of(predictor: Predictor) -> LinearHead:
    """Return the head."""
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor, TagPredictor, CrfPredictor)):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    return predictor.head


def features_of(predictor: Predictor, work: Path) -> EncoderFiles | CrfFiles | Sequence[Vocabulary]:
    """Return the vocabularies, the features of words, or the encoder, which is exported into the folder `work`."""
    if isinstance(predictor, CrfPredictor):
        return CrfFiles(predictor.terms, predictor.transitions)
    if isinstance(predictor, TfidfPredictor):
        return predictor.vectors.parts
    if not isinstance(predictor, (EncoderPredictor, TagPredictor)) or not isinstance(predictor.encoder, TransformerEncoder):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    encoder = predictor.encoder
    work.mkdir(parents=True)
    encoder.save(work / "source")
    pool = isinstance(predictor, EncoderPredictor)
    export_encoder(encoder.transformer, work / "source" / "tokenizer.json", work / "onnx", pool=pool)
    prefix = encoder.prefix if pool else ""
    return EncoderFiles(work / "onnx", max_tokens=encoder.max_tokens, prefix=prefix, windows=encoder.windows)
