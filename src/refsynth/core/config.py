"""RunConfig: the one frozen tree behind task.yaml, a section per stage. Unknown keys are refused with the nearest known one.

Only `pipeline.build` reads it; components take flat keyword arguments. Nothing here opens the files that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from refsynth.core.errors import ConfigError, nearest

LearnerName = Literal["tfidf", "frozen", "contrastive", "finetune"]


class Section(BaseModel):
    """A part of the tree: immutable, and it refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Section):
    """Which columns of a data file hold what."""

    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the label."""


class DataConfig(Section):
    """The user's files. Relative paths are read from the folder of task.yaml."""

    train: Path | None = None
    """Labelled rows (CSV, TSV, JSONL or Parquet). Without it the labels' descriptions are all there is."""
    test: Path | None = None
    """Labelled rows that only the final evaluation reads."""
    columns: Columns = Columns()
    """Column names, the same in both files."""
    delimiter: str | None = None
    """Field delimiter of a CSV file; detected if left out."""
    encoding: str | None = None
    """Text encoding of a CSV or JSONL file; detected if left out."""


class EndpointReference(Section):
    """An OpenAI-compatible server."""

    endpoint: str = Field(pattern=r"^https?://")
    """Base address, e.g. `http://127.0.0.1:8080/v1`."""
    model: str
    """The model's name there."""
    key_env: str = "REFSYNTH_API_KEY"
    """Environment variable that holds the key, if the server wants one."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests under way at once."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for one answer."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further tries after a timeout, a dropped connection, 429 or 5xx."""
    max_requests: int | None = Field(default=None, ge=1)
    """The most requests that a run may send; at the limit it stops with what it has."""


class FolderReference(Section):
    """A causal language model in a local Hugging Face folder."""

    folder: Path
    """The folder, with config.json, weights and tokenizer."""


Reference = Literal["embedded", "echo"] | EndpointReference | FolderReference


class ApertiumTranslation(Section):
    """Back-translation by Apertium, where it is installed."""

    translate: Literal["apertium"]
    """The engine."""
    pivot: str = Field(pattern="^[a-z]{2,3}$")
    """ISO 639 code of the language to translate into and back from; both directions must be installed."""


class Seq2SeqTranslation(Section):
    """Back-translation by two translation models in CTranslate2 folders."""

    translate: Literal["ctranslate2"]
    """The engine."""
    forward: Path
    """Folder of the model out of the texts' language, as ct2-transformers-converter writes it, with its tokenizer."""
    back: Path
    """Folder of the model into the texts' language; may be the same."""
    forward_prefix: str = ""
    """Words before each text that tell the model the direction, e.g. `translate English to German: ` for a T5."""
    back_prefix: str = ""
    """The same for the way back."""


AugmenterName = Literal["noise", "synonyms"]


def _kind_of(method: Any) -> Any:
    """Return the tag of a way to augment, so that a wrong one is told of one kind, not of all."""
    if isinstance(method, str):
        return "named"
    return method.get("translate") if isinstance(method, Mapping) else getattr(method, "translate", None)


Augmentation = Annotated[
    Annotated[AugmenterName, Tag("named")]
    | Annotated[ApertiumTranslation, Tag("apertium")]
    | Annotated[Seq2SeqTranslation, Tag("ctranslate2")],
    Discriminator(
        _kind_of,
        custom_error_type="augmentation",
        custom_error_message="expected noise, synonyms, {translate: apertium, pivot: ...} or {translate: ctranslate2, ...}",
    ),
]


class SynthesisConfig(Section):
    """How drafts are written."""

    drafts: int = Field(default=600, ge=0, le=1_000_000)
    """Drafts to ask for over all labels; 0 turns synthesis off."""
    shots: int = Field(default=4, ge=0, le=32)
    """Seed examples of the class that one prompt shows."""
    per_prompt: int = Field(default=16, ge=1, le=256)
    """Drafts sampled from one prompt; its prefix is computed once for them."""
    temperature: float = Field(default=1.0, gt=0, le=5)
    """Sampling temperature."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus: the share of probability that is sampled from."""
    max_tokens: int = Field(default=64, ge=4, le=2048)
    """The longest draft, in tokens of the reference."""
    augment: tuple[Augmentation, ...] = ()
    """Ways to change copies of real rows: `noise`, `synonyms` (English, WordNet), `{translate: apertium, pivot: es}`."""
    copies: int = Field(default=4, ge=1, le=64)
    """Augmented copies of one real row, at most, over all ways; they join the drafts."""


class FilterConfig(Section):
    """Which drafts are trained on."""

    agreement: float = Field(default=0.5, ge=0, lt=1)
    """Least agreement of a model of the real rows with a draft's label; above 0.5 the model says the same label."""
    likelihood: float | None = None
    """Least log-likelihood ratio per token, in nats, of a draft with its label against without; reads every draft twice."""


class GateConfig(Section):
    """How the decision for or against drafts is made."""

    folds: int = Field(default=4, ge=2, le=20)
    """Folds of the real rows; drafts that saw a held-out row are held out with it."""
    repeats: int = Field(default=1, ge=1, le=20)
    """Training seeds per fold."""


class RunConfig(Section):
    """A whole run."""

    task: Literal["classify"] = "classify"
    """The kind of task."""
    language: str = "auto"
    """`auto`, or an ISO 639-1 code such as `en` or `zh`: chooses the encoder and the text rules."""
    labels: Annotated[dict[str, str], Field(min_length=2)]
    """Each label with what it means, in plain words."""
    data: DataConfig = DataConfig()
    """The user's files."""
    reference: Reference = "embedded"
    """Who writes the drafts."""
    synthesis: SynthesisConfig = SynthesisConfig()
    """How drafts are written."""
    filter: FilterConfig = FilterConfig()
    """Which drafts are trained on."""
    learners: tuple[LearnerName, ...] = Field(default=("tfidf", "frozen", "contrastive"), min_length=1)
    """What the gate chooses among, with and without drafts."""
    gate: GateConfig = GateConfig()
    """How the decision is made."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """The root of all randomness."""

    @model_validator(mode="before")
    @classmethod
    def _describe_labels(cls, tree: Any) -> Any:
        """Let labels be a plain list of names: the name, in words, is then the description."""
        if isinstance(tree, Mapping) and isinstance(tree.get("labels"), Sequence) and not isinstance(tree["labels"], str):
            return {**tree, "labels": {str(name): str(name).replace("_", " ") for name in tree["labels"]}}
        return tree

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        blank = [name for name in self.labels if not name.strip()]
        if blank:
            raise ValueError("a label name is empty")
        return self

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read task.yaml and apply overrides such as `synthesis.drafts=4000`.

        Raises:
            ConfigError: the file is absent or is no such tree; each problem is a line.
        """
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such file", remedy="write one with: refsynth init DIR --from FILE") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})", expected="a task.yaml file") from error
        except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
            place = getattr(error, "problem_mark", None)
            where = f"{path} line {place.line + 1}" if place else str(path)
            raise ConfigError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: found {type(tree).__name__}, expected keys such as labels, data, seed")
        for override in overrides:
            _override(tree, override)
        config = cls.parse(tree, where=str(path))
        return config.model_copy(update={"data": _anchored(config.data, path.parent)})

    @classmethod
    def parse(cls, tree: Mapping[str, Any], *, where: str = "config") -> Self:
        """Validate a tree of plain values.

        Raises:
            ConfigError: it has unknown keys or values of the wrong kind; each problem is a line.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            lines = dict.fromkeys(_explain(problem) for problem in error.errors())
            raise ConfigError(f"{where}: " + "\n  ".join(lines), remedy="every key is explained in docs/config.md") from error

    def digest_of(self, *sections: str) -> dict[str, Any]:
        """Return the named sections as JSON-ready values, for a step's cache key."""
        return self.model_dump(mode="json", include=set(sections))


def _anchored(data: DataConfig, folder: Path) -> DataConfig:
    paths = {name: folder / path for name in ("train", "test") if (path := getattr(data, name)) is not None}
    return data.model_copy(update=paths)


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value", remedy="for example --set synthesis.drafts=4000")
    *parents, leaf = key.split(".")
    for parent in parents:
        branch = tree.get(parent)
        if not isinstance(branch, dict):  # absent, or a short form such as `reference: embedded`
            branch = tree[parent] = {}
        tree = branch
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error


BRANCHES: Mapping[str, type[BaseModel]] = {
    "EndpointReference": EndpointReference,
    "FolderReference": FolderReference,
    "apertium": ApertiumTranslation,
    "ctranslate2": Seq2SeqTranslation,
}
"""How pydantic names the branches of a union in the place of an error."""


def _known_keys(path: Sequence[str | int]) -> list[str]:
    """Return the keys known at a place in the tree (the parent of an offending key)."""
    model: type[BaseModel] = RunConfig
    for part in path:
        if part in BRANCHES:
            model = BRANCHES[str(part)]
            continue
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)


def _explain(problem: Any) -> str:
    path = [part for part in problem["loc"] if not str(part).startswith(("literal", "function"))]
    key = ".".join(str(part) for part in path if part not in (*BRANCHES, "named"))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        return f"unknown key '{key}'; {nearest(str(path[-1]), known) or 'known there: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"'{key}' is missing"
    found = repr(problem.get("input"))
    return f"{key or 'the file'}: {problem['msg']}, found {found if len(found) < 60 else found[:57] + '...'}"
