"""TextClassifier: a run as a scikit-learn estimator, from texts and labels in memory to a bundle that is loaded."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from refsynth.bundle.model import Model, load
from refsynth.bundle.store import check_place
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError, nearest
from refsynth.core.run import RunFolder, write_jsonl
from refsynth.core.types import Array, FloatArray
from refsynth.data.labels import as_label
from refsynth.evaluation.report import Report
from refsynth.pipeline.observe import Logged
from refsynth.pipeline.ship import publish
from refsynth.pipeline.steps import run
from refsynth.task import Task

POOL, TEST = "pool", "test"
"""Files that `settings` may name under `data`; the rows are those that `fit` is given."""


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A classifier of texts that is trained by a run: drafts of the reference join the rows if held-out rows show that they help.

    Texts X [N] are a list, an array, a series or a column of any library that numpy reads; labels y [N] are words or numbers. A
    fit takes minutes, and tells the logger `refsynth` how far it is.

        classifier = refsynth.TextClassifier(drafts=1000).fit(texts, labels)
        classifier.predict(["where is my parcel?"])

    Attributes:
        classes_: the K labels, sorted, as they were given.
        model_: the bundle that ships, a `refsynth.Model`: what it predicts tells where it abstains.
        report_: the evidence, a `refsynth.evaluation.report.Report`.
    """

    classes_: Array
    model_: Model
    report_: Report

    def __init__(
        self,
        *,
        labels: Mapping[Any, str] | None = None,
        drafts: int | None = None,
        settings: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        random_state: int = 0,
    ) -> None:
        """Take the settings; they are checked when it is fitted.

        Args:
            labels: what each label means, in plain words, for the reference and the encoder to read; its name if left out.
            drafts: how many are asked for; 0 for none, as many as `task.yaml` takes if left out.
            settings: further keys of `task.yaml`, as in `{"learners": ["tfidf", "frozen"], "contract": {"p50_ms": 2}}`.
            out: the run folder, with the report; a fit that was stopped goes on there. Left out: one that is deleted in the end.
            random_state: the root of all randomness.
        """
        self.labels = labels
        self.drafts = drafts
        self.settings = settings
        self.out = out
        self.random_state = random_state

    def fit(self, X: Sequence[str], y: Sequence[Hashable]) -> Self:
        """Train on texts [N] with labels [N].

        Raises:
            InputError: something is no text or no label, or there is not one label for each text.
            RefsynthError: see `refsynth.run`.
        """
        texts, given = _column(X, "X"), _column(y, "y")
        if len(texts) != len(given):
            raise InputError(f"{len(texts):,} texts and {len(given):,} labels", expected="one label for each text")
        named = _check_texts(texts), _names(given)
        classes = unique_labels(given)
        names = _names(classes)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError("y: labels that differ in spaces or type alone", expected=f"one way to write {', '.join(twice)}")
        with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
            folder = RunFolder(Path(self.out or scratch).resolve())
            rows = folder.path / "rows.jsonl"
            write_jsonl(rows, [{"text": text, "label": name} for text, name in zip(*named, strict=True)])
            task = Task.of(RunConfig.parse(self._tree(rows, names), where="TextClassifier"))
            done = run(task, folder.path, watch=Logged())
            self._keep(done.bundle)
        self.classes_, self.report_ = classes, done.report
        return self

    def predict(self, X: Sequence[str]) -> Array:
        """Return the labels of texts [N], also of those for which the model would abstain.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: something is no text.
        """
        check_is_fitted(self, "model_")
        return np.asarray(self.classes_[self.model_.answer(_check_texts(_column(X, "X"))).answers])

    def predict_proba(self, X: Sequence[str]) -> FloatArray:
        """Return calibrated probabilities [N, K] in the order of `classes_`.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: something is no text.
        """
        check_is_fitted(self, "model_")
        return self.model_.probabilities(_check_texts(_column(X, "X")))

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to a folder, replacing one that is there.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: the folder holds something that is not a bundle.
        """
        check_is_fitted(self, "model_")
        check_place(Path(folder))
        return publish(self._bundle, Path(folder))

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be pickled or copied with a model in it: that is what bundles are for."""
        if hasattr(self, "model_"):
            raise TypeError("a fitted TextClassifier is not pickled: save(folder), then refsynth.load(folder)")
        return dict(super().__getstate__())

    def _keep(self, bundle: Path) -> None:
        """Load a copy of the bundle: the second tier of a cascade is read when it is needed, whatever has become of the run."""
        home = Path(tempfile.mkdtemp(prefix="refsynth-"))
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        self._bundle = publish(bundle, home / "bundle")
        self.model_ = load(self._bundle)

    def _tree(self, rows: Path, names: Sequence[str]) -> dict[str, Any]:
        """Return the tree of a task.yaml."""
        tree = dict(self.settings or {})
        data = dict(tree.pop("data", {}))
        if taken := sorted({"task", "labels", "seed"} & set(tree) | {f"data.{key}" for key in set(data) - {POOL, TEST}}):
            raise ConfigError(f"settings: found {', '.join(taken)}", expected="keys that neither fit nor another parameter gives")
        if self.drafts is not None:
            tree["synthesis"] = {**tree.get("synthesis", {}), "drafts": self.drafts}
        return {**tree, "labels": self._meanings(names), "data": {**data, "train": str(rows)}, "seed": self.random_state}

    def _meanings(self, names: Sequence[str]) -> dict[str, str]:
        told = dict(zip(_names(list(self.labels or ())), (self.labels or {}).values(), strict=True))
        for name in told:
            if name not in names:
                raise InputError(
                    f"labels: '{name}' is not in y", known=f"labels there: {', '.join(names)}", remedy=nearest(name, names)
                )
        return {name: told.get(name, name.replace("_", " ")) for name in names}


def _column(values: Any, name: str) -> list[Any]:
    """Return one-dimensional data as a list, whichever library holds it."""
    column = np.asarray(values, dtype=object)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise InputError(
            f"{name}: found {type(values).__name__} of shape {column.shape}", expected="one column: a list or the like"
        )
    return list(column)


def _check_texts(values: Sequence[Any]) -> list[str]:
    for place, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(f"X[{place}]: found {type(value).__name__}", expected="a text")
    return list(values)


def _names(values: Sequence[Any]) -> list[str]:
    """Return labels as data files have them: the name `2` for the numbers 2 and 2.0."""
    names = []
    for place, value in enumerate(values):
        name = as_label(value.item() if isinstance(value, np.generic) else value)
        if not name or value != value:
            raise InputError(f"y[{place}]: found {value!r}", expected="a label: a word or a number")
        names.append(name)
    return names
