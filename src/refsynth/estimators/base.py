"""TextEstimator: what the estimators of all kinds of task share: settings, fit, what a fitted one keeps, dump and load."""

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
from refsynth.core.kinds import KindName
from refsynth.core.observe import Logged, Printed
from refsynth.core.run import RunFolder, write_jsonl
from refsynth.core.task import Task
from refsynth.core.types import Array
from refsynth.data.arguments import names_of, weights_of
from refsynth.data.frame import header_of
from refsynth.data.nothing import refuse_empty
from refsynth.estimators.rows import FitRows, RandomState, file_of, meanings_of, seed_of, tree_of, weighed
from refsynth.evaluation.report import Report
from refsynth.pipeline.flow import run


class TextEstimator(ABC, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A model of texts that is trained by a run; each kind of task says how X and y are read and how an answer goes back."""

    _task: ClassVar[KindName]
    _columns: ClassVar[Mapping[str, str]] = {}
    """Columns of the rows that have not their usual names."""
    _width: ClassVar[int] = 1
    """How many columns X has."""

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
        """Take the settings; they are checked when it is fitted.

        Args:
            labels: what each label means, in plain words, for the reference and the encoder to read; its name if left out.
            drafts: how many are asked for; 0 for none, as many as `task.yaml` takes if left out.
            settings: further keys of `task.yaml`, as in `{"learners": ["tfidf", "frozen"], "contract": {"p50_ms": 2}}`.
            out: the run folder, with the report; a fit that was stopped goes on there. Left out: one that is deleted in the end.
            random_state: the root of all randomness: a number; or a generator of numpy, or None for numpy's own, of which each
                fit takes another number.
            verbose: whether `fit` prints how far it is, on stderr.
        """
        self.labels = labels
        self.drafts = drafts
        self.settings = settings
        self.out = out
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _given(self, X: Any, y: Any) -> FitRows:
        """Return what a fit is given as rows."""

    @abstractmethod
    def _classes(self, labels: list[Any]) -> Array:
        """Return the K labels, sorted, from all that are said of rows that count."""

    @abstractmethod
    def _texts(self, X: Any) -> list[str]:
        """Return texts as the bundle takes them [N]."""

    @abstractmethod
    def _shown(self, X: Any, found: Answered) -> Any:
        """Return answers in the form in which y was given [N]."""

    @abstractmethod
    def _score(self, X: Any, y: Any, found: Answered, weights: Array) -> float:
        """Return how good answers are; each row counts by its weight [N]."""

    def fit(self, X: Any, y: Any, sample_weight: Sequence[float] | None = None) -> Self:
        """Train on N rows.

        Args:
            X: the texts.
            y: what each of them is given.
            sample_weight: how many rows each counts as in training [N]; what is held out is measured without.

        Raises:
            ArgumentError: something is no text or no label, or there is not one for each text.
            RefsynthError: see `refsynth.run`.
        """
        if y is None:
            name = type(self).__name__
            raise ArgumentError(f"y: this {name} requires y to be passed, but the target y is None", expected="labels")
        given = self._given(X, y)
        weights = None if sample_weight is None else weights_of(sample_weight, len(given.records))
        counted = [row for place, row in enumerate(given.labels) if weights is None or weights[place]]
        classes = self._classes([label for row in counted for label in row]) if given.classes is None else given.classes
        rows, names = weighed(given.records, weights), names_of(classes)
        with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
            folder = RunFolder(Path(self.out or scratch).resolve())
            write_jsonl(file_of(folder.path), rows)
            tree = self._tree(file_of(folder.path), names, weighed="weight" in rows[0])
            task = Task.of(RunConfig.parse(tree, where=type(self).__name__))
            done = run(task, folder.path, watch=Printed() if self.verbose else Logged())
            self._keep(done.bundle)
        self.classes_, self._form, self.report_ = classes, given.form, done.report
        self.n_features_in_ = self._width
        self._note(header_of(X))
        return self

    def predict(self, X: Any) -> Any:
        """Return the answer for each of N rows, in the form in which y was given, also where the model would abstain.

        Raises:
            NotFittedError: it has not been fitted.
            ArgumentError: something is no text, or an empty one.
        """
        return self._shown(X, self._answered(X))

    def score(self, X: Any, y: Any, sample_weight: Sequence[float] | None = None) -> float:
        """Return how good the answers to N rows are: the share that is right, of words F1 over all spans.

        Args:
            X: the texts.
            y: what is right, as for `fit`.
            sample_weight: how much each row counts [N]; all the same if left out.

        Raises:
            NotFittedError: it has not been fitted.
            ArgumentError: something is no text or no label, or there is not one for each text.
        """
        found = self._answered(X)
        if not (n := len(found.answers)):
            raise ArgumentError("X: found no rows", expected="some to measure on")
        return self._score(X, y, found, weights_of(1.0 if sample_weight is None else sample_weight, n))

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to a folder, replacing one that is there.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: the folder holds something that is not a bundle.
        """
        check_is_fitted(self, "model_")
        check_place(Path(folder))
        return publish(self._bundle, Path(folder))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that X is texts, and that y is needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy is made of, plain values: of a fitted model the bytes of its bundle and its report."""
        state = dict(super().__getstate__())
        if state.pop("model_", None) is not None:
            state["_bundle"] = {path.name: path.read_bytes() for path in sorted(self._bundle.iterdir())}
            state["report_"] = _REPORT.dump_python(state["report_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back; the bundle is checked as any that is loaded.

        Raises:
            BundleError: its bytes are not those that were dumped.
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

    def _note(self, header: list[str] | None) -> None:
        """Remember what the columns of X are called, where they have names."""
        if header is not None:
            self.feature_names_in_ = np.array(header, object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _keep(self, bundle: Path) -> None:
        """Load a copy of the bundle: the second tier of a cascade is read when it is needed, whatever has become of the run."""
        home = Path(tempfile.mkdtemp(prefix="refsynth-"))
        weakref.finalize(self, _remove, home, os.getpid())
        self._bundle = publish(bundle, home / "bundle")
        self.model_ = load(self._bundle)

    def _tree(self, rows: Path, names: Sequence[str], *, weighed: bool) -> dict[str, Any]:
        """Return the tree of a task.yaml."""
        columns = {**self._columns, **({"weight": "weight"} if weighed else {})}
        tree = tree_of(self._task, self.settings, self.drafts, {"train": str(rows), "columns": columns})
        return {**tree, "labels": meanings_of(self.labels, names), "seed": seed_of(self.random_state)}


_REPORT = TypeAdapter(Report)


def _remove(home: Path, owner: int) -> None:
    """Delete the folder of a model, but for a forked process, whose parent still reads it."""
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)
