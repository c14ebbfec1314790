"""The manifest of a bundle: its tiers in order of asking, and which files there must be, with which sizes and hashes.

What is in the files is for `files` to read. Hashes are no signature: they say nothing of who the writer was.

A field that an older reader may do without is added without a new version: it is ignored there, with a warning. One without which
answers would be wrong comes with a new version, which an older reader refuses.
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
"""Of the content of all bundles. One more for each field without which an older reader would answer wrongly."""

MANIFEST_BYTES = 16 << 20
NAMED, SHOWN = 5, 60
"""Unknown fields that a warning names, and characters of the name of each, at most."""


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


class TierEntry(ManifestPart):
    """A tier of a bundle: its kind and files, how it reads texts, how its probabilities are calibrated.

    `max_tokens`, `windows` and `prefix` say what is read of a text. `early` says when a tier answers that is not the last.
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
        """What there is to know of its kind."""
        return TIERS[self.kind]

    def named(self, name: str) -> str:
        """Return the name of one of its files: its own, or that which it shares with the last tier."""
        own = f"{self.kind}-{name}"
        return own if own in self.files else name


class Facts(ManifestPart):
    """What a run says of a bundle that is no part of its tiers.

    Attributes:
        columns: of the user's files, that it learned from.
        merge: whether labels that differ only in case, spaces or Unicode form are one.
        rows: the hash of the rows that its run read, as its run has it; empty where there was no run.
        few_words: whether its tokens show which pieces of words occur in the texts that it learned from.
        unsure: how its threshold was chosen; None where no labeled rows chose it.
        none: when a text is about none of its labels.
        tested: those of its figures that are of a test file.
        lineage: how it came about, for people: nothing is decided by it.
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
    """What a bundle says of itself.

    `tiers` are asked in their order, each what the one before passes on; the last answers always. `intervals` says how those of
    `metrics` were made.
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
            raise ValueError("the last tier shares its files with others and has no names of its own")
        for tier in self.tiers:
            if (tier.early is None) != (tier is self.last):
                raise ValueError("each tier but the last, and not that one, has a threshold from which on it answers")
            if tier.early and (tier.early.confidence == "answer") != (self.answers.several or self.answers.spans):
                raise ValueError(f"confidence '{tier.early.confidence}' of a tier for task {self.task}")
            if tier.calibration.thresholds != self.calibration.thresholds:
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
        for tier in self.tiers:
            if tier.spec.words != self.answers.spans:
                raise ValueError(f"a tier of kind {tier.kind} for task {self.task}")
        return self

    @property
    def last(self) -> TierEntry:
        """The tier that answers always, and whose figures the bundle has."""
        return self.tiers[-1]

    @property
    def calibration(self) -> Calibration:
        """That of the last tier."""
        return self.last.calibration

    @property
    def names(self) -> frozenset[str]:
        """The files of the folder beside the manifest."""
        return frozenset({CARD, *(name for tier in self.tiers for name in tier.files)})

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
    model_config = ConfigDict(strict=True)
    schema_version: int


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle's folder that holds the files that it names, no more and no less.

    Raises:
        BundleError: the manifest is absent, unknown or malformed; a file is missing or not listed.
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
    """Return where a manifest has fields that nobody knows.

    Raises:
        ValidationError: there are none: something else is wrong with it.
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
    """Return a place in a manifest, of which any part may be of a stranger."""
    return ".".join(repr(step)[1:-1][:SHOWN] if isinstance(step, str) else str(step) for step in place)


def _same_names(found: Set[str], expected: Set[str], *, where: str) -> None:
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
