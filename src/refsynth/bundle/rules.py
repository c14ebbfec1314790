"""The parts of a manifest on when a bundle does not answer: its "unsure" threshold, and texts about none of its labels."""

from __future__ import annotations

from pydantic import Field, model_validator

from refsynth.bundle.certificate import ManifestPart


class UnsureRule(ManifestPart):
    """The accuracy that the task asks for, the number of held-out rows, and whether a threshold reached the accuracy."""

    accuracy: float = Field(gt=0, le=1)
    rows: int = Field(ge=0)
    reached: bool

    def sentence(self, threshold: float, *, right: str = "right") -> str:
        """Return how the threshold was chosen; `right` is the word for a correct answer."""
        share, rows = f"{100 * self.accuracy:g}% of the answers", f"{self.rows:,} held-out rows"
        rule = f"Unsure below a confidence of {threshold:.3f}" if threshold else "Never unsure"
        if not self.reached:
            return f"{rule}: at least half of {rows} must be answered, and no threshold that allows this had {share} {right}."
        if not threshold:
            return f"{rule}: with all of {rows} answered, {share} or more were {right}."
        return f"{rule}: the lowest at which {share} to {rows} were {right}, as measured."


class NoneRule(ManifestPart):
    """The share of real rows that may be flagged, the held-out rows that set the threshold, and their flagged share."""

    share: float = Field(gt=0, lt=1)
    rows: int = Field(ge=1)
    flagged: float = Field(ge=0, le=1)
    low: float
    high: float

    @property
    def cost(self) -> str:
        """How many rows are flagged wrongly."""
        share = f"{self.flagged:.1%} [{100 * self.low:.1f}-{100 * self.high:.1f}]"
        return f"With a threshold from the other folds, {share} of those rows would be flagged, all wrongly"

    @property
    def sentence(self) -> str:
        """Which texts are flagged, and how often wrongly."""
        return (
            f"None of these: a text that is less like the labels' rows than {1 - self.share:.0%} of {self.rows:,} held-out rows."
            f" {self.cost}. How many unrelated texts it finds is not measured here."
        )


class OutsideFigures(ManifestPart):
    """The number of texts of `data.none`, the share that the rule finds when held out, and that of likeness to rows alone."""

    texts: int = Field(ge=1)
    found: float = Field(ge=0, le=1)
    low: float
    high: float
    alone: float = Field(ge=0, le=1)

    def sentence(self, rule: NoneRule) -> str:
        """Return which texts are flagged, how often wrongly, and how often rightly."""
        return (
            f"None of these: a text whose likeness to the labels' rows, minus half of its likeness to {self.texts:,}"
            f" text{'s' * (self.texts != 1)} of data.none, is lower than that of {1 - rule.share:.0%} of {rule.rows:,} held-out"
            f" rows. {rule.cost}. Of the texts of data.none, each held out in its turn, {self.found:.1%}"
            f" [{100 * self.low:.1f}-{100 * self.high:.1f}] are found; likeness to the labels' rows alone finds {self.alone:.1%}."
        )


class NoneFacts(ManifestPart):
    """The rule for texts about none of the labels, and what it learned from such texts; or `why` there is no rule."""

    rule: NoneRule | None = None
    learned: OutsideFigures | None = None
    why: str = ""

    @model_validator(mode="after")
    def _has_rule(self) -> NoneFacts:
        if self.learned is not None and self.rule is None:
            raise ValueError("the field 'learned' needs the field 'rule'")
        return self
