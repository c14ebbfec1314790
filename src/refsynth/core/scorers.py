"""Scorers by name: what scores drafts, what each reads, and which drafts it drops. All else derives from this table.

Scorers run in this order, after all checks of form: first those that read texts alone, then those that ask the reference, and in
each fold of the gate those that read its real rows. A scorer does not see what one before it has dropped.
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
"""What scorers read, in the order in which they run."""


@dataclass(frozen=True)
class ScorerSpec:
    """A scorer of drafts.

    Attributes:
        name: in task.yaml, and of the score that a draft gets.
        make: the function that makes it, as `module:function`: from a `synthesis.selection.context.ScorerContext` to a
            `core.protocols.Scorer`. It is imported when it is first used.
        doc: what its score means, for the documents.
        reason: why a draft is dropped, for the report.
        remedy: what to do if no draft is kept for that reason.
        milder: a score and a reason: drafts with at least that score are dropped for this reason instead.
        reads: the drafts' texts and labels alone; also the reference, which must be able to score texts; or also the real rows
            that a model may see, so that the scorer runs in each fold.
        better: whether a higher or a lower score is better.
        holds: what the number in task.yaml is: a bound (the least score of a kept draft, or the highest if lower is better), or
            the share of each label's drafts to drop, the worst ones.
        key: of that number, if it is not in `filter.scores`.
        unfit: kinds of labels whose drafts it cannot score, each with the reason.
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
        """All reasons that it may give."""
        return (self.reason, *(() if self.milder is None else self.milder[1:]))

    def why(self, score: float) -> str:
        """Return the reason why a draft with that score is dropped."""
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
            "agreement of a model of the real rows with a draft's label, in [0, 1]; above 0.5 the model predicts the same label",
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
"""The name of a scorer under `filter.scores`."""


class Filter(Protocol):
    """The section `filter` of a configuration, as far as scorers go."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The number of each scorer that has no key of its own."""


def scorers_of(settings: Filter) -> list[tuple[ScorerSpec, float]]:
    """Return the scorers of a filter, with their numbers, in the order in which they run."""
    numbers = {name: getattr(settings, name) if spec.key else settings.scores.get(name) for name, spec in SCORERS.items()}
    asked = [(SCORERS[name], number) for name, number in numbers.items() if number is not None]
    active = [(spec, number) for spec, number in asked if spec.holds == "bound" or number > 0]
    return sorted(active, key=lambda pair: READING.index(pair[0].reads))


def scorers_key(settings: Filter, *, rows: bool) -> dict[str, str] | None:
    """Return the code of a filter's scorers from other packages, by name, for a step's key; None if there are none.

    `rows` selects the scorers that read real rows; otherwise the others are meant.
    """
    made = {spec.name: code_outside(spec.make) for spec, _ in scorers_of(settings) if (spec.reads == "rows") is rows}
    return {name: code for name, code in made.items() if code is not None} or None


def problem_of(settings: Filter, kind: KindSpec) -> str | None:
    """Return what is wrong with the scorers of a filter, and what to do; None if nothing is."""
    for spec, number in scorers_of(settings):
        if spec.holds == "share" and not 0 <= number < 1:
            return f"{spec.setting}: found {number}, expected a share of each label's drafts, from 0 to below 1"
        if why := spec.unfit.get(kind.labels):
            return f"{spec.setting} is not for task: {kind.name}: {why}; take it out"
    return None
