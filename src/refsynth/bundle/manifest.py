"""The manifest of a bundle and its check: which files there must be, with which sizes and hashes.

`verify` reads nothing but the manifest and the bytes of the files; it parses none of them. After it, the folder holds what its
writer put there, no more and no less. That says nothing of who the writer was: hashes are no signature.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from refsynth.core.errors import BundleError
from refsynth.core.run import file_digest
from refsynth.core.sections import TaskKind
from refsynth.core.spans import tag_names
from refsynth.core.types import FloatArray
from refsynth.kinds import KINDS
from refsynth.kinds import Kind as Answers
from refsynth.metrics import lead_of

MANIFEST = "manifest.json"
MANIFEST_BYTES = 16 << 20
VOID_LEVEL = 0.01
Kind = Literal["encoder", "tfidf", "static", "cascade", "tagger", "crf"]


@dataclass(frozen=True)
class Layout:
    """The files of one kind of bundle in one version of the format, beside the manifest."""

    schema_version: int
    kind: Kind
    files: tuple[str, ...]


LAYOUTS = (
    Layout(
        1,
        "encoder",
        ("README.md", "golden.json", "head.safetensors", "int8.onnx", "safe.onnx", "tokenizer.json", "weights.bin"),
    ),
    Layout(1, "tfidf", ("README.md", "golden.json", "head.safetensors", "vocabulary.json")),
    Layout(2, "static", ("README.md", "golden.json", "head.safetensors", "tokenizer.json")),
    Layout(
        2,
        "cascade",
        (
            "README.md",
            "golden-static.json",
            "golden.json",
            "head.safetensors",
            "int8.onnx",
            "safe.onnx",
            "static.safetensors",
            "tokenizer.json",
            "weights.bin",
        ),
    ),
    Layout(
        3,
        "tagger",
        ("README.md", "golden.json", "head.safetensors", "int8.onnx", "safe.onnx", "tokenizer.json", "weights.bin"),
    ),
    Layout(3, "crf", ("README.md", "features.json", "golden.json", "head.safetensors")),
)
NEWEST: Mapping[Kind, int] = {layout.kind: layout.schema_version for layout in LAYOUTS}
"""The version that a bundle of a kind is written in: what an older refsynth can read stays readable to it."""
SCHEMA_VERSION = max(layout.schema_version for layout in LAYOUTS)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileEntry(_Part):
    """What a file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Label(_Part):
    """A label and what it means."""

    name: str = Field(min_length=1)
    description: str


class Calibration(_Part):
    """Probabilities are softmax(logits / temperature); below `threshold` the model abstains.

    Where a text may have any number of labels they are sigmoids, and a label is said from its own of the `thresholds` on. `risk`
    and `coverage` are the error among the answered and the share answered that were measured at this threshold.
    """

    temperature: float = Field(default=1.0, gt=0)
    threshold: float = Field(default=0.0, ge=0, le=1)
    risk: float | None = Field(default=None, ge=0, le=1)
    coverage: float | None = Field(default=None, ge=0, le=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @property
    def cuts(self) -> FloatArray | None:
        """The thresholds [K]."""
        return np.array(self.thresholds) if self.thresholds else None


class Figure(_Part):
    """A measured value with its 95% interval and number of rows."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)


class Certificate(_Part):
    """What was shown of the first tier of a cascade, by Learn-then-Test on unlabelled texts that neither tier had seen.

    With probability 1 - `delta` over the draw of the `n` texts, at most the share `alpha` of texts drawn like them is answered
    otherwise than the second tier would. Of the `n` the first tier answered `answered`, `disagreed` of them otherwise.
    """

    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    n: int = Field(ge=1)
    answered: int = Field(ge=0)
    disagreed: int = Field(ge=0)
    assumptions: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of texts that the first tier is expected to answer."""
        return self.answered / self.n

    def shifted(self, answered: int, n: int) -> bool:
        """Return whether so many answered of `n` later texts mean that these are drawn otherwise: the certificate is void.

        The two shares differ by more than chance gives 99 times of 100 (Hoeffding's bound of each, at most half of 1% together).
        A shift that leaves the share as it was goes unseen.
        """
        slack = math.sqrt(math.log(2 / VOID_LEVEL) / 2) * math.sqrt(1 / self.n + 1 / max(n, 1))
        return n > 0 and abs(answered / n - self.share) > slack


class FirstTier(_Part):
    """The static tier of a cascade: it answers where its confidence is at least `threshold`, and passes the others on.

    Its confidence is the probability of the likeliest label, or the odds of that against the next, as a share of both.
    """

    threshold: float = Field(ge=0, le=1)
    confidence: Literal["probability", "odds"] = "probability"
    calibration: Calibration
    certificate: Certificate

    def passes_on(self, probabilities: FloatArray) -> NDArray[np.bool_]:
        """Return which texts are for the second tier [N], given calibrated probabilities [N, K] of the first."""
        sure = lead_of(probabilities) if self.confidence == "odds" else probabilities.max(1)
        return np.asarray(sure < self.threshold)


class Manifest(_Part):
    """What a bundle says of itself. Of a cascade `calibration` is that of the second tier."""

    schema_version: int
    kind: Kind
    task: TaskKind = "classify"
    refsynth: str
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    language: str
    max_tokens: int | None = Field(default=None, ge=2, le=1 << 20)
    prefix: str = ""
    calibration: Calibration
    golden_limit: float = Field(gt=0, le=1)
    metrics: dict[str, Figure]
    lineage: dict[str, JsonValue]
    files: dict[str, FileEntry]
    first: FirstTier | None = None

    @model_validator(mode="after")
    def _tiers(self) -> Self:
        if (self.first is not None) != (self.kind == "cascade"):
            raise ValueError("a cascade, and nothing else, has a first tier")
        return self

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        wanted = len(self.labels) if self.task == "multilabel" and self.calibration.thresholds else 0
        if len(self.calibration.thresholds) != wanted:
            raise ValueError(f"{len(self.calibration.thresholds)} thresholds for {len(self.labels)} labels of task {self.task}")
        return self

    @model_validator(mode="after")
    def _of_task(self) -> Self:
        if len(self.labels) < self.answers.least:
            raise ValueError(f"{len(self.labels)} labels for task {self.task}")
        if (self.kind in ("tagger", "crf")) != self.answers.spans:
            raise ValueError(f"a bundle of kind {self.kind} for task {self.task}")
        return self

    @property
    def width(self) -> int:
        """The number of columns of its logits: labels, or tags of words."""
        return len(tag_names([label.name for label in self.labels])) if self.answers.spans else len(self.labels)

    @property
    def answers(self) -> Answers:
        """How its answers are made."""
        return KINDS[self.task]

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len({label.name for label in labels}) < len(labels):
            raise ValueError("a label occurs twice")
        return labels


class _Version(BaseModel):
    schema_version: int


def verify(folder: Path) -> Manifest:
    """Check a bundle's folder and return its manifest.

    Raises:
        BundleError: the manifest is absent, unknown or malformed; a file is missing, altered, not a plain file or not listed.
    """
    manifest = _parse(folder / MANIFEST, _read(folder))
    layout = next(
        (known for known in LAYOUTS if (known.schema_version, known.kind) == (manifest.schema_version, manifest.kind)), None
    )
    if layout is None:
        raise BundleError(f"{folder / MANIFEST}: no '{manifest.kind}' bundle in format {manifest.schema_version}")
    _same_names(set(manifest.files), set(layout.files), where=str(folder / MANIFEST))
    _same_names({path.name for path in folder.iterdir()} - {MANIFEST}, set(layout.files), where=str(folder))
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry)
    return manifest


def _read(folder: Path) -> bytes:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder", expected=f"a bundle: a folder with {MANIFEST}")
    try:
        size = _plain_size(path)
        if size > MANIFEST_BYTES:
            raise BundleError(f"{path}: {size:,} bytes", expected=f"at most {MANIFEST_BYTES:,}")
        return path.read_bytes()
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


def _plain_size(path: Path) -> int:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a file"
        raise BundleError(f"{path}: is {kind}", expected="plain files only", remedy="copy the bundle with its contents")
    return status.st_size


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        size = _plain_size(path)
        intact = size == entry.size and file_digest(path) == entry.sha256
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if not intact:
        raise BundleError(
            f"{path}: was changed after the bundle was written",
            expected=f"{entry.size:,} bytes with sha256 {entry.sha256[:12]}…, found {size:,} bytes",
            remedy="export or copy the bundle again",
        )
