"""From the final fit to what ships: a form that meets the contract, or the tiers, or whichever of them meets it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from refsynth.bundle.manifest import Facts
from refsynth.bundle.none import ANOTHER_FORM
from refsynth.bundle.rules import NoneFacts
from refsynth.compress.contract import Contract, contract_of
from refsynth.compress.forms import FULL, RECIPES
from refsynth.compress.ship import write_bundle
from refsynth.compress.shrink import SIMPLE, Alternative, Shrinker, Shrunk
from refsynth.compress.tiers import Tiers, make_tiers
from refsynth.core.types import Metric
from refsynth.evaluation.calibrate import Calibrated, calibrate
from refsynth.evaluation.strange import Strange, strange_of
from refsynth.learning.candidates import Candidate
from refsynth.learning.job import Job
from refsynth.pipeline.evidence import Learned
from refsynth.synthesis.selection.choose import choice_of


class Bundles(NamedTuple):
    """The form that ships, the calibration of the model alone, and the tiers of the bundle."""

    shrunk: Shrunk
    calibrated: Calibrated
    tiers: Tiers


def make_bundles(job: Job, learned: Learned) -> Bundles:
    """Make what ships.

    Tiers are made from the model as it was trained. Under a contract the search compares them with its smaller forms: what they
    keep is their macro-F1 against the model's answers, on the texts that `Student` was measured on.

    Raises:
        MissingError: the task asks for tiers, and model2vec is not installed.
    """
    contract, requested = contract_of(job.task.config), job.task.config.compress.tiers
    shrinker = Shrinker(
        job, learned.screened, choice_of(job, learned.screened), learned.final, learned.decision.shipped, learned.held
    )
    if requested == "one":
        return _alone(job, learned, shrinker.run(contract), "bundle")
    bundles = _unmeasured(_alone(job, learned, shrinker.run(Contract()), "bundle"))
    job.watch.stage("compress", bundles.tiers.line())
    if contract == Contract():
        return bundles
    alternatives: dict[str, Alternative] = {}
    if bundles.tiers.bundle != bundles.tiers.main:
        alternatives[requested] = Alternative(bundles.tiers.bundle, bundles.tiers.kept)
    shrunk = replace(shrinker, alternatives=alternatives).run(contract)
    if shrunk.name in alternatives:
        return bundles._replace(shrunk=shrunk)
    alone = _alone(job, learned, shrunk, "form")
    return alone._replace(
        tiers=replace(bundles.tiers, bundle=alone.tiers.bundle, main=alone.tiers.main, step="form", certificate=None)
    )


def _unmeasured(bundles: Bundles) -> Bundles:
    """Drop the held-out logits of the model alone if something else ships, so that nobody takes them for its figures."""
    if bundles.tiers.bundle == bundles.tiers.main:
        return bundles
    return bundles._replace(shrunk=bundles.shrunk._replace(logits=None))


def _alone(job: Job, learned: Learned, shrunk: Shrunk, step: str) -> Bundles:
    """Write the bundle of a form, and for the step `bundle` the tiers made from it."""
    calibrated = calibrate(learned.held, shrunk.logits, target=job.task.config.unsure.accuracy)
    metrics: tuple[Metric, ...] = ()
    if learned.held and shrunk.logits is not None:
        metrics = (learned.held.score_of(shrunk.logits),)
    facts = _facts(job, learned, shrunk)
    strange = _strange(learned, shrunk.name)
    path = write_bundle(
        job.task,
        learned.decision.shipped,
        shrunk.predictor,
        job.context,
        job.folder,
        calibrated=calibrated,
        metrics=metrics,
        form=shrunk.name,
        facts=facts.model_copy(update={"unsure": calibrated.rule}),
        real=learned.final.real,
        strange=strange,
        outside=job.outside,
        step=step,
    )
    if step != "bundle":
        return Bundles(shrunk, calibrated, Tiers("one", path, path, step))
    facts = facts.model_copy(update={"none": NoneFacts(why=ANOTHER_FORM)})
    tiers = make_tiers(job, learned.final, learned.decision.shipped, path, metrics=metrics, facts=facts)
    return Bundles(shrunk, calibrated, tiers)


def _strange(learned: Learned, form: str) -> Strange | str:
    """Return the threshold of a form for texts about none of the labels, or why it has none."""
    shipped = learned.decision.shipped
    simple = next((Candidate(name, shipped.drafts) for name in SIMPLE if name == form), None)
    return strange_of(learned.held, simple or shipped) if simple or form == FULL else ANOTHER_FORM


def _facts(job: Job, learned: Learned, shrunk: Shrunk) -> Facts:
    lineage: dict[str, Any] = {
        "candidate": str(learned.decision.shipped),
        "form": shrunk.name,
        "reason": learned.decision.reason,
        "reference": learned.written.reference,
        "seed": job.task.config.seed,
        "steps": {name: job.folder.hash_of(name) for name in ("rows", "drafts", "screen", "select", "fit")},
    }
    return Facts(
        columns=job.task.config.data.columns,
        merge=job.task.config.data.merge,
        rows=job.folder.hash_of("rows"),
        few_words=shrunk.name in RECIPES and RECIPES[shrunk.name].words < 1,
        lineage=lineage,
    )
