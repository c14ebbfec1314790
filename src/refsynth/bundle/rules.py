"""What a manifest says of when a bundle does not answer: its "unsure" threshold, and texts about none of its labels."""

from __future__ import annotations

from pydantic import Field, model_validator

from refsynth.bundle.certificate import ManifestPart


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


class NoneFacts(ManifestPart):
    """When a text is about none of the labels, and what was learned of that from texts; or `why` nothing is marked."""

    rule: NoneRule | None = None
    learned: OutsideFigures | None = None
    why: str = ""

    @model_validator(mode="after")
    def _of_a_rule(self) -> NoneFacts:
        if self.learned is not None and self.rule is None:
            raise ValueError("something was learned for a rule that is not there")
        return self
