"""From the chosen candidate to the bundle: export to int8, write, compare with fp32."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import refsynth
from refsynth.bundle.store import Contents, save
from refsynth.core.protocols import Predictor
from refsynth.core.run import RunFolder
from refsynth.core.types import Metric
from refsynth.pipeline.calibrate import Calibrated
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.forms import FULL, RECIPES
from refsynth.pipeline.pack import features_of, head_of
from refsynth.pipeline.workshop import Workshop
from refsynth.task import Task


def write_bundle(
    task: Task,
    candidate: Candidate,
    predictor: Predictor,
    shop: Workshop,
    folder: RunFolder,
    *,
    calibrated: Calibrated,
    metrics: tuple[Metric, ...],
    form: str,
    lineage: Mapping[str, Any],
    step: str = "bundle",
) -> Path:
    """Write the bundle of a candidate as a step, and return its folder there."""
    key = {
        "fit": folder.hash_of("fit"),
        "candidate": candidate,
        "form": [form, folder.hash_of("student") if form in RECIPES and form != FULL else ""],
        "calibration": calibrated.manifest().model_dump(mode="json"),
        "metrics": [[metric.name, metric.value, metric.low, metric.high, metric.n] for metric in metrics],
        "lineage": lineage,
        "labels": task.config.labels,
        "task": task.config.task,
        "version": refsynth.__version__,
    }

    def make(out: Path) -> None:
        contents = Contents(
            labels=task.descriptions,
            language=shop.language,
            task=task.config.task,
            features=features_of(predictor, out / "export"),
            head=head_of(predictor),
            reference=predictor,
            calibration=calibrated.manifest(),
            metrics=metrics,
            lineage=lineage,
        )
        save(out / "bundle", contents)
        shutil.rmtree(out / "export", ignore_errors=True)

    return folder.step(step, key, make, version=2) / "bundle"


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
