"""TextClassifier keeps scikit-learn's contract: parameters, clones, pipelines, cross-validation; and gives a bundle."""

import copy
import gc
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import refsynth
from refsynth.core.errors import ConfigError, InputError
from refsynth.core.run import folder_digest, read_jsonl
from test_pipeline import write_rows

QUICK = {"language": "en", "reference": "echo", "learners": ["tfidf"]}


@pytest.fixture(autouse=True)
def _models(tiny_cache, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    write_rows(path, 8, 1)
    records = list(read_jsonl(path))
    return [row["text"] for row in records], [row["label"] for row in records]


def classifier(**changes):
    return refsynth.TextClassifier(**{"drafts": 0, "settings": QUICK, **changes})


def test_from_texts_and_labels_to_a_bundle(rows, tmp_path, caplog):
    texts, labels = rows
    meant = {"late": "the parcel is late"}
    with caplog.at_level(logging.INFO, "refsynth"):
        fitted = classifier(labels=meant, drafts=12, out=tmp_path / "run").fit(texts, labels)
    assert [line.split(":")[0] for line in caplog.messages][:2] == ["rows", "synthesize"]
    assert not any(text in caplog.text for text in texts)
    assert fitted.classes_.tolist() == ["broken", "late"] == list(fitted.model_.labels)
    assert {label.name: label.description for label in fitted.model_.manifest.labels} == {"broken": "broken", **meant}
    assert (tmp_path / "run" / "report.html").is_file() and fitted.report_.drafts is not None
    assert fitted.score(texts, labels) > 0.9
    given = fitted.predict_proba(texts)
    np.testing.assert_allclose(given.sum(1), 1, atol=1e-6)
    assert fitted.classes_[given.argmax(1)].tolist() == fitted.predict(texts).tolist()
    saved = fitted.save(tmp_path / "bundle")
    assert [said.label for said in refsynth.load(saved).predict(texts)] == fitted.predict(texts).tolist()
    assert folder_digest(fitted.save(tmp_path / "bundle")) == folder_digest(tmp_path / "run" / "bundle")  # over the old one
    assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 2)


def test_a_run_folder_of_a_fit_is_one_for_the_command_line(rows, tmp_path):
    """Its rows are in it, so that its parts can be done again when the process is gone."""
    classifier(out=tmp_path / "run").fit(*rows)
    task = json.loads((tmp_path / "run" / "task.json").read_text())
    assert Path(task["config"]["data"]["train"]).parent == tmp_path / "run"
    first = (tmp_path / "run" / "steps" / "fit" / "step.json").stat().st_mtime_ns
    classifier(out=tmp_path / "run").fit(*rows)
    assert (tmp_path / "run" / "steps" / "fit" / "step.json").stat().st_mtime_ns == first  # nothing is done twice


def test_the_contract_of_an_estimator(rows):
    texts, labels = rows
    made = classifier(random_state=3)
    assert clone(made).get_params() == made.get_params()
    assert clone(made).set_params(drafts=5).drafts == 5
    with pytest.raises(NotFittedError):
        made.predict(texts)
    assert cross_val_score(classifier(), texts, labels, cv=2).mean() > 0.8
    lower = FunctionTransformer(lambda column: [text.lower() for text in column])
    searched = GridSearchCV(make_pipeline(lower, classifier()), {"textclassifier__random_state": [0, 1]}, cv=2)
    assert searched.fit(texts, labels).predict(texts[:2]).shape == (2,)


@pytest.mark.parametrize(("values", "kind"), [(["0", "1"], "U"), ([0, 1], "i"), ([0.0, 1.0], "f"), ([False, True], "b")])
def test_labels_come_back_as_they_were_given(rows, values, kind):
    texts, labels = rows
    given = np.array(values)[[int(label == "late") for label in labels]]
    fitted = classifier().fit(texts, given)
    assert fitted.classes_.dtype.kind == fitted.predict(texts).dtype.kind == kind
    assert fitted.classes_.tolist() == values
    assert fitted.score(texts, given) > 0.9


def test_columns_of_other_libraries(rows):
    polars = pytest.importorskip("polars")
    texts, labels = rows
    fitted = classifier().fit(polars.Series(texts), polars.Series(labels))
    said = fitted.predict(texts).tolist()
    for column in (tuple(texts), np.array(texts), np.array(texts, dtype=object)[:, None], polars.DataFrame({"text": texts})):
        assert fitted.predict(column).tolist() == said


@pytest.mark.parametrize(
    ("changes", "spoil", "message"),
    [
        ({}, lambda x, y: ("late parcel", y), "X: found str of shape"),
        ({}, lambda x, y: ([[text, text] for text in x], y), "X: found list of shape"),
        ({}, lambda x, y: ([*x[:3], None, *x[4:]], y), r"X\[3\]: found NoneType\n  expected a text"),
        ({}, lambda x, y: (x, [*y[:3], float("nan"), *y[4:]]), r"y\[3\]: found nan\n  expected a label"),
        ({}, lambda x, y: (x, [*y[:3], "", *y[4:]]), r"y\[3\]: found ''"),
        ({}, lambda x, y: (x, y[:-1]), "16 texts and 15 labels"),
        ({}, lambda x, y: (x, ["late ", *y[1:]]), "labels that differ in spaces"),
        (
            {"labels": {"lat": "too late"}},
            lambda x, y: (x, y),
            r"labels: 'lat' is not in y\n  labels there: broken, late\n  did you mean 'late'",
        ),
    ],
)
def test_what_is_no_text_or_no_label_is_named(rows, changes, spoil, message):
    with pytest.raises(InputError, match=message):
        classifier(**changes).fit(*spoil(*rows))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 3, "labels": {}}, "settings: found labels, seed"),
        ({"data": {"train": "x.csv"}}, "settings: found data.train"),
        ({"learner": ["tfidf"]}, "did you mean 'learners'"),
    ],
)
def test_settings_are_those_of_a_task(rows, settings, message):
    with pytest.raises(ConfigError, match=message):
        classifier(settings=settings).fit(*rows)


def test_a_model_is_saved_and_not_pickled(rows, tmp_path):
    made = classifier()
    assert copy.deepcopy(made).get_params() == made.get_params()
    fitted = made.fit(*rows)
    with pytest.raises(TypeError, match=r"save\(folder\)"):
        copy.deepcopy(fitted)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a bundle"):
        fitted.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    home = fitted._bundle.parent
    del fitted, made
    gc.collect()
    assert not home.exists()


def test_a_run_says_nothing_by_itself_and_leaves_the_settings_of_others(rows, capfd):
    from transformers.utils import logging as advice

    settings = {"language": "en", "reference": "echo", "learners": ["frozen"]}
    advice.set_verbosity_info()
    advice.enable_progress_bar()
    try:
        classifier(settings=settings).fit(*rows)
        assert (advice.get_verbosity(), advice.is_progress_bar_enabled()) == (logging.INFO, True)
    finally:  # as the tests have them
        advice.set_verbosity_error()
        advice.disable_progress_bar()
    told = capfd.readouterr()
    assert "shards" not in told.err and "weights" not in told.err and told.out == ""
