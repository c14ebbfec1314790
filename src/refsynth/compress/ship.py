"""Writes the bundle of the chosen candidate: exports it to int8 and compares it with fp32."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from refsynth.bundle.manifest import Facts
from refsynth.bundle.model import load
from refsynth.bundle.none import UNKNOWN
from refsynth.bundle.packing import pack
from refsynth.bundle.rules import NoneFacts
from refsynth.bundle.store import Contents, TierContents, figures_of, restate, save
from refsynth.compress.forms import FULL, RECIPES
from refsynth.core.hashes import folder_digest
from refsynth.core.protocols import Predictor
from refsynth.core.run import RunFolder
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Example, Metric
from refsynth.evaluation.calibrate import Calibrated
from refsynth.evaluation.strange import Strange
from refsynth.learning.candidates import Candidate
from refsynth.learning.context import LearnerContext
from refsynth.learning.outside import NOTHING, Outside
from refsynth.models.nearness import against, below, near_of
from refsynth.models.predict import LinearHead


def write_bundle(
    task: Task,
    candidate: Candidate,
    predictor: Predictor,
    context: LearnerContext,
    folder: RunFolder,
    *,
    calibrated: Calibrated,
    metrics: tuple[Metric, ...],
    form: str,
    facts: Facts,
    real: Sequence[Example] = (),
    strange: Strange | str = UNKNOWN,
    outside: Outside = NOTHING,
    step: str = "bundle",
) -> Path:
    """Write the bundle of a candidate as a step, and return its folder.

    If `strange` is a threshold, the bundle also tells which texts are about none of the labels, from the `real` rows and the
    texts `outside` all labels. If it is a reason, the bundle records why it cannot tell.
    """
    extra = {
        "candidate": candidate,
        "form": form,
        "calibration": calibrated.manifest().model_dump(mode="json"),
        "metrics": [[metric.name, metric.value, metric.low, metric.high, metric.n] for metric in metrics],
        "lineage": facts.model_dump(mode="json"),
        "strange": strange if isinstance(strange, str) else [strange.threshold, strange.facts.model_dump(mode="json")],
        "none": outside.key,
    }
    using = ("smaller_form",) if form in RECIPES and form != FULL else ()

    def make(out: Path) -> None:
        none = NoneFacts(why=strange) if isinstance(strange, str) else strange.facts
        near = None if isinstance(strange, str) else _near(predictor, real, outside, strange.threshold)
        contents = Contents(
            labels=task.descriptions,
            language=context.language,
            task=task.config.task,
            tiers=[TierContents(pack(predictor, out / "export"), predictor, calibrated.manifest(), near=near)],
            metrics=metrics,
            facts=facts.model_copy(update={"none": none}),
        )
        save(out / "bundle", contents)
        shutil.rmtree(out / "export", ignore_errors=True)

    return folder.step(STEPS["bundle"], make, config=settings_of(task.config), name=step, extra=extra, using=using) / "bundle"


def _near(predictor: Predictor, real: Sequence[Example], outside: Outside, threshold: float) -> LinearHead | None:
    """Return the linear map that is negative for texts about none of the labels."""
    near = near_of(predictor, real)
    if near is not None and outside.texts:
        near = against(near, outside.texts)
    return None if near is None else below(near.head, threshold)


def publish(made: Path, public: Path, *, tested: Sequence[Metric] = (), limits: Sequence[str] = ()) -> Path:
    """Copy a bundle to where the user looks for it, unless the same bundle is already there.

    Args:
        made: the bundle in the folder of its step.
        public: the folder of the copy.
        tested: figures on the rows of the test file, added to the card and the manifest of the copy.
        limits: further sentences for the card.
    """
    partial = public.with_name(".bundle.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(made, partial)
    if tested:
        manifest = load(partial).manifest
        names = tuple(figure.name for figure in tested)
        added = {"metrics": {**manifest.metrics, **figures_of(tested)}, "tested": names}
        restate(partial, manifest.model_copy(update=added), limits=limits)
    if public.exists():
        if folder_digest(public) == folder_digest(partial):
            shutil.rmtree(partial)
            return public
        shutil.rmtree(public)
    partial.replace(public)
    return public
