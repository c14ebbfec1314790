"""RunConfig: the frozen tree behind task.yaml, with a section per stage. An unknown key is refused with the nearest known one.

Nothing here opens the files that a configuration names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from refsynth.core import multilabel, scorers, tokens
from refsynth.core.drafting import FilterConfig, ReinforceConfig, SynthesisConfig
from refsynth.core.errors import ConfigError, counted
from refsynth.core.kinds import TASK_KINDS, KindName, KindSpec
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.references import REFERENCES, Reference, ReferenceSpec, spec_of
from refsynth.core.scorers import scorers_of
from refsynth.core.sections import (
    CompressConfig,
    ContractConfig,
    DataConfig,
    DeviceName,
    EnsembleConfig,
    GateConfig,
    Name,
    PretrainConfig,
    PromptingConfig,
    SearchConfig,
    Section,
    SelftrainConfig,
    TrackerName,
    TrainingConfig,
    UnsureConfig,
)
from refsynth.core.tree import complaints, explain, read_tree, set_key
from refsynth.core.value import spell
from refsynth.core.windows import Windows

KnownKind = Annotated[KindName, AfterValidator(TASK_KINDS.known)]
KnownLearner = Annotated[LearnerName, AfterValidator(LEARNERS.known)]

PAIR_COLUMN = "text_pair"
"""The default column of the second text."""

MOST_COMPLAINTS = 20
"""The most problems of a file that are reported at once."""

LEAST_FOLDS = 4
"""The fewest folds for reinforcement: each half of the folds needs one to hold out and one to learn from."""


class RunConfig(Section):
    """A whole run."""

    task: KnownKind = "classify"
    """The kind of task: one label for each text or pair of texts, any number for each text, or labels of words in it."""
    language: str = "auto"
    """`auto`, or an ISO 639-1 code such as `en` or `zh`. It chooses the encoder and the text rules."""
    labels: Annotated[dict[Name, str], Field(min_length=1)]
    """Each label with what it means, in plain words."""
    data: DataConfig = DataConfig()
    """The user's files."""
    reference: Reference = "embedded"
    """The language model that writes the drafts."""
    synthesis: SynthesisConfig = SynthesisConfig()
    """How drafts are written."""
    reinforce: ReinforceConfig = ReinforceConfig()
    """How the reference learns before it writes."""
    filter: FilterConfig = FilterConfig()
    """Which drafts are trained on."""
    selftrain: SelftrainConfig = SelftrainConfig()
    """Which texts of an unlabeled file join the drafts."""
    pretrain: PretrainConfig = PretrainConfig()
    """How models learn from unlabeled texts before they learn from rows."""
    learners: tuple[KnownLearner, ...] = Field(default=TASK_KINDS["classify"].learners, min_length=1)
    """What the gate chooses among, with and without drafts. The default depends on the task kind, see docs/how-to/tasks.md."""
    training: TrainingConfig = TrainingConfig()
    """How learners that are fine-tuned are trained."""
    search: SearchConfig = SearchConfig()
    """How the hyper-parameters of such learners are searched for."""
    ensemble: EnsembleConfig = EnsembleConfig()
    """How an ensemble joins the other learners."""
    prompting: PromptingConfig = PromptingConfig()
    """How the learner `prompt` asks the reference."""
    gate: GateConfig = GateConfig()
    """How it is decided whether drafts help."""
    unsure: UnsureConfig = UnsureConfig()
    """When the model says that it is unsure."""
    compress: CompressConfig = CompressConfig()
    """What ships: the trained model, a faster student of it, or both."""
    contract: ContractConfig = ContractConfig()
    """How fast, small and good the bundle must be."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that get configuration, results, curves, report and bundle as files in RUN/track. Nothing is sent."""
    device: DeviceName = "auto"
    """Where models are trained: `cpu`, `cuda`, or `auto` for a GPU if CUDA finds one. The bundle runs on a CPU."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The seed of all random choices."""

    @model_validator(mode="before")
    @classmethod
    def _describe_labels(cls, tree: Any) -> Any:
        """Accept labels as a plain list of names, and labels without a description: it is then the name, in words."""
        labels = tree.get("labels") if isinstance(tree, Mapping) else None
        if isinstance(labels, Sequence) and not isinstance(labels, str):
            names = [name if isinstance(name, bool) else str(spell(name) or name) for name in labels]
            if twice := next((name for name, count in Counter(names).items() if count > 1), None):
                raise ValueError(f"labels: '{twice}' is there twice")
            labels = dict.fromkeys(names)
        if not isinstance(labels, Mapping):
            return tree
        spelled: dict[str | None, Any] = {}
        for name in labels:
            if (other := spelled.setdefault(spell(name), name)) is not name and not isinstance(name, bool):
                raise ValueError(f"labels: {other!r} and {name!r} are one value, read as '{spell(name)}'; keep one of them")
        about = {name: str(name).replace("_", " ") if meaning is None else meaning for name, meaning in labels.items()}
        return {**tree, "labels": about}

    @model_validator(mode="before")
    @classmethod
    def _fill_kind(cls, tree: Any) -> Any:
        """Fill in the defaults that depend on the kind of task."""
        name = tree.get("task") if isinstance(tree, Mapping) else None
        if not isinstance(name, str) or name not in TASK_KINDS:
            return tree
        kind = TASK_KINDS[name]
        data = tree.get("data", {})
        columns = data.get("columns", {}) if isinstance(data, Mapping) else None
        if kind.pair and isinstance(columns, Mapping) and columns.get("pair") is None:
            data = {**data, "columns": {**columns, "pair": PAIR_COLUMN}}
        if kind.several and isinstance(data, Mapping) and data.get("separator") is None:
            data = {**data, "separator": SEPARATOR}
        return {"learners": kind.learners, **tree, "data": data}

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse values that do not fit together; the first problem is reported."""
        for check in (
            self._check_pairs,
            self._check_none,
            self._check_kind,
            self._check_synthesis,
            self._check_reinforce,
            self._check_training,
            self._check_pretrain,
            self._check_learners,
            self._check_search,
            self._check_scoring,
            self._check_windows,
        ):
            check()
        return self

    def _check_pairs(self) -> None:
        if not self.kind.pair and self.data.columns.pair is not None:
            raise ValueError(f"data.columns.pair names a second text, but task is {self.task}; write task: pairs")
        if self.kind.pair and self.data.train is None:
            raise ValueError(
                f"task: {self.task} needs labeled rows (data.train): a label's name does not say what it means for two texts"
            )
        if self.kind.pair and self.synthesis.augment:
            raise ValueError(f"synthesis.augment changes single texts, and task is {self.task}; take it out")

    def _check_none(self) -> None:
        if (self.kind.pair or self.kind.labels != "one") and self.data.none is not None:
            why = "it has not been measured for pairs" if self.kind.pair else "such texts can be rows without a label"
            raise ValueError(f"data.none is for task: classify; take it out: {why}")

    def _check_kind(self) -> None:
        problem = multilabel.problem_of(dict(self)) or tokens.problem_of(dict(self))
        if problem := problem or scorers.problem_of(self.filter, self.kind):
            raise ValueError(problem)
        for name in self.learners:
            if why := LEARNERS[name].unfit.get(self.kind.labels):
                raise ValueError(f"learners: {name} {why}")

    def _check_synthesis(self) -> None:
        if "topics" in self.synthesis.ways and self.data.pool is None:
            raise ValueError("synthesis.ways: topics are found in unlabeled texts; name a file of them under data.pool")
        if not all(name.strip() for name in self.labels):
            raise ValueError("a label name is empty")

    def _check_reinforce(self) -> None:
        if not self.reinforce.iterations:
            return
        if self.gate.folds < LEAST_FOLDS:
            raise ValueError(f"reinforce needs gate.folds of at least {LEAST_FOLDS}: two folds reward, two measure")
        if limit := next((key for key in self.reference_spec.limits if getattr(self.reference, key) is not None), None):
            raise ValueError(f"reinforce does not count towards reference.{limit}; take that out and limit reinforce.iterations")
        if self.reinforce.policy != "bandit" and not self.reference_spec.training:
            policy, able = self.reinforce.policy, _trainable()
            raise ValueError(f"reinforce.policy: {policy} needs a reference with weights here ({able}); use bandit")

    def _check_training(self) -> None:
        if self.training.gradient_checkpointing and "prefix_tuning" in self.learners:
            raise ValueError(
                "training.gradient_checkpointing computes layers again, which prefix_tuning cannot; turn one of them off"
            )
        if set(self.learners) == {"prompt"}:
            raise ValueError("learners: prompt needs the reference to answer, and no bundle has it; add another, e.g. frozen")

    def _check_pretrain(self) -> None:
        asked = [f"pretrain.{name}" for name in ("encoder", "reference") if getattr(self.pretrain, name)]
        if asked and self.data.pool is None:
            raise ValueError(f"{asked[0]} learns from unlabeled texts, and there are none; name a file under data: pool")
        if self.pretrain.reference and not self.reference_spec.training:
            raise ValueError(f"pretrain.reference trains the reference, whose weights must be here ({_trainable()})")

    def _check_learners(self) -> None:
        if twice := [name for place, name in enumerate(self.learners) if name in self.learners[:place]]:
            raise ValueError(f"learners: found {twice[0]} twice; name each once")
        named, joined = [name for name in self.learners if LEARNERS[name].joins], self.members
        if named and len(joined) < 2:
            raise ValueError(f"learners: {named[0]} joins the other learners, and needs two of them; add e.g. tfidf, frozen")
        if "distilled" in named and not any(LEARNERS[name].usual_shape for name in joined):
            able = ", ".join(sorted(name for name, spec in LEARNERS.items() if spec.usual_shape))
            raise ValueError(f"learners: distilled starts from the encoder of another learner; add one of {able}")

    def _check_search(self) -> None:
        if not self.search.minutes:
            return
        if not any(LEARNERS[name].searched for name in self.learners):
            known = ", ".join(sorted(name for name, spec in LEARNERS.items() if spec.searched))
            raise ValueError(f"search tunes learners that are fine-tuned, and none is among learners; add one of {known}")
        if "stacking" in self.learners or self.ensemble.teacher == "stacking":
            raise ValueError("search: stacking would need a search in each of its folds; take stacking out")

    def _check_scoring(self) -> None:
        if self.scoring and not self.reference_spec.scores:
            able = ", ".join(spec.written for spec in REFERENCES.values() if spec.scores)
            raise ValueError(
                f"{self.scoring[0]} asks the reference how likely texts are, which '{self.reference_spec.name}' cannot tell; "
                f"take it out, or name another reference: {able}"
            )

    def _check_windows(self) -> None:
        asked = self.training.windows
        if self.kind.pair and asked not in (None, "cut"):
            raise ValueError(f"training.windows: {asked} is for single texts; the longer half of a pair is cut: write cut")
        if self.kind.words and asked == "head_tail":
            raise ValueError("training.windows: head_tail leaves out words, and here words are labeled: write mean or cut")
        causal = next((name for name in self.learners if LEARNERS[name].reads == "reference"), None)
        if causal and not self.reference_spec.training:
            raise ValueError(f"learners: {causal} trains the reference, whose weights must be here ({_trainable()})")

    @property
    def kind(self) -> KindSpec:
        """The kind of the task."""
        return TASK_KINDS[self.task]

    @property
    def reference_spec(self) -> ReferenceSpec:
        """The spec of the reference."""
        return spec_of(self.reference)

    @property
    def scoring(self) -> tuple[str, ...]:
        """The keys that make this run ask the reference how likely texts are."""
        drafts = self.synthesis.drafts > 0
        keys = {
            **{f"learners: {name}": LEARNERS[name].prompted for name in self.learners},
            "filter.targets": drafts and self.filter.targets == "ensemble",
            **{spec.setting: drafts and spec.reads == "reference" for spec, _ in scorers_of(self.filter)},
        }
        return tuple(key for key, asked in keys.items() if asked)

    @property
    def windows(self) -> Windows:
        """What is read of texts that are longer than `training.max_tokens`."""
        return self.training.windows or ("cut" if self.kind.pair else "mean")

    @property
    def members(self) -> tuple[LearnerName, ...]:
        """The learners that ensembles join."""
        return tuple(name for name in self.learners if LEARNERS[name].ships and not LEARNERS[name].joins)

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read task.yaml and apply overrides such as `synthesis.drafts=4000`.

        Raises:
            ConfigError: the file is absent or wrong; each problem is on a line of its own.
        """
        tree = read_tree(path)
        for override in overrides:
            set_key(tree, override)
        config = cls.parse(tree, where=str(path))
        return config.placed(lambda file: path.parent / file)

    @classmethod
    def parse(cls, tree: Mapping[str, Any], *, where: str = "config") -> Self:
        """Validate a tree of plain values.

        Raises:
            ConfigError: it has unknown keys or wrong values; each problem is on a line of its own.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            lines = [*dict.fromkeys(explain(problem, cls) for problem in complaints(error))]
            if len(lines) > MOST_COMPLAINTS:
                lines[MOST_COMPLAINTS:] = [f"and {counted(len(lines) - MOST_COMPLAINTS, 'further problem')}"]
            remedy = "every key is explained in docs/reference/configuration.md"
            raise ConfigError(f"{where}: " + "\n  ".join(lines), remedy=remedy) from error

    def placed(self, place: Callable[[Path], Path]) -> Self:
        """Return a copy in which `place` has changed the paths of the user's data and templates."""
        templates = self.prompting.templates
        prompting = self.prompting.model_copy(update={"templates": None if templates is None else place(templates)})
        return self.model_copy(update={"data": self.data.placed(place), "prompting": prompting})

    def changed(self, overrides: Sequence[str]) -> Self:
        """Return a copy changed by overrides such as `filter.agreement=0.6`.

        Raises:
            ConfigError: a key is unknown or a value is wrong.
        """
        tree = self.model_dump(mode="json")
        for override in overrides:
            set_key(tree, override)
        return self.parse(tree, where="--set")


def _trainable() -> str:
    """Return the references whose weights can be trained, as task.yaml writes them."""
    return " or ".join(spec.written for spec in REFERENCES.values() if spec.training)
