"""Predictions of the models of a fold: logits of its rows, how similar the rows are to the others, and the texts of no label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from refsynth.core.files import write_json
from refsynth.core.protocols import Predictor
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.kinds import as_json
from refsynth.learning.candidates import Candidate, Fitted
from refsynth.learning.folds import Fold
from refsynth.learning.outside import Outside
from refsynth.models.int8 import int8_logits_of
from refsynth.models.nearness import against, near_of
from refsynth.models.predict import logits_of

ROWS = ("logits", "int8", "near")
"""Fields of `HeldOut` with values for rows."""

OF_TEXTS = ("texts", "alone")
"""Fields of `HeldOutside` with values for texts."""

OUTSIDE = ("rows", *OF_TEXTS)
"""Fields of `HeldOutside` with predictions, in their order."""


class OutsideTexts(NamedTuple):
    """Texts that none of the labels fits: those that are held out with a fold, and the others."""

    held: list[str]
    known: list[str]

    @classmethod
    def of(cls, outside: Outside, places: IntArray) -> Self:
        """Return the texts with those at `places` held out."""
        held = set(places.tolist())
        texts = list(enumerate(outside.texts))
        return cls([text for place, text in texts if place in held], [text for place, text in texts if place not in held])


def ask(fit: Callable[[], Fitted], fold: Fold, beside: OutsideTexts, out: Path, *, one: bool) -> None:
    """Write the predictions of a fold's models for its rows, and for the texts of no label that are held out with it.

    Args:
        fit: fits the candidates to the fold's training rows.
        fold: the fold.
        beside: the texts of no label.
        out: the folder for the files: one for each of `ROWS` and `OUTSIDE`.
        one: whether a row has one label; then a file has the similarity of each text to the rows of its nearest label, without
            ("near") and with ("rows") the part that counts against it, its similarity to the known texts of no label.
    """
    predictors = fit().predictors
    near = {name: head for name, predictor in predictors.items() if one and (head := near_of(predictor, fold.train))}
    reduced = {name: against(head, beside.known) for name, head in near.items()} if beside.held or beside.known else {}
    heads: list[tuple[str, Mapping[Candidate, Predictor]]] = [("logits", predictors), ("near", near), ("rows", reduced)]
    models = {(name, head): model for head, by_name in heads for name, model in by_name.items()}
    exact, rounded = logits_of(models, fold.texts), int8_logits_of(models, fold.texts)  # a shared encoder reads the texts once
    _write(out / "logits.json", {name: logits for (name, head), logits in exact.items() if head == "logits"})
    _write(out / "int8.json", {name: logits for (name, head), logits in rounded.items() if head == "logits"})
    _write_highest(out, exact | rounded, {"near": "near", "rows": "rows"})
    similar = {key: model for key, model in models.items() if key[1] != "logits" and reduced}
    values: dict[tuple[Candidate, str], FloatArray] = {key: np.zeros((0, 1)) for key in similar}
    if beside.held:
        values = logits_of(similar, beside.held) | int8_logits_of(similar, beside.held)
    _write_highest(out, values, {"texts": "rows", "alone": "near"})


def _write_highest(out: Path, values: Mapping[tuple[Candidate, str], Array], files: Mapping[str, str]) -> None:
    """Write the highest value for each text [N], in a file for each head that is named."""
    for file, of_head in files.items():
        _write(out / f"{file}.json", {name: array.max(1) for (name, head), array in values.items() if head == of_head})


def _write(path: Path, values: Mapping[Candidate, Array]) -> None:
    write_json(path, {str(candidate): as_json(array) for candidate, array in values.items()})
