"""What scorers are made of, how they are made, and what their scores are keyed by."""

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
        judge: a model that is fitted to them; it is asked about the same texts once.
        influence: returns what drafts do to the loss on rows that are held out among these: see `selection.influence`.
    """

    real: Sequence[Example]
    judge: Predictor
    influence: Callable[[Sequence[Example]], FloatArray]


@dataclass(frozen=True)
class ScorerContext:
    """What scorers are made of.

    Attributes:
        labels: of the task, K.
        kind: of the task.
        language: of the texts.
        meanings: each label that drafts are written for, or set of labels, with what it means in plain words; empty where rows
            are seen.
        reference: makes the reference, for a scorer that asks it.
        rows: what is seen of real rows; None where a scorer is asked once for all folds.
    """

    labels: tuple[str, ...]
    kind: Kind = ONE_LABEL
    language: str = "en"
    meanings: Mapping[str, str] | None = None
    reference: Callable[[], Generator] | None = None
    rows: SeenRows | None = None


def score_drafts(spec: ScorerSpec, context: ScorerContext, drafts: Sequence[Example]) -> FloatArray:
    """Return what a scorer says of drafts [N].

    Raises:
        ConfigError: it gives anything but a number for each draft, or cannot be imported.
    """
    scorer: Scorer = load(spec.make)(context)
    values = np.asarray(scorer.score(drafts), float)
    if values.shape != (len(drafts),):
        raise ConfigError(
            f"the scorer '{spec.name}' gave scores of shape {values.shape}", expected=f"({len(drafts)},), one a draft"
        )
    return values


class Recalling:
    """A predictor that reads the same texts once."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._said: dict[tuple[str, ...], Array] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the predictor."""
        return self._predictor.labels

    def logits(self, texts: Sequence[str]) -> Array:
        """Return what the predictor says of the texts, or has said; each caller may change what it is given."""
        key = tuple(texts)
        if key not in self._said:
            self._said[key] = self._predictor.logits(texts)
        return self._said[key].copy()
