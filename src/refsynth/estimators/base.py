"""TextEstimator, the base of the estimators of all task kinds: settings, fit, score, save, pickling."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import TypeAdapter
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from refsynth.bundle.model import Answered, Model, load
from refsynth.bundle.store import check_place
from refsynth.compress.ship import publish
from refsynth.core.config import RunConfig
from refsynth.core.errors import ArgumentError
from refsynth.core.files import write_jsonl
from refsynth.core.kinds import KindName
from refsynth.core.observe import Logged, Printed
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Array
from refsynth.data.arguments import names_of, weights_of
from refsynth.data.empty import refuse_empty
from refsynth.data.frame import header_of
from refsynth.estimators.rows import FitRows, RandomState, meanings_of, seed_of, tree_of, weighed
from refsynth.evaluation.report import Report
from refsynth.pipeline.flow import run


class TextEstimator(ABC, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A text model that a run trains. A subclass per task kind reads X and y and converts predictions to the form of y."""

    _task: ClassVar[KindName]
    _columns: ClassVar[Mapping[str, str]] = {}
    """Names of columns that differ from the defaults, as `data.columns` of a task.yaml takes them."""
    _width: ClassVar[int] = 1
    """Number of columns of X."""

    classes_: Array
    model_: Model
    report_: Report
    n_features_in_: int

    def __init__(
        self,
        *,
        labels: Mapping[Any, str] | None = None,
        drafts: int | None = None,
        settings: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        random_state: RandomState = 0,
        verbose: bool = False,
    ) -> None:
        """Store the settings; `fit` checks them.

        Args:
            labels: the meaning of each label in plain words, for the reference and the encoder to read; by default its name.
            drafts: number of drafts to request; 0 for none; by default that of `task.yaml`.
            settings: further keys of `task.yaml`, as in `{"learners": ["tfidf", "frozen"], "contract": {"p50_ms": 2}}`.
            out: the run folder, which keeps the report; an interrupted fit resumes there. By default a temporary folder.
            random_state: the seed, or a numpy generator, or None for numpy's global one. Each fit draws a new seed from a
                generator.
            verbose: whether `fit` prints its progress to stderr.
        """
        self.labels = labels
        self.drafts = drafts
        self.settings = settings
        self.out = out
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _fit_rows(self, X: Any, y: Any) -> FitRows:
        """Return X and y as rows."""

    @abstractmethod
    def _classes(self, labels: list[Any]) -> Array:
        """Return the K distinct labels, sorted, of all labels of rows with a weight above 0."""

    @abstractmethod
    def _texts(self, X: Any) -> list[str]:
        """Return the texts in the form that the bundle reads [N]."""

    @abstractmethod
    def _as_given(self, X: Any, predicted: Answered) -> Any:
        """Return predictions in the form in which y was given [N]."""

    @abstractmethod
    def _score(self, X: Any, y: Any, predicted: Answered, weights: Array) -> float:
        """Return the score of predictions; each row counts by its weight [N]."""

    def fit(self, X: Any, y: Any, sample_weight: Sequence[float] | None = None) -> Self:
        """Train on N rows.

        Args:
            X: the texts.
            y: their labels.
            sample_weight: how many rows each row counts as in training [N]; held-out figures ignore it.

        Raises:
            ArgumentError: an item is not a text or not a label, or X and y differ in length.
            RefsynthError: see `refsynth.run`.
        """
        if y is None:
            name = type(self).__name__
            raise ArgumentError(f"y: this {name} requires y to be passed, but the target y is None", expected="labels")
        inputs = self._fit_rows(X, y)
        weights = None if sample_weight is None else weights_of(sample_weight, len(inputs.records))
        counted = [row for place, row in enumerate(inputs.labels) if weights is None or weights[place]]
        classes = self._classes([label for row in counted for label in row]) if inputs.classes is None else inputs.classes
        rows, names = weighed(inputs.records, weights), names_of(classes)
        with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
            folder = RunFolder(Path(self.out or scratch).resolve())
            file = folder.path / "rows.jsonl"
            write_jsonl(file, rows)
            tree = self._tree(file, names, weighed="weight" in rows[0])
            task = Task.of(RunConfig.parse(tree, where=type(self).__name__))
            result = run(task, folder.path, watch=Printed() if self.verbose else Logged())
            self._keep(result.bundle)
        self.classes_, self._form, self.report_ = classes, inputs.form, result.report
        self.n_features_in_ = self._width
        self._set_feature_names(header_of(X))
        return self

    def predict(self, X: Any) -> Any:
        """Return the prediction for each of N rows in the form in which y was given, even where the model would abstain.

        Raises:
            NotFittedError: the estimator has not been fitted.
            ArgumentError: an item is not a text, or is empty.
        """
        return self._as_given(X, self._answered(X))

    def score(self, X: Any, y: Any, sample_weight: Sequence[float] | None = None) -> float:
        """Return the share of N rows that are predicted correctly; for token classification the F1 over all spans.

        Args:
            X: the texts.
            y: the true labels, in the form that `fit` takes.
            sample_weight: the weight of each row [N]; equal by default.

        Raises:
            NotFittedError: the estimator has not been fitted.
            ArgumentError: an item is not a text or not a label, or X and y differ in length.
        """
        predicted = self._answered(X)
        if not (n := len(predicted.answers)):
            raise ArgumentError("X: found no rows", expected="some to measure on")
        return self._score(X, y, predicted, weights_of(1.0 if sample_weight is None else sample_weight, n))

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to a folder; a bundle that is already there is replaced.

        Raises:
            NotFittedError: the estimator has not been fitted.
            InputError: the folder holds something that is not a bundle.
        """
        check_is_fitted(self, "model_")
        check_place(Path(folder))
        return publish(self._bundle, Path(folder))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X holds texts and that y is required."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling and copying as plain values; a fitted model adds its bundle's bytes and its report."""
        state = dict(super().__getstate__())
        if state.pop("model_", None) is not None:
            state["_bundle"] = {path.name: path.read_bytes() for path in sorted(self._bundle.iterdir())}
            state["report_"] = _REPORT.dump_python(state["report_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; the bundle is checked like any other.

        Raises:
            BundleError: the bytes differ from those that were dumped.
        """
        state = dict(state)
        files = state.pop("_bundle", None)
        if files is not None:
            state["report_"] = _REPORT.validate_python(state["report_"])
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
                for name, data in files.items():
                    (Path(scratch) / Path(name).name).write_bytes(data)
                self._keep(Path(scratch))

    def _answered(self, X: Any) -> Answered:
        check_is_fitted(self, "model_")
        fitted, header = getattr(self, "feature_names_in_", None), header_of(X)
        if fitted is not None and header is not None and header != fitted.tolist():
            raise ArgumentError(f"X: found the columns {', '.join(header)}", expected=f"those of fit: {', '.join(fitted)}")
        texts = self._texts(X)
        refuse_empty(texts, pairs=self._task == "pairs", name="X")
        return self.model_.answer(texts)

    def _set_feature_names(self, header: list[str] | None) -> None:
        if header is not None:
            self.feature_names_in_ = np.array(header, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _keep(self, bundle: Path) -> None:
        """Load a copy of the bundle, since a cascade reads its second tier later, when the run folder may be gone."""
        home = Path(tempfile.mkdtemp(prefix="refsynth-"))
        weakref.finalize(self, _remove, home, os.getpid())
        self._bundle = publish(bundle, home / "bundle")
        self.model_ = load(self._bundle)

    def _tree(self, rows: Path, names: Sequence[str], *, weighed: bool) -> dict[str, Any]:
        columns = {**self._columns, **({"weight": "weight"} if weighed else {})}
        tree = tree_of(self._task, self.settings, self.drafts, {"train": str(rows), "columns": columns})
        return {**tree, "labels": meanings_of(self.labels, names), "seed": seed_of(self.random_state)}


_REPORT = TypeAdapter(Report)


def _remove(home: Path, owner: int) -> None:
    """Delete the folder of a model, except in a forked process, whose parent still reads it."""
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)
