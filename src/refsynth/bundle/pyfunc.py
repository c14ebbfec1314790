"""A bundle as a python_function model of MLflow, which names this module as its loader. Nothing is pickled."""

from __future__ import annotations

from typing import Any

from refsynth.bundle.model import Model, load
from refsynth.core.errors import InputError


class Served:
    """A model that reads texts as MLflow hands them over."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Return label, probability, abstain and all probabilities of each text.

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
        if wrong := next((each for each in texts if not isinstance(each, str)), None):
            raise InputError(f"found {type(wrong).__name__}", expected="texts")
        rows = self.model.predict(texts)
        return [
            {"label": one.label, "probability": one.probability, "abstain": one.abstain, "probabilities": dict(one.probabilities)}
            for one in rows
        ]


def _load_pyfunc(data_path: str) -> Served:
    """Return the model in a folder, as MLflow asks for it."""
    return Served(load(data_path))
