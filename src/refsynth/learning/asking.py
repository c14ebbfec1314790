"""What the models of a fold are asked: its rows, how like the others these are, and the texts that no label fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from refsynth.core.protocols import Predictor
from refsynth.core.run import write_json
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.kinds import as_json
from refsynth.learning.candidates import Candidate, Fitted
from refsynth.learning.folds import Fold
from refsynth.learning.outside import Outside
from refsynth.models.int8 import int8_logits_of
from refsynth.models.nearness import against, near_of
from refsynth.models.predict import logits_of

ROWS = ("logits", "int8", "near")
"""What `HeldOut` has of rows."""

OF_TEXTS = ("texts", "alone")
"""What `HeldOutside` has of texts."""

OUTSIDE = ("rows", *OF_TEXTS)
"""What it has, in its order."""


class OutsideTexts(NamedTuple):
    """Texts that none of the labels fits: those that are held out with a fold, and the others."""

    held: list[str]
    known: list[str]

    @classmethod
    def of(cls, outside: Outside, places: IntArray) -> Self:
        """Return the texts at some places as held out."""
        away = set(places.tolist())
        return cls(*([text for place, text in enumerate(outside.texts) if (place in away) is out] for out in (True, False)))


def ask(fit: Callable[[], Fitted], fold: Fold, beside: OutsideTexts, out: Path, *, one: bool) -> None:
    """Ask the models of a fold about its rows; where a text has `one` label also how like the others of the label it is.

    The same is asked about the texts that are held out with the fold, of which no label fits; and both with what the others of
    these say against it.
    """
    predictors = fit().predictors
    near = {name: like for name, each in predictors.items() if one and (like := near_of(each, fold.train))}
    wary = {name: against(each, beside.known) for name, each in near.items()} if beside.held or beside.known else {}
    heads: list[tuple[str, Mapping[Candidate, Predictor]]] = [("logits", predictors), ("near", near), ("rows", wary)]
    asked = {(name, head): each for head, some in heads for name, each in some.items()}
    exact, rounded = logits_of(asked, fold.texts), int8_logits_of(asked, fold.texts)  # what they share reads the texts once
    _keep(out / "logits.json", {name: said for (name, head), said in exact.items() if head == "logits"})
    _keep(out / "int8.json", {name: said for (name, head), said in rounded.items() if head == "logits"})
    _keep_best(out, exact | rounded, {"near": "near", "rows": "rows"})
    strange = {key: each for key, each in asked.items() if key[1] != "logits" and wary}
    said = logits_of(strange, beside.held) | int8_logits_of(strange, beside.held) if beside.held else _nothing(strange)
    _keep_best(out, said, {"texts": "rows", "alone": "near"})


def _nothing(predictors: Iterable[tuple[Candidate, str]]) -> dict[tuple[Candidate, str], FloatArray]:
    """Return what is said where there is nothing to ask about."""
    return {key: np.zeros((0, 1)) for key in predictors}


def _keep_best(out: Path, said: Mapping[tuple[Candidate, str], Array], files: Mapping[str, str]) -> None:
    """Write the highest value for each text [N], in a file for each head that is named."""
    for file, wanted in files.items():
        _keep(out / f"{file}.json", {name: values.max(1) for (name, head), values in said.items() if head == wanted})


def _keep(path: Path, said: Mapping[Candidate, Array]) -> None:
    write_json(path, {str(candidate): as_json(logits) for candidate, logits in said.items()})
