"""What a bundle is saved from: a tiny encoder, or TF-IDF, with a head of three labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from refsynth import bundle
from refsynth.compress.export import export_encoder
from refsynth.core.types import FloatArray, Metric
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.models.tokenizer import TextTokenizer
from tests.support.tiny_encoder import MAX_TOKENS, embed, make_encoder, make_tokenizer

LABELS = {"card | lost": "the customer lost\n<b>a card</b>", "loan": "anything on loans", "other": ""}


class TorchReference:
    """The tiny encoder with a head, in fp32."""

    labels = tuple(LABELS)

    def __init__(self, tokenizer: Path, head: LinearHead) -> None:
        self.tokenizer = TextTokenizer(tokenizer, max_tokens=MAX_TOKENS)
        self.head = head

    def logits(self, texts: Sequence[str]) -> FloatArray:
        return self.head.logits(embed(make_encoder(), self.tokenizer.encode(texts)))


def encoder_contents(folder: Path) -> bundle.Contents:
    tokenizer = make_tokenizer(folder / "t.json")
    export_encoder(make_encoder(), tokenizer, folder / "out")
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(32, 3)), rng.normal(size=3))
    return bundle.Contents(
        labels=LABELS,
        language="en",
        tiers=[
            bundle.TierContents(
                bundle.pack_graphs(folder / "out", head, MAX_TOKENS),
                TorchReference(tokenizer, head),
                bundle.Calibration(temperature=2.0, threshold=0.4, risk=0.1, coverage=0.8),
            )
        ],
        metrics=[Metric("accuracy", 0.75, 0.7, 0.8, 100)],
        facts=bundle.Facts(lineage={"seed": 0, "data": {"train": "0" * 64}}),
    )


def tfidf_contents() -> bundle.Contents:
    train = ["lost my card", "a loan please", "good morning", "please"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(train)
    part = Vocabulary.of_sklearn(vectorizer)
    rng = np.random.default_rng(1)
    head = LinearHead(rng.normal(size=(len(part.terms), 3)), rng.normal(size=3))
    reference = TfidfPredictor(tuple(LABELS), TfidfVectors([part]), head)
    calibration = bundle.Calibration(temperature=0.5)
    tier = bundle.TierContents(bundle.pack(reference, Path()), reference, calibration)
    return bundle.Contents(labels=LABELS, language="en", tiers=[tier])
