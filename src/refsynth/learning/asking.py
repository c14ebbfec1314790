"""Predictions of the models of a fold, and their record on disk: for its rows, and for texts of no label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from refsynth.core.files import read_json, write_json
from refsynth.core.protocols import Predictor
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.kinds import as_json, from_json
from refsynth.learning.candidates import Candidate
from refsynth.learning.folds import Fold
from refsynth.learning.outside import Outside
from refsynth.models.int8 import int8_logits_of
from refsynth.models.nearness import against, near_of
from refsynth.models.predict import logits_of

RECORD = "fold.json"

Values = Mapping[Candidate, Array]
"""One array for each candidate."""


@dataclass(frozen=True)
class FoldRecord:
    """What the models of a fold say, by candidate, of its N rows and of the M texts of no label that are held out with it.

    "Less" is a similarity less the part that counts against it: the similarity to the other texts of no label.

    Attributes:
        logits: of the rows [N, ...].
        int8: of the rows, by candidates with an encoder in int8.
        rows_near: how similar each row is to the training rows of its nearest label [N].
        rows_less: the same, less.
        texts_near: how similar each text is to the training rows of its nearest label [M].
        texts_less: the same, less.
    """

    logits: Values
    int8: Values
    rows_near: Values
    rows_less: Values
    texts_near: Values
    texts_less: Values

    def write(self, folder: Path) -> None:
        """Write the record into the folder of a step."""
        record = {part.name: getattr(self, part.name) for part in fields(self)}
        content = {name: {str(one): as_json(array) for one, array in values.items()} for name, values in record.items()}
        write_json(folder / RECORD, content)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what `write` wrote."""
        content = read_json(folder / RECORD)
        return cls(
            **{
                name: {Candidate.named(one): from_json(array) for one, array in values.items()}
                for name, values in content.items()
            }
        )


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


def ask(predictors: Mapping[Candidate, Predictor], fold: Fold, beside: OutsideTexts, *, nearness: bool) -> FoldRecord:
    """Return what a fold's models say of its rows, and of the texts of no label that are held out with it.

    Args:
        predictors: the candidates, fitted to the fold's training rows.
        fold: the fold.
        beside: the texts of no label.
        nearness: whether to measure how similar texts are to rows; that needs one label for each row.
    """
    near = {name: head for name, predictor in predictors.items() if nearness and (head := near_of(predictor, fold.train))}
    less = {name: against(head, beside.known) for name, head in near.items()} if beside.held or beside.known else {}
    heads: list[tuple[str, Mapping[Candidate, Predictor]]] = [("logits", predictors), ("near", near), ("less", less)]
    models = {(name, head): model for head, by_name in heads for name, model in by_name.items()}
    exact, rounded = logits_of(models, fold.texts), int8_logits_of(models, fold.texts)  # a shared encoder reads the texts once
    similar = {key: model for key, model in models.items() if key[1] != "logits" and less}
    of_texts: dict[tuple[Candidate, str], FloatArray] = {key: np.zeros((0, 1)) for key in similar}
    if beside.held:
        of_texts = logits_of(similar, beside.held) | int8_logits_of(similar, beside.held)
    return FoldRecord(
        logits=_of_head(exact, "logits"),
        int8=_of_head(rounded, "logits"),
        rows_near=_highest(exact | rounded, "near"),
        rows_less=_highest(exact | rounded, "less"),
        texts_near=_highest(of_texts, "near"),
        texts_less=_highest(of_texts, "less"),
    )


def _of_head(values: Mapping[tuple[Candidate, str], Array], head: str) -> dict[Candidate, Array]:
    return {name: array for (name, of), array in values.items() if of == head}


def _highest(values: Mapping[tuple[Candidate, str], Array], head: str) -> dict[Candidate, Array]:
    """Return the highest value of a head for each text [N]."""
    return {name: array.max(1) for name, array in _of_head(values, head).items()}
