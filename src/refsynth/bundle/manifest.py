"""The manifest of a bundle: which files there must be, with which sizes and hashes.

What is in the files is for `files` to read. Hashes are no signature: they say nothing of who the writer was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, JsonValue, ValidationError, field_validator, model_validator

from refsynth.bundle.certificate import Calibration, FirstTier, ManifestPart
from refsynth.core.errors import BundleError
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.sections import Columns
from refsynth.core.spans import tag_names
from refsynth.core.windows import Windows
from refsynth.data.labels import Known
from refsynth.kinds import KINDS
from refsynth.kinds import Kind as Answers

MANIFEST = "manifest.json"
MERGE = "merge"
"""In the lineage: whether labels that differ only in case, spaces or Unicode form are one."""
COLUMNS = "columns"
"""In the lineage: which columns of the user's files hold what."""
MANIFEST_BYTES = 16 << 20
Kind = Literal["encoder", "tfidf", "static", "cascade", "tagger", "crf", "tagger_cascade"]
OF_WORDS: frozenset[Kind] = frozenset({"tagger", "crf", "tagger_cascade"})
CASCADES: frozenset[Kind] = frozenset({"cascade", "tagger_cascade"})


@dataclass(frozen=True)
class Layout:
    """The files of one kind of bundle in one version of the format, beside the manifest."""

    schema_version: int
    kind: Kind
    files: tuple[str, ...]


ENCODER_LAYOUT = ("README.md", "golden.json", "head.safetensors", "int8.onnx", "safe.onnx", "tokenizer.json", "weights.bin")
CASCADE_LAYOUT = (*ENCODER_LAYOUT, "golden-static.json", "static.safetensors")
LAYOUTS = (
    Layout(1, "encoder", ENCODER_LAYOUT),
    Layout(1, "tfidf", ("README.md", "golden.json", "head.safetensors", "vocabulary.json")),
    Layout(2, "static", ("README.md", "golden.json", "head.safetensors", "tokenizer.json")),
    Layout(2, "cascade", CASCADE_LAYOUT),
    Layout(3, "tagger", ENCODER_LAYOUT),
    Layout(3, "crf", ("README.md", "features.json", "golden.json", "head.safetensors")),
    Layout(3, "tagger_cascade", ("features.json", *CASCADE_LAYOUT)),
)
NEWEST: Mapping[Kind, int] = {layout.kind: layout.schema_version for layout in LAYOUTS}
"""The version that a bundle of a kind is written in: what an older refsynth can read stays readable to it."""
SCHEMA_VERSION = max(layout.schema_version for layout in LAYOUTS)


class FileEntry(ManifestPart):
    """What a file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Label(ManifestPart):
    """A label and what it means."""

    name: str = Field(min_length=1)
    description: str


class Figure(ManifestPart):
    """A measured value with its 95% interval and number of rows."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)


class Manifest(ManifestPart):
    """What a bundle says of itself.

    Of a cascade `calibration` is that of the second tier. `intervals` says how those of `metrics` were made.
    """

    schema_version: int
    kind: Kind
    task: Annotated[KindName, AfterValidator(TASK_KINDS.known)] = "classify"
    refsynth: str
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    language: str
    max_tokens: int | None = Field(default=None, ge=2, le=1 << 20)
    windows: Windows = "cut"
    prefix: str = ""
    calibration: Calibration
    golden_limit: float = Field(gt=0, le=1)
    metrics: dict[str, Figure]
    intervals: str
    lineage: dict[str, JsonValue]
    files: dict[str, FileEntry]
    first: FirstTier | None = None

    @model_validator(mode="after")
    def _tiers(self) -> Self:
        if (self.first is not None) != (self.kind in CASCADES):
            raise ValueError("a cascade, and nothing else, has a first tier")
        if self.first is not None:
            if (self.first.confidence == "answer") != (self.answers.several or self.answers.spans):
                raise ValueError(f"confidence '{self.first.confidence}' of a first tier for task {self.task}")
            if self.first.calibration.thresholds != self.calibration.thresholds:
                raise ValueError("the tiers have different thresholds for labels")
        return self

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        wanted = len(self.labels) if self.answers.several and self.calibration.thresholds else 0
        if len(self.calibration.thresholds) != wanted:
            raise ValueError(f"{len(self.calibration.thresholds)} thresholds for {len(self.labels)} labels of task {self.task}")
        return self

    @model_validator(mode="after")
    def _of_task(self) -> Self:
        if len(self.labels) < self.answers.least:
            raise ValueError(f"{len(self.labels)} labels for task {self.task}")
        if (self.kind in OF_WORDS) != self.answers.spans:
            raise ValueError(f"a bundle of kind {self.kind} for task {self.task}")
        return self

    @property
    def width(self) -> int:
        """The number of columns of its logits: labels, or tags of words."""
        return len(tag_names([label.name for label in self.labels])) if self.answers.spans else len(self.labels)

    @property
    def pairs(self) -> bool:
        """Whether each row is two texts."""
        return TASK_KINDS[self.task].pair

    @property
    def answers(self) -> Answers:
        """How its answers are made."""
        return KINDS[self.task]

    @property
    def columns(self) -> Columns:
        """The columns that it learnt from; the usual ones where a bundle does not say, as older ones do not."""
        try:
            return Columns.model_validate(self.lineage.get(COLUMNS, {}))
        except ValidationError:
            return Columns()

    @property
    def merge(self) -> bool:
        """Whether its labels are found whatever their case, spaces and Unicode form."""
        return self.lineage.get(MERGE) is True

    @property
    def known(self) -> Known:
        """Its labels as they are found by what a file or a request has for them."""
        return Known((label.name for label in self.labels), merge=self.merge)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len({label.name for label in labels}) < len(labels):
            raise ValueError("a label occurs twice")
        return labels


class _Version(BaseModel):
    schema_version: int


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle's folder that holds the files that it names, no more and no less.

    Raises:
        BundleError: the manifest is absent, unknown or malformed; a file is missing or not listed.
    """
    manifest = _parse(folder / MANIFEST, _read(folder))
    layout = next(
        (known for known in LAYOUTS if (known.schema_version, known.kind) == (manifest.schema_version, manifest.kind)), None
    )
    if layout is None:
        raise BundleError(f"{folder / MANIFEST}: no '{manifest.kind}' bundle in format {manifest.schema_version}")
    _same_names(set(manifest.files), set(layout.files), where=str(folder / MANIFEST))
    _same_names({path.name for path in folder.iterdir()} - {MANIFEST}, set(layout.files), where=str(folder))
    return manifest


def _read(folder: Path) -> bytes:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder", expected=f"a bundle: a folder with {MANIFEST}")
    try:
        with opened(path) as (stream, size):
            if size > MANIFEST_BYTES:
                raise BundleError(f"{path}: {size:,} bytes", expected=f"at most {MANIFEST_BYTES:,}")
            return stream.read(MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: not a bundle, {MANIFEST} is missing", remedy="name the folder `bundle` of a run") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path, data: bytes) -> Manifest:
    try:
        version = _Version.model_validate_json(data).schema_version
        if version not in {layout.schema_version for layout in LAYOUTS}:
            raise BundleError(
                f"{path}: bundle format {version}",
                expected=f"at most {SCHEMA_VERSION}",
                remedy="a newer refsynth made it: upgrade refsynth, or export the bundle again",
            )
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise BundleError(
            f"{path}: {place}: {problem['msg']}", remedy="the bundle is damaged: export or copy it again"
        ) from error


def _same_names(found: set[str], expected: set[str], *, where: str) -> None:
    for name in sorted(expected - found):
        raise BundleError(f"{where}: {name!r} is missing", remedy="the bundle is incomplete: export or copy it again")
    for name in sorted(found - expected):
        raise BundleError(f"{where}: {name!r} does not belong to a bundle", remedy="remove it, or export the bundle again")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a plain file, and give its size with it; what is opened is what was looked at.

    Raises:
        BundleError: it is a link or another thing.
        OSError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not be waited for
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_plain_file(path, "a symbolic link") from error
        raise
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _no_plain_file(path, "not a file")
        yield stream, status.st_size


def _no_plain_file(path: Path, kind: str) -> BundleError:
    return BundleError(f"{path}: is {kind}", expected="plain files only", remedy="copy the bundle with its contents")
