"""What each step of a run depends on, on one screen. A step's key is made of its line here and of the code that it runs.

Sections are those of `settings.settings_of`; what they leave out changes no result. What a step has from another comes in by
that one's content, so that a change which makes no difference there ends there. `apart` are modules which a step's module
imports for what it does before and after the step; that no step runs code of a module which is not in its hash is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from refsynth.core.step import StepSpec

APART = ("refsynth.core.steps", "refsynth.core.settings", "refsynth.core.observe", "refsynth.evaluation.origins")
"""For all steps: what says what they depend on is in their keys itself; and what tells people of them."""

ENCODER = "refsynth.models.network"
"""Where embeddings come from: encoders are made elsewhere and handed over."""

SCORERS = ("refsynth.synthesis.selection.makers",)
"""Who makes scorers of drafts, by name."""

CHOICE = ("refsynth.synthesis.selection.choose", "refsynth.learning.selftrain", *SCORERS)
"""Who chooses among drafts, handed over to where models are fitted."""

REFERENCE = ("refsynth.models.reference.makers", "refsynth.synthesis.build")
"""Who makes references, by name."""

PACKING = "refsynth.compress.pack"
"""What packs tiers, by name."""

LEARNERS = "refsynth.learning.makers"
"""Who makes learners, handed over to where they are asked."""

READ = ("data.columns", "data.delimiter", "data.encoding", "data.quoting", "data.sheet")
TEACHING = ("task", "labels", "learners", "training", "search", "ensemble", "prompting", "seed")
LEARNING = (*TEACHING, "filter", "selftrain")
MODELS = ("pool", "encoder", "reference.content", "prompting.templates", "learners.outside")
ASKING = tuple(f"synthesis.{name}" for name in ("ways", "shots", "temperature", "top_p", "max_tokens"))
NOT_LEARNT = (
    *(f"refsynth.learning.{name}" for name in ("gate", "held", "folds", "baseline", "job")),
    "refsynth.evaluation",
)
JOB = "refsynth.learning.job"
"""What has the learners with it."""

_step = partial(StepSpec, apart=APART)


def _apart(*modules: str) -> tuple[str, ...]:
    return (*APART, *modules)


_ALL = (
    _step("rows", (*READ, "data.separator", "data.merge", "task", "language", "labels", "gate.folds", "seed"),
          extra=("data.train", "data.more", "skip_bad")),
    _step("none", (*READ, "seed"), inputs=("rows",), extra=("data.none", "skip_bad")),
    _step("pool", (*READ, "task", "seed"), inputs=("rows",), extra=("data.pool", "none")),
    _step("encoder", ("labels",), inputs=("rows",), extra=("model", "texts")),
    # Minutes or hours of learning from texts, which are the same whatever becomes of rows and learners.
    _step("words", ("pretrain.encoder", "seed"), extra=("texts", "encoder", "language", "longest"), code=(ENCODER,),
          apart=_apart(*NOT_LEARNT, *(f"refsynth.synthesis.{name}" for name in ("build", "prompts", "reinforcement")))),
    _step("reference", ("pretrain.reference", "reference", "seed"), but=("reference.max_requests",),
          extra=("texts", "reference.content", "language"), code=REFERENCE, apart=_apart(*NOT_LEARNT, "refsynth.learning")),
    _step("topics", ("task", "labels", "seed"), extra=("texts", "encoder", "language"), code=(ENCODER,),
          apart=_apart("refsynth.learning.context")),
    _step("policy", ("task", "labels", "reinforce", *ASKING, "reference", "seed"), but=("reference.max_requests",),
          inputs=("rows",), extra=("encoder", "reference", "reference.content", "topics", "longest", "control"),
          code=(ENCODER, *REFERENCE),
          apart=_apart("refsynth.learning.context")),
    _step("drafts", ("task", "labels", "synthesis", "reference", "seed"), but=("synthesis.rounds", "synthesis.minutes"),
          inputs=("rows",), extra=("authors", "reference.content", "translators", "turn", "focus"), code=REFERENCE,
          apart=_apart(JOB)),
    _step("union", extra=("parts",)),
    _step("screen", ("task", "labels", "screen", "reference"), but=("reference.max_requests",),
          inputs=("rows", "drafts"), extra=("forget", "none", "reference", "reference.content", "scorers.outside"),
          code=(*SCORERS, *REFERENCE), apart=_apart(JOB)),
    _step("judged", ("task", "labels", "reference"), but=("reference.max_requests",),
          inputs=("rows", "screen"), extra=("encoder", "reference", "reference.content"), code=(ENCODER, *REFERENCE),
          apart=_apart(JOB)),
    _step("coverage", inputs=("rows",), extra=("drafts", "encoder"), code=(ENCODER,), apart=_apart(LEARNERS)),
    _step("gate", LEARNING, inputs=("rows",), extra=("drafts", "none", "scorers.outside", *MODELS),
          code=(*CHOICE, LEARNERS)),
    _step("judge", TEACHING, inputs=("rows",), extra=MODELS),
    _step("select", ("task", "labels", "filter", "selftrain", "seed"), inputs=("rows", "judge"),
          extra=("drafts", "pool", "encoder", "scorers.outside"), code=CHOICE),
    _step("fit", TEACHING, inputs=("rows", "judge", "select"), extra=("candidates", *MODELS)),
    _step("compared", TEACHING, inputs=("rows", "judge", "select"), extra=("candidates", *MODELS)),
    _step("student", ("task", "labels", "seed"), inputs=("fit",), extra=("shipped", "form", "texts"),
          apart=_apart(LEARNERS)),
    _step("forms", ("task", "labels", "seed"), inputs=("rows", "fit"), extra=("shipped", "texts", "beside", "machine"),
          code=(PACKING,), apart=_apart(LEARNERS)),
    _step("cut", LEARNING, inputs=("rows",), extra=("drafts", "scorers.outside", *MODELS, "texts", "shipped", "form"),
          code=CHOICE),
    _step("bundle", ("task", "labels"), inputs=("rows", "fit"), optional=("student",),
          extra=("candidate", "form", "calibration", "metrics", "lineage", "strange", "none"), code=(PACKING,)),
    _step("static", ("task", "seed"), inputs=("rows", "fit", "bundle"), extra=("texts",), code=(PACKING,), apart=_apart(JOB)),
    _step("tiers", ("task", "compress", "seed"), inputs=("rows", "fit", "bundle", "static"), extra=("texts", "lineage"),
          code=(PACKING,), apart=_apart(LEARNERS)),
    _step("test", (*READ, "data.separator", "data.merge", "task", "labels"), inputs=("fit", "compared"),
          optional=("bundle", "form", "tiers"), extra=("data.test", "studied", "cuts", "encoder")),
)  # fmt: skip

STEPS: Mapping[str, StepSpec] = {spec.name: spec for spec in _ALL}
"""The steps by name."""
