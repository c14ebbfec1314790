"""The manifest of a bundle: its tiers in the order in which they are used, and its files with sizes and hashes.

`files` reads the contents of the files. Hashes are not signatures: they do not tell who wrote the bundle.

A new field that older readers can ignore needs no new version: they skip it with a warning. A field without which answers would
be wrong needs a new version, which older readers refuse.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import warnings
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from refsynth.bundle.certificate import Calibration, EarlyExit, ManifestPart
from refsynth.bundle.rules import NoneFacts, UnsureRule
from refsynth.bundle.spec import TIERS, TierSpec
from refsynth.core.errors import BundleError
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.sections import Columns
from refsynth.core.spans import tag_names
from refsynth.core.windows import Windows
from refsynth.data.labels import Known
from refsynth.kinds import KINDS
from refsynth.kinds import Kind as Answers

MANIFEST = "manifest.json"
CARD = "README.md"
SCHEMA_VERSION = 4
"""The version of the format; each field without which an older reader would answer wrongly adds one."""

MANIFEST_BYTES = 16 << 20
NAMED, SHOWN = 5, 60
"""The most unknown fields that a warning names, and the most characters of each name."""


class FileEntry(ManifestPart):
    """The hash and size of a file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Label(ManifestPart):
    """A label and its meaning."""

    name: str = Field(min_length=1)
    description: str


class Figure(ManifestPart):
    """A measured value with its 95% interval and number of rows."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)


class TierEntry(ManifestPart):
    """A tier of a bundle: its kind and files, how it reads texts, how its probabilities are calibrated.

    `max_tokens`, `windows` and `prefix` tell how a text is read, `early` when a tier before the last answers.
    """

    kind: Annotated[str, AfterValidator(TIERS.known)]
    files: tuple[str, ...]
    max_tokens: int | None = Field(default=None, ge=2, le=1 << 20)
    windows: Windows = "cut"
    prefix: str = ""
    calibration: Calibration
    early: EarlyExit | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if sorted(self.files) != sorted(map(self.named, self.spec.names)):
            named = ", ".join(sorted(self.spec.names))
            raise ValueError(f"the files of a tier of kind {self.kind}: expected {named}, or some of them after '{self.kind}-'")
        if (self.max_tokens is not None) != self.spec.tokens:
            raise ValueError(f"a tier of kind {self.kind} has {'a' if self.spec.tokens else 'no'} max_tokens")
        return self

    @property
    def spec(self) -> TierSpec:
        """The spec of its kind."""
        return TIERS[self.kind]

    def named(self, name: str) -> str:
        """Return the name of one of its files in the folder: its own file, or the one that it shares with the last tier."""
        own = f"{self.kind}-{name}"
        return own if own in self.files else name


class Facts(ManifestPart):
    """What a run records of a bundle in addition to its tiers.

    Attributes:
        columns: the columns of the user's files.
        merge: whether labels that differ only in case, spaces or Unicode form are the same.
        rows: the run's hash of the rows; empty without a run.
        few_words: whether the vocabulary shows which pieces of words occur in the training texts.
        unsure: how the threshold was chosen; None if no labeled rows chose it.
        none: when a text is about none of the labels.
        tested: names of the figures that were measured on a test file.
        lineage: where the model comes from, for people; no code reads it to decide anything.
    """

    columns: Columns = Columns()
    merge: bool = False
    rows: str = ""
    few_words: bool = False
    unsure: UnsureRule | None = None
    none: NoneFacts = NoneFacts()
    tested: tuple[str, ...] = ()
    lineage: dict[str, JsonValue] = Field(default_factory=dict)


class Manifest(Facts):
    """The manifest of a bundle.

    Each of the `tiers` answers what the one before passes on; the last always answers. `intervals` describes how the intervals
    of `metrics` were computed.
    """

    schema_version: int
    task: Annotated[KindName, AfterValidator(TASK_KINDS.known)] = "classify"
    refsynth: str
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    language: str
    tiers: Annotated[tuple[TierEntry, ...], Field(min_length=1)]
    golden_limit: float = Field(gt=0, le=1)
    metrics: dict[str, Figure]
    intervals: str
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _order(self) -> Self:
        if len({tier.kind for tier in self.tiers}) < len(self.tiers):
            raise ValueError("a kind of tier occurs twice")
        if set(self.last.files) != self.last.spec.names:
            raise ValueError("the files of the last tier have the prefix of its kind, expected plain names")
        for tier in self.tiers:
            if (tier.early is None) != (tier is self.last):
                raise ValueError("each tier except the last needs the field 'early', and the last must not have it")
            if tier.early and (tier.early.confidence == "answer") != (self.answers.several or self.answers.words):
                raise ValueError(f"confidence '{tier.early.confidence}' of a tier does not fit task {self.task}")
            if tier.calibration.thresholds != self.calibration.thresholds:
                raise ValueError("the tiers have different thresholds for labels")
        return self

    @model_validator(mode="after")
    def _thresholds(self) -> Self:
        expected = len(self.labels) if self.answers.several and self.calibration.thresholds else 0
        if len(self.calibration.thresholds) != expected:
            raise ValueError(f"{len(self.calibration.thresholds)} thresholds for {len(self.labels)} labels of task {self.task}")
        return self

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if len(self.labels) < self.answers.least:
            raise ValueError(f"{len(self.labels)} labels, expected at least {self.answers.least} for task {self.task}")
        for tier in self.tiers:
            if tier.spec.words != self.answers.words:
                raise ValueError(f"a tier of kind {tier.kind} does not fit task {self.task}")
        return self

    @property
    def last(self) -> TierEntry:
        """The last tier, which always answers."""
        return self.tiers[-1]

    @property
    def calibration(self) -> Calibration:
        """The calibration of the last tier."""
        return self.last.calibration

    @property
    def names(self) -> frozenset[str]:
        """The names of all files except the manifest."""
        return frozenset({CARD, *(name for tier in self.tiers for name in tier.files)})

    @property
    def width(self) -> int:
        """The number of columns of the logits: labels, or tags of words."""
        return len(tag_names([label.name for label in self.labels])) if self.answers.words else len(self.labels)

    @property
    def pairs(self) -> bool:
        """Whether each row is two texts."""
        return TASK_KINDS[self.task].pair

    @property
    def answers(self) -> Answers:
        """The `Kind` of its task."""
        return KINDS[self.task]

    @property
    def known(self) -> Known:
        """A lookup of its labels by their spelling in files and requests."""
        return Known((label.name for label in self.labels), merge=self.merge)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len({label.name for label in labels}) < len(labels):
            raise ValueError("a label occurs twice")
        return labels


class _Version(BaseModel):
    model_config = ConfigDict(strict=True)
    schema_version: int


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle, whose folder must have exactly the files that it lists.

    Raises:
        BundleError: the manifest is missing, malformed or of another version; or a file is missing or not listed.
    """
    manifest = _parse(folder / MANIFEST, _read(folder))
    _same_names(set(manifest.files), manifest.names, where=str(folder / MANIFEST))
    _same_names({path.name for path in folder.iterdir()} - {MANIFEST}, manifest.names, where=str(folder))
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
        _check_version(path, _Version.model_validate_json(data).schema_version)
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as error:
            places = _unknown(error)
            manifest = Manifest.model_validate_json(_without(data, places))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise BundleError(
            f"{path}: {_dotted(problem['loc']) or 'the file'}: {problem['msg']}",
            remedy="the bundle is damaged: export or copy it again",
        ) from error
    more = f" and {len(places) - NAMED:,} more" if len(places) > NAMED else ""
    warnings.warn(
        f"{path}: ignored fields that this refsynth does not know: {', '.join(map(_dotted, places[:NAMED]))}{more}",
        RuntimeWarning,
        stacklevel=2,
    )
    return manifest


def _check_version(path: Path, version: int) -> None:
    remedy = "a newer refsynth made it: upgrade refsynth, or make the bundle again with this one"
    if version < SCHEMA_VERSION:
        remedy = "an older refsynth made it: run its task again with this one"
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path}: bundle format {version}", expected=f"{SCHEMA_VERSION}", remedy=remedy)


Place = tuple[int | str, ...]


def _unknown(error: ValidationError) -> Sequence[Place]:
    """Return the places of unknown fields in a manifest.

    Raises:
        ValidationError: there are none, so that something else is wrong.
    """
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    places = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    if not places:
        raise error
    return places


def _without(data: bytes, places: Sequence[Place]) -> bytes:
    """Return a manifest without the fields in these places."""
    tree = json.loads(data)
    for place in places:
        holder = tree
        for step in place[:-1]:
            holder = holder[step]
        del holder[place[-1]]
    return json.dumps(tree).encode()


def _dotted(place: Place) -> str:
    """Return a place in a manifest as a dotted name; untrusted parts are escaped and shortened."""
    return ".".join(repr(step)[1:-1][:SHOWN] if isinstance(step, str) else str(step) for step in place)


def _same_names(found: Set[str], expected: Set[str], *, where: str) -> None:
    for name in sorted(expected - found):
        raise BundleError(f"{where}: {name!r} is missing", remedy="the bundle is incomplete: export or copy it again")
    for name in sorted(found - expected):
        raise BundleError(f"{where}: {name!r} does not belong to a bundle", remedy="remove it, or export the bundle again")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a plain file and yield it with its size; the checks are on the open file, so that it cannot be swapped after them.

    Raises:
        BundleError: it is not a plain file, for example a link.
        OSError: it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # do not wait for a pipe
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
