"""The one sentence that report, card and screen share on how the "unsure" threshold of a bundle was chosen."""

from __future__ import annotations

from refsynth.bundle.manifest import Manifest


def unsure_sentence(manifest: Manifest, threshold: float | None = None) -> str:
    """Return the sentence on a bundle's threshold, or on the one that takes its place; empty where nothing is known of it."""
    own, alone = manifest.calibration.threshold, len(manifest.tiers) == 1
    if threshold is not None:
        instead = f"; the bundle's own is {own:.3f}" if alone else ""
        return f"Unsure below a confidence of {threshold:.3f}, as asked for{instead}."
    if manifest.unsure is None or not alone:
        return ""
    return manifest.unsure.sentence(own, right="just right" if manifest.answers.several or manifest.answers.spans else "right")
