"""The sides that run in this process: ours, tier by tier, and peers on the same encoder, head and labeled rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import setfit
from sklearn.linear_model import LogisticRegression

from benchmarks.peers import sentence_encoder
from benchmarks.sets import Sample
from refsynth.bundle.certificate import Calibration, Certificate, EarlyExit, profile_of
from refsynth.bundle.model import load
from refsynth.bundle.packing import pack, pack_graphs
from refsynth.bundle.store import Contents, TierContents, save
from refsynth.compress.cascade import certify
from refsynth.compress.export import INT8, TOKENIZER, export_encoder, fused_graph
from refsynth.compress.static import fit_static, table_of, with_mixtures
from refsynth.core.types import Example
from refsynth.kinds.metrics import lead_of, softmax
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenizer import TextTokenizer

TORCH, FUSED, OURS = "torch fp32", "ONNX Runtime, fp32 fused", "refsynth int8"
STATIC, CASCADE = "refsynth static", "refsynth cascade"
MODEL2VEC, TFIDF, SETFIT = "model2vec", "TF-IDF + LR", "SetFit predict"
PADDED, LONGEST = "refsynth int8, padded to the maximum", "refsynth int8, padded to the longest"
FIXED = 32
"""Rows of a batch in the order of arrival."""

Ask = Callable[[Sequence[str]], Any]


class Sides(NamedTuple):
    """Who can be asked, by name; the encoder and the tokenizer that they share; the bundles of our tiers; what each weighs."""

    ask: Mapping[str, Ask]
    network: TransformerEncoder
    tokenizer: TextTokenizer
    bundles: Mapping[str, Path]
    source: Path
    megabytes: Mapping[str, float]


def make_sides(
    sample: Sample, network: TransformerEncoder, made: Any, work: Path, *, threads: int, alpha: float, delta: float
) -> Sides:
    """Fit all sides to the sample's labeled rows and write the bundles of our tiers below `work`.

    `made` is what `compress.static.distilled` gives for the network. The static student learns from the int8 model's answers to
    the labeled rows' texts; the cascade is certified on the test rows' texts, without their labels.
    """
    labels, source = tuple(sample.labels), work / "source"
    rows = sample.examples
    network.save(source)
    export_encoder(network.transformer, source / TOKENIZER, work / "onnx")
    onnx.save(fused_graph(network.transformer), work / "fused.onnx")
    frozen = FrozenLearner(labels, network).fit(rows, (), seed=0)
    longest = network.max_tokens
    opened = partial(OnnxEncoder, tokenizer=source / TOKENIZER, max_tokens=longest, threads=threads)
    fused = EncoderPredictor(labels, opened(work / "fused.onnx"), frozen.head)
    int8 = opened(work / "onnx" / INT8)
    contents = Contents(
        labels=dict(sample.labels),
        language="en",
        tiers=[TierContents(pack_graphs(work / "onnx", frozen.head, longest), frozen, Calibration())],
    )
    static = fit_student(
        EncoderPredictor(labels, int8, frozen.head), network, made, source / TOKENIZER, [row.text for row in rows]
    )
    early = _early(static, EncoderPredictor(labels, int8, frozen.head), sample.texts, alpha, delta)
    save(work / "int8", contents)
    student = TierContents(pack(static, source), static, Calibration())
    save(work / "static", replace(contents, tiers=[student]))
    save(work / "cascade", replace(contents, tiers=[replace(student, early=early), *contents.tiers]))
    bundles = {OURS: work / "int8", STATIC: work / "static", CASCADE: work / "cascade"}
    ours = {name: load(folder, threads=threads).probabilities for name, folder in bundles.items()}
    words = TfidfLearner(labels, language="en").fit(rows, (), seed=0)
    ask: dict[str, Ask] = {TORCH: frozen.logits, FUSED: fused.logits, **ours, TFIDF: words.logits}
    ask[MODEL2VEC] = _model2vec(made, rows)
    ask[SETFIT] = _setfit(source, rows, longest)
    ask[PADDED], ask[LONGEST] = _arrival(int8, longest), _arrival(int8, None)
    sizes = {name: sum(path.stat().st_size for path in folder.iterdir()) for name, folder in bundles.items()}
    sizes[TORCH] = (source / "model.safetensors").stat().st_size
    megabytes = {name: size / 1e6 for name, size in sizes.items()}
    return Sides(ask, network, int8.tokenizer, bundles, source, megabytes)


def fit_student(
    teacher: EncoderPredictor, network: TransformerEncoder, made: Any, tokenizer: Path, texts: Sequence[str]
) -> StaticPredictor:
    """Return the static student that learned from the teacher's answers to the texts.

    Args:
        teacher: the int8 model.
        network: the encoder that it was exported from.
        made: what `compress.static.distilled` gives for the network.
        tokenizer: its `tokenizer.json`.
        texts: to learn from.
    """
    own, taught = TextTokenizer(tokenizer, max_tokens=network.max_tokens, special=False), with_mixtures(texts, seed=0)
    votes = fit_static(table_of(made, network), own.encode(taught), softmax(teacher.logits(taught)), texts=len(texts), seed=0)
    return StaticPredictor(teacher.labels, own, LinearHead(votes.weights[: own.size], votes.bias))


def _early(static: StaticPredictor, int8: EncoderPredictor, texts: Sequence[str], alpha: float, delta: float) -> EarlyExit:
    """Return when the first tier of a cascade answers: at the certified threshold, or never where none is certified."""
    said = softmax(np.asarray(static.logits(texts), float))
    disagrees = said.argmax(1) != int8.logits(texts).argmax(1)
    sure = lead_of(said)
    found = certify(sure, disagrees, alpha=alpha, delta=delta)
    answered, disagreed = (0, 0) if found is None else (found.answered, found.disagreed)
    certificate = Certificate(
        alpha=alpha,
        delta=delta,
        n=len(texts),
        answered=answered,
        disagreed=disagreed,
        profile=tuple(profile_of(sure, texts).tolist()),
        assumptions=("those of a bench",),
    )
    return EarlyExit(threshold=1.0 if found is None else found.threshold, confidence="odds", certificate=certificate)


def _model2vec(made: Any, rows: Sequence[Example]) -> Ask:
    head = LogisticRegression(max_iter=1000).fit(made.encode([row.text for row in rows]), [row.label for row in rows])
    return lambda texts: head.predict(made.encode(list(texts)))


def _setfit(source: Path, rows: Sequence[Example], longest: int) -> Ask:
    """Return SetFit's own predict with an untuned body, which takes what a tuned one takes."""
    body = sentence_encoder(source, longest)
    head = LogisticRegression(max_iter=1000)
    head.fit(body.encode([row.text for row in rows], show_progress_bar=False), [row.label for row in rows])
    model = setfit.SetFitModel(model_body=body, model_head=head)
    return lambda texts: model.predict(list(texts), show_progress_bar=False)


def _arrival(encoder: OnnxEncoder, width: int | None) -> Ask:
    """Return batches of so many rows as they come, padded to `width` tokens, or to the longest of each batch."""

    def ask(texts: Sequence[str]) -> None:
        rows = encoder.tokenizer.encode(texts)
        for start in range(0, len(rows), FIXED):
            encoder.embed(rows[start : start + FIXED], width=width)

    return ask
