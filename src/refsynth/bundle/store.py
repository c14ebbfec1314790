"""Writes a bundle from `Contents`; the folder appears complete and tested, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from safetensors.numpy import save as save_tensors

from refsynth.bundle.card import render_card
from refsynth.bundle.certificate import Calibration, EarlyExit
from refsynth.bundle.golden import GOLDEN_LIMIT, GOLDEN_TEXTS, flat
from refsynth.bundle.manifest import CARD, MANIFEST, SCHEMA_VERSION, Facts, Figure, FileEntry, Label, Manifest, TierEntry
from refsynth.bundle.model import load
from refsynth.bundle.none import NEAR, NEAR_BIAS
from refsynth.bundle.packing import PackedTier
from refsynth.bundle.spec import GOLDEN, HEAD
from refsynth.core.errors import InputError
from refsynth.core.files import indented, write_json
from refsynth.core.hashes import file_digest
from refsynth.core.intervals import INTERVALS
from refsynth.core.kinds import KindName
from refsynth.core.protocols import Predictor
from refsynth.core.types import Metric
from refsynth.kinds import KINDS, as_floats
from refsynth.models.predict import LinearHead


@dataclass(frozen=True)
class TierContents:
    """Everything that goes into a tier.

    Attributes:
        packed: its files and tensors.
        reference: the same model in fp32, as it was evaluated; its probabilities are the golden outputs.
        calibration: temperature and thresholds.
        early: when the tier answers, if it is not the last.
        near: tells which texts are unlike all labels' rows, see `models.nearness.below`.
    """

    packed: PackedTier
    reference: Predictor
    calibration: Calibration
    early: EarlyExit | None = None
    near: LinearHead | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that goes into a bundle.

    `labels` maps each of K labels, in order, to its description. `tiers` are in the order in which they are used.
    """

    labels: Mapping[str, str]
    language: str
    task: KindName = "classify"
    tiers: Sequence[TierContents]
    metrics: Sequence[Metric] = ()
    facts: Facts = field(default_factory=Facts)

    @classmethod
    def like(cls, manifest: Manifest, tiers: Sequence[TierContents], **others: Any) -> Self:
        """Return the contents of another bundle for the same task."""
        labels = {label.name: label.description for label in manifest.labels}
        return cls(labels=labels, language=manifest.language, task=manifest.task, tiers=tiers, **others)


def save(folder: Path, contents: Contents) -> None:
    """Write a bundle, replace an existing one, and open it once to check that it gives its golden outputs.

    Raises:
        InputError: the folder holds something that is not a bundle, or the labels are not those of the reference.
        BundleError: the exported model does not agree with the reference; nothing was written.
    """
    for tier in contents.tiers:
        if tuple(contents.labels) != tier.reference.labels:
            raise InputError(f"labels {', '.join(contents.labels)}", expected=f"those of the reference: {tier.reference.labels}")
    check_place(folder)
    with partial_folder(folder) as partial:
        _write(partial, contents)
        load(partial).check()
        _replace(partial, folder)


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, to be renamed to it when it is complete; otherwise it is deleted in the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_place(folder: Path) -> None:
    """Check that a bundle may be written to a folder.

    Raises:
        InputError: the folder holds something that is not a bundle.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty and not a bundle", remedy="name a new folder")


def _write(folder: Path, contents: Contents) -> None:
    *before, last = contents.tiers
    end = _write_tier(folder, contents.task, last, last=True)  # the others may share its files
    entries = [*(_write_tier(folder, contents.task, tier, last=False) for tier in before), end]
    _describe(folder, _manifest(contents, entries), limits=())


def _write_tier(folder: Path, task: KindName, tier: TierContents, *, last: bool) -> TierEntry:
    """Write the files of a tier: those of the last under plain names, others with the prefix of the tier's kind, or shared."""
    packed, tensors, names = tier.packed, dict(tier.packed.tensors), []
    if tier.near is not None:
        likeness = tier.near.tensors()
        tensors |= {NEAR: likeness["weights"], NEAR_BIAS: likeness["bias"]}
    logits = as_floats(tier.reference.logits(GOLDEN_TEXTS))
    probabilities = flat(KINDS[task].probabilities(logits / tier.calibration.temperature))
    golden = indented({"texts": GOLDEN_TEXTS, "probabilities": probabilities.round(6).tolist()})
    for name, content in {**packed.files, HEAD: save_tensors(tensors), GOLDEN: golden}.items():
        shared = not last and _same(folder / name, content)
        names.append(name if last or shared else f"{packed.kind}-{name}")
        if isinstance(content, bytes):
            (folder / names[-1]).write_bytes(content)
        elif not shared:
            shutil.copyfile(content, folder / names[-1])
    return TierEntry(
        kind=packed.kind,
        files=tuple(sorted(names)),
        max_tokens=packed.max_tokens,
        windows=packed.windows,
        prefix=packed.prefix,
        calibration=tier.calibration,
        early=tier.early,
    )


def _same(path: Path, content: bytes | Path) -> bool:
    return path.exists() and path.read_bytes() == (content if isinstance(content, bytes) else content.read_bytes())


def restate(folder: Path, manifest: Manifest, *, limits: Sequence[str] = ()) -> None:
    """Write the card and the manifest of a bundle again; the files of the model stay unchanged.

    Only for folders that nobody reads yet: a process that dies in between leaves a bundle that does not open.

    Raises:
        BundleError: the bundle does not open with this manifest.
    """
    _describe(folder, manifest, limits=limits)
    load(folder).check()


def _describe(folder: Path, manifest: Manifest, *, limits: Sequence[str]) -> None:
    (folder / CARD).write_text(render_card(manifest, limits=limits), encoding="utf-8")
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    files = {path.name: FileEntry(sha256=file_digest(path), size=path.stat().st_size) for path in paths}
    write_json(folder / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))


def _manifest(contents: Contents, tiers: Sequence[TierEntry]) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        task=contents.task,
        refsynth=version("refsynth"),
        labels=tuple(Label(name=name, description=description) for name, description in contents.labels.items()),
        language=contents.language,
        tiers=tuple(tiers),
        golden_limit=GOLDEN_LIMIT,
        metrics=figures_of(contents.metrics),
        intervals=INTERVALS,
        files={},
        **dict(contents.facts),
    )


def figures_of(metrics: Sequence[Metric]) -> dict[str, Figure]:
    """Return figures in the form of a manifest."""
    return {each.name: Figure(**{name: value for name, value in asdict(each).items() if name != "name"}) for each in metrics}


def _replace(partial: Path, folder: Path) -> None:
    """Rename the new folder into place; an old bundle is moved away first, since folders cannot be swapped atomically."""
    for path in (*partial.iterdir(), partial):
        _flush(path)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
