"""TextClassifier: a run as a scikit-learn estimator, from texts and labels in memory to a bundle that is loaded."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from refsynth.bundle.model import Model, load
from refsynth.bundle.store import check_place
from refsynth.compress.ship import publish
from refsynth.core.config import RunConfig
from refsynth.core.errors import ArgumentError, ConfigError, nearest
from refsynth.core.observe import Logged, Printed
from refsynth.core.run import RunFolder, write_jsonl
from refsynth.core.task import Task
from refsynth.core.types import Array, FloatArray
from refsynth.data.given import classes_of, labels_of, names_of, texts_of, weights_of
from refsynth.data.nothing import refuse_empty
from refsynth.data.text import clean
from refsynth.evaluation.report import Report
from refsynth.pipeline.flow import run

OWN = {"pool", "test", "none"}
"""What `settings` may name under `data`; the rows are those that `fit` is given."""


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A classifier of texts that is trained by a run: drafts of the reference join the rows if held-out rows show that they help.

    Texts X [N] are a list, an array, a series or a column of any library that numpy reads; labels y [N] are words or numbers. A
    fit takes minutes, and tells the logger `refsynth` how far it is.

        classifier = refsynth.TextClassifier(drafts=1000).fit(texts, labels)
        classifier.predict(["where is my parcel?"])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf", "frozen"]}`.

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
        verbose: bool = False,
    ) -> None:
        """Take the settings; they are checked when it is fitted.

        Args:
            labels: what each label means, in plain words, for the reference and the encoder to read; its name if left out.
            drafts: how many are asked for; 0 for none, as many as `task.yaml` takes if left out.
            settings: further keys of `task.yaml`, as in `{"learners": ["tfidf", "frozen"], "contract": {"p50_ms": 2}}`.
            out: the run folder, with the report; a fit that was stopped goes on there. Left out: one that is deleted in the end.
            random_state: the root of all randomness.
            verbose: whether `fit` prints how far it is, on stderr.
        """
        self.labels = labels
        self.drafts = drafts
        self.settings = settings
        self.out = out
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Sequence[str], y: Sequence[Hashable], sample_weight: Sequence[float] | None = None) -> Self:
        """Train on texts [N] with labels [N].

        Args:
            X: the texts.
            y: their labels.
            sample_weight: how many rows each counts as in training [N]; what is held out is measured without.

        Raises:
            InputError: something is no text or no label, or there is not one label for each text.
            RefsynthError: see `refsynth.run`.
        """
        texts, given = texts_of(X), labels_of(y)
        if len(texts) != len(given):
            raise ArgumentError(f"{len(texts):,} texts and {len(given):,} labels", expected="one label for each text")
        weights = None if sample_weight is None else weights_of(sample_weight, len(texts))
        if weights is not None:
            texts, given = ([each for each, weight in zip(column, weights, strict=True) if weight] for column in (texts, given))
            weights = weights[weights > 0]
        classes = classes_of(given)
        names = names_of(classes)
        with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
            folder = RunFolder(Path(self.out or scratch).resolve())
            rows = folder.path / "rows.jsonl"
            write_jsonl(rows, _rows(texts, names_of(given), weights))
            task = Task.of(RunConfig.parse(self._tree(rows, names, weighed=weights is not None), where="TextClassifier"))
            done = run(task, folder.path, watch=Printed() if self.verbose else Logged())
            self._keep(done.bundle)
        self.classes_, self.report_ = classes, done.report
        return self

    def predict(self, X: Sequence[str]) -> Array:
        """Return the labels of texts [N], also of those for which the model would abstain.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: something is no text, or an empty one.
        """
        check_is_fitted(self, "model_")
        return np.asarray(self.classes_[self.model_.answer(_filled(X)).answers])

    def predict_proba(self, X: Sequence[str]) -> FloatArray:
        """Return calibrated probabilities [N, K] in the order of `classes_`.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: something is no text, or an empty one.
        """
        check_is_fitted(self, "model_")
        return self.model_.probabilities(_filled(X))

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
        """Tell scikit-learn that X is a column of texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy is made of: of a fitted model the bytes of its bundle."""
        state = dict(super().__getstate__())
        if state.pop("model_", None) is not None:
            state["_bundle"] = {path.name: path.read_bytes() for path in sorted(self._bundle.iterdir())}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back; the bundle is checked as any that is loaded.

        Raises:
            BundleError: its bytes are not those that were dumped.
        """
        files = state.pop("_bundle", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="refsynth-") as scratch:
                for name, data in files.items():
                    (Path(scratch) / Path(name).name).write_bytes(data)
                self._keep(Path(scratch))

    def _keep(self, bundle: Path) -> None:
        """Load a copy of the bundle: the second tier of a cascade is read when it is needed, whatever has become of the run."""
        home = Path(tempfile.mkdtemp(prefix="refsynth-"))
        weakref.finalize(self, _remove, home, os.getpid())
        self._bundle = publish(bundle, home / "bundle")
        self.model_ = load(self._bundle)

    def _tree(self, rows: Path, names: Sequence[str], *, weighed: bool) -> dict[str, Any]:
        """Return the tree of a task.yaml."""
        tree = dict(self.settings or {})
        data = dict(tree.pop("data", {}))
        if taken := sorted({"task", "labels", "seed"} & set(tree) | {f"data.{key}" for key in set(data) - OWN}):
            raise ConfigError(f"settings: found {', '.join(taken)}", expected="keys that neither fit nor another parameter gives")
        if self.drafts is not None:
            tree["synthesis"] = {**tree.get("synthesis", {}), "drafts": self.drafts}
        data |= {"train": str(rows), **({"columns": {"weight": "weight"}} if weighed else {})}
        return {**tree, "labels": self._meanings(names), "data": data, "seed": self.random_state}

    def _meanings(self, names: Sequence[str]) -> dict[str, str]:
        if not isinstance(self.labels or {}, Mapping):
            raise ArgumentError(f"labels: found {type(self.labels).__name__}", expected="each label with what it means, a dict")
        told = dict(zip(names_of(list(self.labels or ())), (self.labels or {}).values(), strict=True))
        for name in told:
            if name not in names:
                raise ArgumentError(
                    f"labels: '{name}' is not in y", known=f"labels there: {', '.join(names)}", remedy=nearest(name, names)
                )
        return {name: told.get(name, name.replace("_", " ")) for name in names}


def _rows(texts: Sequence[str], names: Sequence[str], weights: FloatArray | None) -> list[dict[str, Any]]:
    """Return the rows of a data file; of a text that is there several times the first has the weight of all, since it stays."""
    keys = [(clean(text), name) for text, name in zip(texts, names, strict=True)]  # half a surrogate pair cannot be written
    rows = [{"text": text, "label": name} for text, name in keys]
    if weights is None:
        return rows
    total: Counter[tuple[str, str]] = Counter()
    for key, weight in zip(keys, weights.tolist(), strict=True):
        total[key] += weight
    return [{**row, "weight": total[key]} for row, key in zip(rows, keys, strict=True)]


def _remove(home: Path, owner: int) -> None:
    """Delete the folder of a model, but for a forked process, whose parent still reads it."""
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)


def _filled(values: Any) -> list[str]:
    """Return a column of texts that can be answered.

    Raises:
        ArgumentError: it is none, or a text is empty.
    """
    texts = texts_of(values)
    refuse_empty(texts, name="X")
    return texts
