"""The sentence on how the "unsure" threshold of a bundle was chosen, for report, card and screen."""

from __future__ import annotations

from refsynth.bundle.manifest import Manifest


def unsure_sentence(manifest: Manifest, threshold: float | None = None) -> str:
    """Return the sentence on a bundle's threshold, or on the one given in its place; empty if its origin is unknown."""
    own, alone = manifest.calibration.threshold, len(manifest.tiers) == 1
    if threshold is not None:
        instead = f"; the bundle's own is {own:.3f}" if alone else ""
        return f"Unsure below a confidence of {threshold:.3f}, as asked for{instead}."
    if manifest.unsure is None or not alone:
        return ""
    return manifest.unsure.sentence(own, right="just right" if manifest.answers.several or manifest.answers.words else "right")
