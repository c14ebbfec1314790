"""From the final fit to what ships: a form that meets the contract, or the tiers, or whichever of them meets it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from refsynth.bundle.manifest import Facts
from refsynth.bundle.none import ANOTHER_FORM
from refsynth.bundle.rules import NoneFacts
from refsynth.compress.contract import Contract, contract_of
from refsynth.compress.forms import RECIPES
from refsynth.compress.ship import write_bundle
from refsynth.compress.shrink import Alternative, Shrinker, Shrunk, as_trained
from refsynth.compress.tiers import Tiers, make_tiers
from refsynth.evaluation.calibrate import Calibrated, calibrate
from refsynth.evaluation.strange import Strange, strange_of
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
    held, logits = learned.held, shrunk.logits
    calibrated = calibrate(held, logits, target=job.task.config.unsure.accuracy)
    metrics = (held.score_of(logits),) if held and logits is not None else ()
    facts = _facts(job, learned, shrunk)
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
        strange=_strange(learned, shrunk.name),
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
    candidate = as_trained(form, learned.decision.shipped)
    return ANOTHER_FORM if candidate is None else strange_of(learned.held, candidate)


def _facts(job: Job, learned: Learned, shrunk: Shrunk) -> Facts:
    return Facts(
        columns=job.task.config.data.columns,
        merge=job.task.config.data.merge,
        rows=job.folder.hash_of("rows"),
        few_words=shrunk.name in RECIPES and RECIPES[shrunk.name].words < 1,
        lineage={
            "candidate": str(learned.decision.shipped),
            "form": shrunk.name,
            "reason": learned.decision.reason,
            "reference": learned.written.reference,
            "seed": job.task.config.seed,
            "steps": {name: job.folder.hash_of(name) for name in ("rows", "drafts", "screen", "select", "fit")},
        },
    )
