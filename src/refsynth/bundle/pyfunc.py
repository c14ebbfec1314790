"""A bundle as a python_function model of MLflow, which names this module as its loader. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.bundle.model import Model, load
from refsynth.core.errors import InputError
from refsynth.core.pair import DIVIDER, split_pair
from refsynth.core.types import Prediction
from refsynth.core.value import missing
from refsynth.data.empty import EMPTY, missing_in


class MlflowModel:
    """A model with the interface that MLflow calls."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Return label, probability, abstain and all probabilities of each text.

        A row without a usable text does not affect the others: its values are None, and `reason` tells why.

        Args:
            model_input: texts, or a table with the texts in its column `text` or its only column.
            params: ignored.

        Raises:
            InputError: the input is neither.
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
        """Return why a row is not a text for the model; None if it is one."""
        pairs = self.model.manifest.pairs
        if missing(text):
            return EMPTY
        if not isinstance(text, str):
            return f"found {type(text).__name__}, expected a text"
        if (why := missing_in(text, pairs=pairs)) is not None or not pairs or split_pair(text) is not None:
            return why
        return f"one text, expected two with {DIVIDER} between them"


_NOTHING: Mapping[str, Any] = dict.fromkeys(("label", "probability", "abstain", "probabilities"))


def _row(prediction: Prediction) -> dict[str, Any]:
    row = {"label": prediction.label, "probability": prediction.probability, "abstain": prediction.abstain}
    return {**row, "probabilities": dict(prediction.probabilities), "reason": None}


def _load_pyfunc(data_path: str) -> MlflowModel:
    """Return the model in a folder; MLflow calls this function by its name."""
    return MlflowModel(load(data_path))
