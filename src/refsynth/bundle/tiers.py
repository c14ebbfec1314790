"""Opens the tiers of a bundle as predictors, each of which tests itself on the golden texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from refsynth.bundle.certificate import Calibration, EarlyExit
from refsynth.bundle.files import Files
from refsynth.bundle.golden import TOLERATED, Golden, flat, parse_golden
from refsynth.bundle.manifest import TierEntry
from refsynth.bundle.none import NEAR, NEAR_BIAS
from refsynth.bundle.opening import Opening, fits
from refsynth.bundle.spec import GOLDEN, HEAD
from refsynth.core.errors import BundleError, ModelError
from refsynth.core.protocols import Predictor, Truncating
from refsynth.core.registry import load
from refsynth.core.types import Array, BoolArray, FloatArray
from refsynth.kinds import Kind, as_floats
from refsynth.models.nearness import strange, with_near
from refsynth.models.predict import LinearHead


@dataclass(frozen=True)
class Tier:
    """A predictor that gave its golden outputs on this machine, and its part of the manifest.

    `variant` is the arithmetic that runs. `near` reads the same features and tells which texts are unlike all labels' rows; None
    if the bundle cannot tell.
    """

    variant: str
    predictor: Predictor
    entry: TierEntry
    golden: Golden
    kind: Kind
    near: LinearHead | None = None

    @property
    def calibration(self) -> Calibration:
        """The calibration of its probabilities."""
        return self.entry.calibration

    @property
    def early(self) -> EarlyExit | None:
        """When it answers; None for the last tier, which always answers."""
        return self.entry.early

    def truncates(self, text: str) -> bool:
        """Return whether only part of a clean text is read; tiers that read no tokens read all of it."""
        return isinstance(self.predictor, Truncating) and self.predictor.truncates(text)

    def probabilities(self, texts: Sequence[str]) -> Array:
        """Return calibrated probabilities of clean texts [N, K], or of the words of each text [N]."""
        return self.kind.probabilities(as_floats(self.predictor.logits(texts)) / self.calibration.temperature)

    def answer(self, texts: Sequence[str]) -> tuple[Array, BoolArray]:
        """Return the probabilities, and which texts are about none of the labels [N]."""
        if self._with_near is None:
            return self.probabilities(texts), np.zeros(len(texts), bool)
        outputs, k = as_floats(self._with_near.logits(texts)), len(self.predictor.labels)
        return self.kind.probabilities(outputs[:, :k] / self.calibration.temperature), strange(outputs[:, k:])

    @cached_property
    def _with_near(self) -> Predictor | None:
        """Gives logits and likeness in one pass; None without likeness."""
        return None if self.near is None else with_near(self.predictor, self.near)


def open_tier(files: Files, place: int, threads: int) -> Tier:
    """Open the tier in a place of a bundle.

    Raises:
        BundleError: it is damaged, or does not give its golden outputs on this machine.
    """
    manifest, entry = files.manifest, files.manifest.tiers[place]
    try:
        golden = parse_golden(files.read(entry.named(GOLDEN)), manifest.width, words=manifest.answers.words)
        return _first_good(files, entry, golden, threads)
    except ModelError as error:
        raise BundleError(f"{files.folder}: {error}", remedy="export the bundle again") from error


def _first_good(files: Files, entry: TierEntry, golden: Golden, threads: int) -> Tier:
    folder, manifest, kind, failed = files.folder, files.manifest, files.manifest.answers, 0.0
    for variant in entry.spec.variants:
        predictor, near = _open(files, entry, variant, threads)
        tier = Tier(variant, predictor, entry, golden, kind, near)
        off = golden.share_off(flat(tier.probabilities(golden.texts)), limit=manifest.golden_limit, several=kind.several)
        if off <= TOLERATED:
            if variant == "safe":
                warnings.warn(
                    f"{folder}: int8 arithmetic is wrong on this machine ({failed:.0%} of the golden texts), "
                    "using the safe variant, which is correct but slower (CPUs with VNNI run int8)",
                    RuntimeWarning,
                    stacklevel=5,
                )
            return tier
        failed = off
    raise BundleError(
        f"{folder}: the model does not give its golden outputs on this machine: {failed:.0%} of them differ",
        expected=f"at most {TOLERATED:.0%} with a probability off by more than {manifest.golden_limit:.2f}",
        remedy="export the bundle again; if it fails there too, the exported model is not the one that was trained",
    )


def _open(files: Files, entry: TierEntry, variant: str, threads: int) -> tuple[Predictor, LinearHead | None]:
    manifest = files.manifest
    tensors = _tensors(files.read(entry.named(HEAD)), files.folder)
    opening = Opening(
        folder=files.folder,
        entry=entry,
        labels=tuple(label.name for label in manifest.labels),
        width=manifest.width,
        tensors=tensors,
        read=lambda name: files.read(entry.named(name)),
        threads=threads,
    )
    predictor: Predictor = load(entry.spec.open)(opening, variant)
    if NEAR not in tensors or NEAR_BIAS not in tensors or not entry.spec.near:
        return predictor, None
    return predictor, fits(files.folder, LinearHead(tensors[NEAR], tensors[NEAR_BIAS]), *opening.head.weights.shape)


def _tensors(data: bytes, folder: Path) -> dict[str, FloatArray]:
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise BundleError(f"{folder}: its head is not a safetensors file ({error})") from error
    for name in ("weights", "bias"):
        if name not in tensors:
            raise BundleError(f"{folder}: the tensor {name!r} is missing in its head")
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise BundleError(f"{folder}: the tensor {name!r} of its head is not all finite numbers")
    return tensors
