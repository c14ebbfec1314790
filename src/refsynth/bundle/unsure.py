"""How the "unsure" threshold of a bundle was chosen, and the one sentence on it that report, card and screen share."""

from __future__ import annotations

from pydantic import Field, ValidationError

from refsynth.bundle.certificate import ManifestPart
from refsynth.bundle.manifest import Manifest

KEY = "unsure"
"""Where a manifest's lineage holds the rule."""


class UnsureRule(ManifestPart):
    """The accuracy that was asked for, the held-out rows it was looked for on, and whether a threshold reached it."""

    accuracy: float = Field(gt=0, le=1)
    rows: int = Field(ge=0)
    reached: bool

    def sentence(self, threshold: float, *, right: str = "right") -> str:
        """Return how the threshold was chosen; `right` is what answers had to be."""
        wanted, rows = f"{100 * self.accuracy:g}% of the answers", f"{self.rows:,} held-out rows"
        if not self.reached:
            silent = f"Unsure below a confidence of {threshold:.3f}" if threshold else "Never unsure"
            return f"{silent}: at least half of {rows} is answered, and no threshold that does so had {wanted} {right}."
        if not threshold:
            return f"Never unsure: with all of {rows} answered, {wanted} or more were {right}."
        return f"Unsure below a confidence of {threshold:.3f}: the lowest at which {wanted} to {rows} were {right}, as measured."


def rule_of(manifest: Manifest) -> UnsureRule | None:
    """Return how the threshold of a bundle was chosen; None where no labeled rows chose it, or an older version did."""
    try:
        return UnsureRule.model_validate(manifest.lineage.get(KEY))
    except ValidationError:
        return None


def told(manifest: Manifest, threshold: float | None = None) -> str:
    """Return the sentence on a bundle's threshold, or on the one that takes its place; empty where nothing is known of it."""
    own, rule = manifest.calibration.threshold, rule_of(manifest)
    if threshold is not None:
        instead = f"; the bundle's own is {own:.3f}" if manifest.first is None else ""
        return f"Unsure below a confidence of {threshold:.3f}, as asked for{instead}."
    if rule is None or manifest.first is not None:
        return ""
    return rule.sentence(own, right="just right" if manifest.answers.several or manifest.answers.spans else "right")
