"""From what was learnt to what ships: the form that the contract asks for, or the tiers, or the one of them that meets it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from refsynth.bundle.manifest import Facts
from refsynth.bundle.none import ANOTHER_FORM
from refsynth.bundle.rules import NoneFacts
from refsynth.compress.contract import Contract, asked_of
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
    """The form that ships, how the model alone was calibrated, and what is in the bundle."""

    shrunk: Shrunk
    calibrated: Calibrated
    tiers: Tiers


def make_bundles(job: Job, learned: Learned) -> Bundles:
    """Make what ships.

    Tiers are made of the model as it was trained. Under a contract they stand in the search beside its smaller forms: what they
    keep is their macro-F1 against its answers, on the texts that `Student` was measured on.

    Raises:
        MissingError: tiers are wanted, and model2vec is not installed.
    """
    contract, wanted = asked_of(job.task.config), job.task.config.compress.tiers
    shrinker = Shrinker(
        job, learned.screened, choice_of(job, learned.screened), learned.final, learned.decision.shipped, learned.held
    )
    if wanted == "one":
        return _alone(job, learned, shrinker.run(contract), "bundle")
    made = _unmeasured(_alone(job, learned, shrinker.run(Contract()), "bundle"))
    job.watch.stage("compress", made.tiers.line())
    if contract == Contract():
        return made
    beside: dict[str, Alternative] = {}
    if made.tiers.bundle != made.tiers.main:
        beside[wanted] = Alternative(made.tiers.bundle, made.tiers.kept)
    shrunk = replace(shrinker, beside=beside).run(contract)
    if shrunk.name in beside:
        return made._replace(shrunk=shrunk)
    alone = _alone(job, learned, shrunk, "form")
    return alone._replace(
        tiers=replace(made.tiers, bundle=alone.tiers.bundle, main=alone.tiers.main, step="form", certificate=None)
    )


def _unmeasured(made: Bundles) -> Bundles:
    """Leave out what the model alone said of held-out rows where something else ships: nothing may pass for its figures."""
    if made.tiers.bundle == made.tiers.main:
        return made
    return made._replace(shrunk=made.shrunk._replace(logits=None))


def _alone(job: Job, learned: Learned, shrunk: Shrunk, step: str) -> Bundles:
    """Write the bundle of a form, and of the tiers in front of it where it is what they are made of."""
    calibrated = calibrate(learned.held, shrunk.logits, target=job.task.config.unsure.accuracy)
    metrics: tuple[Metric, ...] = ()
    if learned.held and shrunk.logits is not None:
        metrics = (learned.held.score_of(shrunk.logits),)
    facts = _facts(job, learned, shrunk)
    strange = _strange(learned, shrunk.name)
    made = write_bundle(
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
        return Bundles(shrunk, calibrated, Tiers("one", made, made, step))
    facts = facts.model_copy(update={"none": NoneFacts(why=ANOTHER_FORM)})
    tiers = make_tiers(job, learned.final, learned.decision.shipped, made, metrics=metrics, facts=facts)
    return Bundles(shrunk, calibrated, tiers)


def _strange(learned: Learned, form: str) -> Strange | str:
    """Return the bar of a form for strange texts, or why it has none."""
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
