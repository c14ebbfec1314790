"""The context that scorers are made from, and the call that makes and asks one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refsynth.core.errors import ConfigError
from refsynth.core.protocols import Generator, Predictor, Scorer
from refsynth.core.registry import load
from refsynth.core.scorers import ScorerSpec
from refsynth.core.types import Array, Example, FloatArray
from refsynth.kinds import ONE_LABEL, Kind


@dataclass(frozen=True)
class SeenRows:
    """The real rows that a model may see, for a scorer that reads them.

    Attributes:
        real: the rows.
        judge: a model fitted to them; predicts the same texts only once.
        influence: returns the effect of drafts on the loss of held-out rows among these; see `selection.influence`.
    """

    real: Sequence[Example]
    judge: Predictor
    influence: Callable[[Sequence[Example]], FloatArray]


@dataclass(frozen=True)
class ScorerContext:
    """What a scorer is made from.

    Attributes:
        labels: the K labels of the task.
        kind: of the task.
        language: of the texts.
        meanings: the description of each label, or set of labels, that drafts are written for; None if `rows` is given.
        reference: makes the reference, for a scorer that asks it.
        rows: the real rows that may be seen; None for a scorer that is asked once for all folds.
    """

    labels: tuple[str, ...]
    kind: Kind = ONE_LABEL
    language: str = "en"
    meanings: Mapping[str, str] | None = None
    reference: Callable[[], Generator] | None = None
    rows: SeenRows | None = None


def score_drafts(spec: ScorerSpec, context: ScorerContext, drafts: Sequence[Example]) -> FloatArray:
    """Return the scores of drafts [N].

    Raises:
        ConfigError: The scorer does not return one number for each draft, or cannot be imported.
    """
    scorer: Scorer = load(spec.make)(context)
    values = np.asarray(scorer.score(drafts), float)
    if values.shape != (len(drafts),):
        raise ConfigError(
            f"the scorer '{spec.name}' gave scores of shape {values.shape}", expected=f"({len(drafts)},), one per draft"
        )
    return values


class CachedPredictor:
    """A predictor that remembers its logits."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._cache: dict[tuple[str, ...], Array] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the predictor."""
        return self._predictor.labels

    def logits(self, texts: Sequence[str]) -> Array:
        """Return the predictor's logits of the texts, as a copy that the caller may change."""
        key = tuple(texts)
        if key not in self._cache:
            self._cache[key] = self._predictor.logits(texts)
        return self._cache[key].copy()
