"""A bundle as a python_function model of MLflow, which names this module as its loader. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.bundle.model import Model, load
from refsynth.core.errors import InputError
from refsynth.core.pair import DIVIDER, split_pair
from refsynth.core.types import Prediction
from refsynth.core.value import missing
from refsynth.data.nothing import EMPTY, nothing_in


class MlflowModel:
    """A model that reads texts as MLflow hands them over."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Return label, probability, abstain and all probabilities of each text, and why there are none for one that is none.

        A row without a text spoils no other: its values are None, and `reason` says why.

        Args:
            model_input: texts, or a table whose column `text`, or only column, holds them.
            params: not read.

        Raises:
            InputError: it is neither.
        """
        del params
        columns = getattr(model_input, "columns", None)
        if columns is not None:
            if "text" not in columns and len(columns) != 1:
                raise InputError(f"a table with the columns {', '.join(map(str, columns))}", expected="a column 'text'")
            model_input = model_input["text" if "text" in columns else columns[0]]
        texts = list(model_input)
        reasons = [self._reason(text) for text in texts]
        answers = iter(self.model.predict([text for text, reason in zip(texts, reasons, strict=True) if reason is None]))
        return [_row(next(answers)) if reason is None else {**_NOTHING, "reason": reason} for reason in reasons]

    def _reason(self, text: Any) -> str | None:
        """Return why a row is no text for the model; None where it is one."""
        pairs = self.model.manifest.pairs
        if missing(text):
            return EMPTY
        if not isinstance(text, str):
            return f"found {type(text).__name__}, expected a text"
        if (why := nothing_in(text, pairs=pairs)) is not None or not pairs or split_pair(text) is not None:
            return why
        return f"one text, expected two with {DIVIDER} between them"


_NOTHING: Mapping[str, Any] = dict.fromkeys(("label", "probability", "abstain", "probabilities"))


def _row(said: Prediction) -> dict[str, Any]:
    found = {"label": said.label, "probability": said.probability, "abstain": said.abstain}
    return {**found, "probabilities": dict(said.probabilities), "reason": None}


def _load_pyfunc(data_path: str) -> MlflowModel:
    """Return the model in a folder, as MLflow asks for it."""
    return MlflowModel(load(data_path))
