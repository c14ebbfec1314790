"""When a text is about none of a bundle's labels, and the one sentence on it that report, card and screen share."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import Field, ValidationError

from refsynth.bundle.certificate import ManifestPart
from refsynth.bundle.manifest import Manifest

KEY, LEARNED, WHY_NOT = "none", "none_texts", "none_unknown"
"""Where a manifest's lineage holds the rule, what was learned from texts, and why there is no rule.

Its numbers are tensors: older versions read such a bundle, without what they do not know.
"""

NEAR, NEAR_BIAS = "near", "near_bias"
"""The tensors of `models.nearness.below`."""

ANOTHER_FORM = "its bar would have to be measured on held-out rows in this form, and was not"
UNKNOWN = "no bar was measured"


class NoneRule(ManifestPart):
    """The share of real rows that may be flagged, the held-out rows that set the bar, and what was flagged of them."""

    share: float = Field(gt=0, lt=1)
    rows: int = Field(ge=1)
    flagged: float = Field(ge=0, le=1)
    low: float
    high: float

    @property
    def cost(self) -> str:
        """What is flagged wrongly."""
        return f"{self.flagged:.1%} [{100 * self.low:.1f}-{100 * self.high:.1f}] would be flagged, all wrongly"

    @property
    def sentence(self) -> str:
        """What is flagged, and how often wrongly."""
        return (
            f"None of these: a text that is less like the labels' rows than {1 - self.share:.0%} of {self.rows:,} held-out rows"
            f" were. Of those, each by a bar from the other folds, {self.cost}. How many strange texts it finds is not measured"
            " here."
        )


class OutsideFigures(ManifestPart):
    """The texts of none of the labels that the rule has learned from, how many it finds of those, and distance alone of them."""

    texts: int = Field(ge=1)
    found: float = Field(ge=0, le=1)
    low: float
    high: float
    alone: float = Field(ge=0, le=1)

    def sentence(self, rule: NoneRule) -> str:
        """What is flagged, how often wrongly, and how often rightly."""
        return (
            f"None of these: a text whose likeness to the labels' rows, less half of that to {self.texts:,}"
            f" text{'s' * (self.texts != 1)} of data.none, is lower than {1 - rule.share:.0%} of {rule.rows:,} held-out rows had."
            f" Of those, each by a bar from the other folds, {rule.cost}. Of the texts, each held out in its turn,"
            f" {self.found:.1%} [{100 * self.low:.1f}-{100 * self.high:.1f}] are found, by likeness to the"
            f" labels' rows alone {self.alone:.1%}."
        )


P = TypeVar("P", bound=ManifestPart)


def none_rule_of(manifest: Manifest) -> NoneRule | None:
    """Return the rule of a bundle; None where it has none."""
    return _part(NoneRule, manifest.lineage.get(KEY))


def learned_of(manifest: Manifest) -> OutsideFigures | None:
    """Return what the rule of a bundle has learned from texts; None where it has not."""
    return _part(OutsideFigures, manifest.lineage.get(LEARNED))


def none_sentence(manifest: Manifest) -> str:
    """Return when a text is marked, or that none is and why."""
    if rule := none_rule_of(manifest):
        learned = learned_of(manifest)
        return learned.sentence(rule) if learned else rule.sentence
    if manifest.answers.several:
        return "None of these: nothing is marked, since an answer here may be no label."
    if manifest.answers.spans:
        return "None of these: nothing is marked, since a text here may have no labeled words."
    why = manifest.lineage.get(WHY_NOT)
    return f"None of these: nothing is marked, since {why if isinstance(why, str) and why else UNKNOWN}."


def _part(kind: type[P], value: Any) -> P | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None
