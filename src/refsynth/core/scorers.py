"""Scorers by name: what judges drafts, what each reads, and which drafts are dropped by it. The table that all else derives from.

Order is that in which they are asked, after all checks of form: first those that read texts alone, then those that ask the
reference, and in each fold of the gate those that read its real rows. What one has dropped the next is not asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, get_args

from pydantic import AfterValidator

from refsynth.core.kinds import KindSpec, LabelsOf
from refsynth.core.registry import Registry, code_outside

Reads = Literal["text", "reference", "rows"]

READING: tuple[Reads, ...] = get_args(Reads)
"""In their order."""


@dataclass(frozen=True)
class ScorerSpec:
    """What scores drafts.

    Attributes:
        name: in task.yaml, and of the score that a draft gets.
        make: of what makes it, as `module:function`, from a `synthesis.selection.context.ScorerContext`: a
            `core.protocols.Scorer`. It is imported when it is first used.
        doc: what it says of a draft, for the documents.
        reason: why a draft is left out, for the report.
        remedy: what to do where no draft is kept for that reason.
        milder: from which score on another reason is given, and that; none if left out.
        reads: the drafts' texts and labels alone; also the reference, which has to tell how likely texts are; or also the real
            rows that a model may see, so that it is asked in each fold anew.
        better: whether a higher or a lower score is better.
        holds: what the number in task.yaml is: a bound (the least score of a draft that stays, the most where lower is better),
            or the share of each label's drafts to leave out, the worst.
        key: of that number, where it has one of its own outside of `filter.scores`.
        unfit: what labels may be of where it cannot score drafts, and why.
    """

    name: str
    make: str
    doc: str
    reason: str
    remedy: str = ""
    milder: tuple[float, str] | None = None
    reads: Reads = "text"
    better: Literal["higher", "lower"] = "higher"
    holds: Literal["bound", "share"] = "bound"
    key: str = ""
    unfit: Mapping[LabelsOf, str] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The key of its number in task.yaml."""
        return self.key or f"filter.scores.{self.name}"

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons that it gives."""
        return (self.reason, *(() if self.milder is None else self.milder[1:]))

    def why(self, score: float) -> str:
        """Return the reason why a draft of that score is left out."""
        return self.milder[1] if self.milder is not None and score >= self.milder[0] else self.reason


_MAKERS = "refsynth.synthesis.selection.makers"
_MEANING = (
    "the model does not know what the labels mean: say it in task.yaml in plain words, or name a larger model under reference in "
    "task.yaml"
)

SCORERS: Registry[ScorerSpec] = Registry(
    "refsynth.scorers",
    ScorerSpec,
    (
        ScorerSpec(
            "likelihood",
            f"{_MAKERS}:likelihood",
            "log-likelihood ratio per token, in nats, of a draft with its label against without; the reference reads each twice",
            "unlikely for its label",
            _MEANING,
            reads="reference",
            unfit={"words": "it asks how likely a text is under the prompt of one label"},
        ),
        ScorerSpec(
            "agreement",
            f"{_MAKERS}:agreement",
            "of a model of the real rows with a draft's label, in [0, 1]; above 0.5 the model says the same label",
            "other class",
            _MEANING,
            milder=(0.5, "class unclear"),
            reads="rows",
            key="filter.agreement",
        ),
        ScorerSpec(
            "influence",
            f"{_MAKERS}:influence",
            "how much the loss on held-out real rows falls with a draft, in nats per unit of its weight",
            "worst influence on held-out rows",
            "every draft raises the loss on held-out rows: lower filter.influence, or label more rows",
            reads="rows",
            holds="share",
            key="filter.influence",
            unfit={
                "several": "it is the effect on the loss of one label against the others",
                "words": "it is the effect on the loss on labels of whole texts",
            },
        ),
    ),
)


def _asked(name: str) -> str:
    if key := SCORERS[SCORERS.known(name)].key:
        raise ValueError(f"{name} has a key of its own; write {key}")
    return name


ScorerName = Annotated[str, AfterValidator(_asked)]
"""Of a scorer under `filter.scores`."""


class Filter(Protocol):
    """The section `filter` of a configuration, as far as scorers go."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The number of each scorer that has no key of its own."""
        ...


def scorers_of(settings: Filter) -> list[tuple[ScorerSpec, float]]:
    """Return the scorers that a filter asks, with their numbers, in the order in which they are asked."""
    found = {name: getattr(settings, name) if spec.key else settings.scores.get(name) for name, spec in SCORERS.items()}
    asked = [(SCORERS[name], number) for name, number in found.items() if number is not None]
    active = [(spec, number) for spec, number in asked if spec.holds == "bound" or number > 0]
    return sorted(active, key=lambda pair: READING.index(pair[0].reads))


def scorers_key(settings: Filter, *, rows: bool) -> dict[str, str] | None:
    """Return the code of the scorers of other packages that a filter asks, by name, for a step's key; None without any.

    `rows` tells whether those that read real rows are meant, or the others.
    """
    made = {spec.name: code_outside(spec.make) for spec, _ in scorers_of(settings) if (spec.reads == "rows") is rows}
    return {name: code for name, code in made.items() if code is not None} or None


def problem_of(settings: Filter, kind: KindSpec) -> str | None:
    """Return what is wrong with the scorers that a filter asks, and what to do."""
    for spec, number in scorers_of(settings):
        if spec.holds == "share" and not 0 <= number < 1:
            return f"{spec.setting}: found {number}, expected a share of each label's drafts, from 0 to below 1"
        if why := spec.unfit.get(kind.labels):
            return f"{spec.setting} is not for task: {kind.name}: {why}; take it out"
    return None
