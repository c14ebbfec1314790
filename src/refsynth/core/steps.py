"""What each step of a run depends on, on one screen. A step's key is made of its entry here and of the code that it runs.

Sections are those of `settings.settings_of`; what they leave out changes no result. The comment at the end of an entry is the
module below `refsynth` that makes the step. A step depends on the content of its inputs,
so a change that makes no difference to an input ends there. `excluded` modules are imported for what happens before and after
the step. A test checks that no step runs code of a module that is missing from its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from refsynth.core.step import StepSpec

# Excluded everywhere: modules that declare what steps depend on, which their keys hold anyway, and modules that only report.
EXCLUDED = ("refsynth.core.steps", "refsynth.core.settings", "refsynth.core.observe", "refsynth.evaluation.origins")

# Modules that do work but are not imported where it is done, since their functions and objects are passed in.
ENCODER_CODE = "refsynth.models.network"
LEARNER_CODE = "refsynth.learning.makers"
PACKING_CODE = "refsynth.compress.pack"
REFERENCE_CODE = ("refsynth.models.reference.makers", "refsynth.synthesis.build")
SCORER_CODE = ("refsynth.synthesis.selection.makers",)
CHOICE_CODE = ("refsynth.synthesis.selection.choose", "refsynth.learning.selftrain", *SCORER_CODE)

READING_KEYS = ("data.columns", "data.delimiter", "data.encoding", "data.quoting", "data.sheet")
# `prompting` is derived: `settings_of` adds the reference to the section of task.yaml, and takes the templates out.
TEACHING = ("task", "labels", "learners", "training", "search", "ensemble", "prompting", "seed")
LEARNING = (*TEACHING, "filter", "selftrain")
MODELS = ("pool", "encoder", "reference.content", "prompting.templates", "learners.outside")
ASKING = tuple(f"synthesis.{name}" for name in ("ways", "shots", "temperature", "top_p", "max_tokens"))
NOT_LEARNING = (
    *(f"refsynth.learning.{name}" for name in ("gate", "held", "folds", "baseline", "job")),
    "refsynth.evaluation",
)
NOT_WRITING = tuple(f"refsynth.synthesis.{name}" for name in ("build", "prompts", "reinforcement"))
JOB_CODE = "refsynth.learning.job"  # holds the learners

_step = partial(StepSpec, excluded=EXCLUDED)


def _excluded(*modules: str) -> tuple[str, ...]:
    return (*EXCLUDED, *modules)


_ALL = (
    _step("rows", (*READING_KEYS, "data.separator", "data.merge", "task", "language", "labels", "gate.folds", "seed"),
          extra=("data.train", "data.more", "skip_bad")),  # learning/rows.py
    _step("none", (*READING_KEYS, "seed"), inputs=("rows",), extra=("data.none", "skip_bad")),  # learning/outside.py
    _step("pool", (*READING_KEYS, "task", "seed"), inputs=("rows",), extra=("data.pool", "none")),  # learning/pool.py
    _step("encoder", ("labels",), inputs=("rows",), extra=("model", "texts")),  # pipeline/encoder.py
    # These take minutes or hours, and do not depend on rows and learners.
    _step("pretrain_encoder", ("pretrain.encoder", "seed"), extra=("texts", "encoder", "language", "longest"),
          code=(ENCODER_CODE,), excluded=_excluded(*NOT_LEARNING, *NOT_WRITING)),  # synthesis/pretraining.py
    _step("pretrain_reference", ("pretrain.reference", "reference", "seed"), ignored=("reference.max_requests",),
          extra=("texts", "reference.content", "language"), code=REFERENCE_CODE,
          excluded=_excluded(*NOT_LEARNING, "refsynth.learning")),  # synthesis/pretraining.py
    _step("topics", ("task", "labels", "seed"), extra=("texts", "encoder", "language"), code=(ENCODER_CODE,),
          excluded=_excluded("refsynth.learning.context")),  # synthesis/topics.py
    _step("policy", ("task", "labels", "reinforce", *ASKING, "reference", "seed"), ignored=("reference.max_requests",),
          inputs=("rows",), extra=("encoder", "reference", "reference.content", "topics", "longest", "control"),
          code=(ENCODER_CODE, *REFERENCE_CODE),
          excluded=_excluded("refsynth.learning.context")),  # synthesis/reinforcement/policies.py
    _step("drafts", ("task", "labels", "synthesis", "reference", "seed"), ignored=("synthesis.rounds", "synthesis.minutes"),
          inputs=("rows",), extra=("authors", "reference.content", "translators", "turn", "focus"), code=REFERENCE_CODE,
          excluded=_excluded(JOB_CODE)),  # synthesis/drafts.py
    _step("union", extra=("parts",)),  # synthesis/drafts.py
    # `screen` is derived: `settings_of` makes it of those `filter.scores` of task.yaml that are computed once.
    _step("screen", ("task", "labels", "screen", "reference"), ignored=("reference.max_requests",),
          inputs=("rows", "drafts"), extra=("forget", "none", "reference", "reference.content", "scorers.outside"),
          code=(*SCORER_CODE, *REFERENCE_CODE), excluded=_excluded(JOB_CODE)),  # synthesis/drafts.py
    _step("judged", ("task", "labels", "reference"), ignored=("reference.max_requests",),
          inputs=("rows", "screen"), extra=("encoder", "reference", "reference.content"), code=(ENCODER_CODE, *REFERENCE_CODE),
          excluded=_excluded(JOB_CODE)),  # synthesis/selection/soft_labels.py
    _step("coverage", inputs=("rows",), extra=("drafts", "encoder"), code=(ENCODER_CODE,),
          excluded=_excluded(LEARNER_CODE)),  # synthesis/coverage.py
    _step("gate", LEARNING, inputs=("rows",), extra=("drafts", "none", "scorers.outside", *MODELS),
          code=(*CHOICE_CODE, LEARNER_CODE)),  # learning/gate.py
    _step("judge", TEACHING, inputs=("rows",), extra=MODELS),  # learning/judge.py
    _step("select", ("task", "labels", "filter", "selftrain", "seed"), inputs=("rows", "judge"),
          extra=("drafts", "pool", "encoder", "scorers.outside"), code=CHOICE_CODE),  # learning/judge.py
    _step("fit", TEACHING, inputs=("rows", "judge", "select"), extra=("candidates", *MODELS)),  # learning/final.py
    _step("compared", TEACHING, inputs=("rows", "judge", "select"), extra=("candidates", *MODELS)),  # learning/final.py
    _step("smaller_form", ("task", "labels", "seed"), inputs=("fit",), extra=("shipped", "form", "texts"),
          excluded=_excluded(LEARNER_CODE)),  # compress/shrink.py
    _step("forms", ("task", "labels", "seed"), inputs=("rows", "fit"), extra=("shipped", "texts", "beside", "machine"),
          code=(PACKING_CODE,), excluded=_excluded(LEARNER_CODE)),  # compress/shrink.py
    _step("form_fold", LEARNING, inputs=("rows",), extra=("drafts", "scorers.outside", *MODELS, "texts", "shipped", "form"),
          code=(*CHOICE_CODE, PACKING_CODE)),  # compress/shrink.py
    _step("bundle", ("task", "labels"), inputs=("rows", "fit"), optional=("smaller_form",),
          extra=("candidate", "form", "calibration", "metrics", "lineage", "strange", "none"),
          code=(PACKING_CODE,)),  # compress/ship.py
    _step("student", ("task", "seed"), inputs=("rows", "fit", "bundle"), extra=("texts",), code=(PACKING_CODE,),
          excluded=_excluded(JOB_CODE)),  # compress/student.py
    _step("tiers", ("task", "compress", "seed"), inputs=("rows", "fit", "bundle", "student"), extra=("texts", "lineage"),
          code=(PACKING_CODE,), excluded=_excluded(LEARNER_CODE)),  # compress/tiers.py
    _step("test", (*READING_KEYS, "data.separator", "data.merge", "task", "labels"), inputs=("fit", "compared"),
          optional=("bundle", "form", "tiers"), extra=("data.test", "studied", "cuts", "encoder")),  # evaluation/testfile.py
)  # fmt: skip

STEPS: Mapping[str, StepSpec] = {spec.name: spec for spec in _ALL}
"""The steps by name."""
