"""When a text is about none of a bundle's labels, and the one sentence on it that report, card and screen share."""

from __future__ import annotations

from pydantic import Field, ValidationError

from refsynth.bundle.certificate import Part
from refsynth.bundle.manifest import Manifest

KEY = "none"
"""Where a manifest's lineage holds the rule. Its numbers are tensors: older versions read such a bundle, without the rule."""

NEAR, NEAR_BIAS = "near", "near_bias"
"""The tensors of `models.nearness.below`."""


class NoneRule(Part):
    """The share of real rows that may be flagged, the held-out rows that set the bar, and what was flagged of them."""

    share: float = Field(gt=0, lt=1)
    rows: int = Field(ge=1)
    flagged: float = Field(ge=0, le=1)
    low: float
    high: float

    @property
    def sentence(self) -> str:
        """What is flagged, and how often wrongly."""
        interval = f"{self.flagged:.1%} [{100 * self.low:.1f}-{100 * self.high:.1f}]"
        return (
            f"None of these: a text that is less like the labels' rows than {1 - self.share:.0%} of {self.rows:,} held-out rows"
            f" were. Of those, each by a bar from the other folds, {interval} would be flagged, all wrongly. How many strange"
            " texts it finds is not measured here."
        )


def none_rule_of(manifest: Manifest) -> NoneRule | None:
    """Return the rule of a bundle; None where it has none."""
    try:
        return NoneRule.model_validate(manifest.lineage.get(KEY))
    except ValidationError:
        return None
