"""From the chosen candidate to the bundle: calibrate on held-out rows, export to int8, write, compare with fp32."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import refsynth
from refsynth.bundle.manifest import Calibration
from refsynth.bundle.store import Contents, EncoderFiles, save
from refsynth.compress.export import export_encoder
from refsynth.core.protocols import Predictor
from refsynth.core.run import RunFolder
from refsynth.core.types import Metric
from refsynth.evaluation.calibration import Threshold, fit_temperature, threshold_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, TfidfPredictor
from refsynth.pipeline.build import Workshop
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.gate import HeldOut
from refsynth.task import Task


@dataclass(frozen=True)
class Calibrated:
    """The temperature and threshold fitted on held-out rows; without such rows 1 and none.

    `cuts` are the calibrated probabilities [K] from which on each label is said, where a row may have any number of them.
    """

    temperature: float
    threshold: Threshold | None
    cuts: tuple[float, ...] = ()

    def manifest(self) -> Calibration:
        """Return what the bundle's manifest records."""
        if self.threshold is None:
            return Calibration()
        return Calibration(
            temperature=self.temperature,
            threshold=self.threshold.threshold,
            risk=self.threshold.risk,
            coverage=self.threshold.coverage,
            thresholds=self.cuts,
        )


def calibrate(held: HeldOut | None, candidate: Candidate) -> Calibrated:
    """Fit temperature, threshold and cuts to what the candidate said of rows that were held out."""
    if held is None:
        return Calibrated(1.0, None)
    kind = held.kind
    logits = held.logits[candidate].reshape(-1, held.logits[candidate].shape[-1])
    truth = np.concatenate([held.truth] * len(held.logits[candidate]))
    temperature = fit_temperature(*kind.choices(logits, truth))
    answers = np.concatenate(held.answers(candidate))
    sure = kind.confidence(kind.probabilities(logits / temperature), answers)
    cuts = held.cuts(candidate)
    return Calibrated(
        temperature,
        threshold_of(kind.right(truth, answers), sure),
        () if cuts is None else tuple(kind.probabilities(cuts / temperature).tolist()),
    )


def write_bundle(
    task: Task,
    candidate: Candidate,
    predictor: Predictor,
    shop: Workshop,
    folder: RunFolder,
    *,
    calibrated: Calibrated,
    metrics: tuple[Metric, ...],
    lineage: Mapping[str, Any],
) -> Path:
    """Write the bundle of a candidate as a step, and return its folder there."""
    key = {
        "fit": folder.hash_of("fit"),
        "candidate": candidate,
        "calibration": [calibrated.temperature, calibrated.threshold],
        "metrics": [[metric.name, metric.value, metric.low, metric.high, metric.n] for metric in metrics],
        "lineage": lineage,
        "labels": task.config.labels,
        "task": task.config.task,
        "version": refsynth.__version__,
    }
    if calibrated.cuts:
        key["cuts"] = calibrated.cuts

    def make(out: Path) -> None:
        contents = Contents(
            labels=task.descriptions,
            language=shop.language,
            task=task.config.task,
            features=_features(predictor, shop, out / "export"),
            head=_head_of(predictor),
            reference=predictor,
            calibration=calibrated.manifest(),
            metrics=metrics,
            lineage=lineage,
        )
        save(out / "bundle", contents)
        shutil.rmtree(out / "export", ignore_errors=True)

    return folder.step("bundle", key, make) / "bundle"


def _head_of(predictor: Predictor) -> Any:
    if not isinstance(predictor, (EncoderPredictor, TfidfPredictor)):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    return predictor.head


def _features(predictor: Predictor, shop: Workshop, work: Path) -> Any:
    if isinstance(predictor, TfidfPredictor):
        return predictor.vectors.parts
    if not isinstance(predictor, EncoderPredictor) or not isinstance(predictor.encoder, TransformerEncoder):
        raise TypeError(f"no bundle is known for a {type(predictor).__name__}")
    encoder = predictor.encoder
    work.mkdir()
    encoder.save(work / "source")
    export_encoder(encoder.transformer, work / "source" / "tokenizer.json", work / "onnx")
    return EncoderFiles(work / "onnx", max_tokens=encoder.max_tokens, prefix=encoder.prefix)


def publish(made: Path, public: Path) -> Path:
    """Put a copy of the bundle where the user looks for it, unless the same is there."""
    if public.exists():
        from refsynth.core.run import folder_digest

        if folder_digest(public) == folder_digest(made):
            return public
        shutil.rmtree(public)
    partial = public.with_name(".bundle.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(made, partial)
    partial.replace(public)
    return public
