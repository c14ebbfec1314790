"""TextClassifier keeps scikit-learn's contract: parameters, clones, pipelines, cross-validation; and gives a bundle."""

import copy
import gc
import json
import logging
import pickle
import shutil
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import refsynth
from refsynth.core.errors import ArgumentError, BundleError, ConfigError, InputError
from refsynth.core.files import read_jsonl
from refsynth.core.hashes import folder_digest
from tests.support.runs import write_rows

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
        ({}, lambda x, y: (x, ["late ", *y[1:]]), "labels that differ only in spaces"),
        ({"labels": ["late"]}, lambda x, y: (x, y), "labels: found list\n  expected each label with what it means"),
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


def test_a_model_is_saved_and_leaves_nothing_behind(rows, tmp_path):
    fitted = classifier().fit(*rows)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a bundle"):
        fitted.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    home = fitted._bundle.parent
    del fitted
    gc.collect()
    assert not home.exists()


def through_joblib(fitted, folder):
    joblib.dump(fitted, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


COPIES = {
    "joblib": through_joblib,
    "pickle": lambda fitted, folder: pickle.loads(pickle.dumps(fitted)),  # noqa: S301
    "cloudpickle": lambda fitted, folder: pickle.loads(cloudpickle.dumps(fitted)),  # noqa: S301
    "deepcopy": lambda fitted, folder: copy.deepcopy(fitted),
    "in a pipeline": lambda fitted, folder: copy.deepcopy(make_pipeline(fitted)).steps[0][1],
}


@pytest.fixture(scope="module")
def fitted(rows, tiny_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFSYNTH_CACHE", str(tiny_cache))
        return classifier().fit(*rows)


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_fitted_model_is_dumped_with_its_bundle(fitted, rows, tmp_path, made):
    expected = fitted.predict_proba(rows[0])
    copied = made(fitted, tmp_path)
    assert copied._bundle != fitted._bundle and copied.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copied.predict_proba(rows[0]), expected)
    assert copied.classes_.tolist() == fitted.classes_.tolist() and copied.report_.drafts == fitted.report_.drafts
    assert folder_digest(copied.save(tmp_path / "bundle")) == folder_digest(fitted._bundle)
    assert "model_" in vars(fitted)  # to be copied changes nothing


def plain(value):
    """Return whether a value holds nothing but data of Python and numpy."""
    if isinstance(value, dict):
        return type(value) is dict and all(map(plain, [*value, *value.values()]))
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(plain, value))
    return value is None or type(value) in (str, bytes, int, float, bool) or (type(value) is np.ndarray and value.dtype != object)


def test_a_dump_is_plain_data_and_outlives_the_folder_of_its_run(rows, tmp_path):
    fitted = classifier(out=tmp_path / "run", drafts=8, labels={"late": "the parcel is late"})
    fitted.set_params(out=str(tmp_path / "run")).fit(*rows)
    state = fitted.__getstate__()
    assert plain(state) and {"manifest.json"} < set(state["_bundle"]) and state["report_"]["drafts"]["asked"] > 0
    joblib.dump(fitted, tmp_path / "model.joblib")
    expected, home = fitted.predict_proba(rows[0]), fitted._bundle.parent
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(home)
    del fitted
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(rows[0]), expected)


def test_a_dump_that_was_altered_is_refused(fitted):
    state = fitted.__getstate__()
    name = next(iter(state["_bundle"]))
    state["_bundle"][name] += b" "
    with pytest.raises(BundleError):
        classifier().__setstate__(state)
    unfitted = pickle.loads(pickle.dumps(classifier()))  # noqa: S301
    with pytest.raises(NotFittedError):
        unfitted.predict(["a"])


@pytest.mark.slow
def test_estimators_come_back_from_other_processes(rows):
    found = cross_validate(classifier(), *rows, cv=2, n_jobs=2, return_estimator=True)
    assert found["test_score"].mean() > 0.8
    assert [len(one.predict(rows[0])) for one in found["estimator"]] == [16, 16]


def test_weights_are_those_of_repeated_rows(rows):
    texts, labels = rows
    doubtful = ["the parcel came in pieces", *texts]
    said = {}
    for weight in (0.05, 40.0):
        weights = [weight, *[1.0] * len(texts)]
        said[weight] = classifier().fit(doubtful, ["late", *labels], sample_weight=weights).predict_proba(doubtful[:1])[0, 1]
    assert said[40.0] > said[0.05] + 0.1
    without = classifier().fit(texts, labels).predict_proba(texts)
    zero = classifier().fit(doubtful, ["late", *labels], sample_weight=[0, *[1] * len(texts)]).predict_proba(texts)
    np.testing.assert_array_equal(zero, without)


def test_every_learner_gets_the_weights(rows, tmp_path):
    texts, labels = rows
    classifier(out=tmp_path / "run").fit([*texts, texts[0]], [*labels, labels[0]], sample_weight=[2.0] * 17)
    kept = list(read_jsonl(tmp_path / "run" / "steps" / "rows" / "examples.jsonl"))
    weights = {row["text"]: row.get("weight", 1.0) for row in kept}
    assert weights == {text: 4.0 if text == texts[0] else 2.0 for text in texts}  # of a text that is there twice both count


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 15, "15 weights and 16 texts"),
        ([1.0, -1.0, *[1.0] * 14], r"sample_weight\[1\]: found -1.0\n  expected a number, 0 or more"),
        ([1.0, float("nan"), *[1.0] * 14], r"sample_weight\[1\]: found nan"),
        ([1.0, None, *[1.0] * 14], r"sample_weight\[1\]: found None"),
        (["much"] * 16, r"sample_weight\[0\]: found 'much' \(and 15 more rows\)"),
        ([0.0] * 16, "all weights are zero"),
        ([1, 0] * 8, "only the label 'late'"),
        (np.ones((16, 2)), "found ndarray of shape"),
    ],
)
def test_weights_that_are_none_are_named(rows, weights, message):
    with pytest.raises(ArgumentError, match=message):
        classifier().fit(*rows, sample_weight=weights)


def halved(texts):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"one": texts, "two": texts})


GIVEN = {
    "mixed labels": (lambda x, y: (x, [1, "1", *y[2:]]), r"labels of different types, 1 at y\[0\] and '1' at y\[1\]"),
    "numbers and words": (lambda x, y: (x, [*y[:15], 3]), r"labels of different types, .* and 3 at y\[15\]"),
    "truth and numbers": (lambda x, y: (x, [True, 1, *[0] * 14]), r"labels of different types, True at y\[0\] and 1 at y\[1\]"),
    "no rows": (lambda x, y: ([], []), "y: found no labels in 0 rows"),
    "one class": (lambda x, y: (x, ["late"] * 16), "y: found only the label 'late' in 16 rows"),
    "fractions": (lambda x, y: (x, [0.5, *range(15)]), r"y\[0\]: found 0.5\n  expected a label: a word or a whole number"),
    "lists": (lambda x, y: (x, [[label] for label in y]), r"y\[0\]: found list\n  expected one label for each text"),
    "tuples": (lambda x, y: (x, [(label,) for label in y]), r"y\[0\]: found tuple"),
    "one-hot": (lambda x, y: (x, np.eye(2)[[0, 1] * 8]), r"y: found ndarray of shape \(16, 2\)"),
    "None": (lambda x, y: (x, [None, None, *y[2:]]), r"y\[0\]: found None \(and 1 more row\)"),
    "generator": (lambda x, y: ((text for text in x), y), r"X: found generator of shape \(\)\n.*\n  list\(X\) makes one"),
    "dict": (lambda x, y: (dict(enumerate(x)), y), "X: found dict"),
    "set": (lambda x, y: (set(x), y), "X: found set"),
    "sparse": (lambda x, y: (scipy.sparse.eye(16, format="csr"), y), "X: found csr_matrix"),
    "numbers": (lambda x, y: (np.ones(16), y), r"X\[0\]: found 1.0 \(and 15 more rows\)\n  expected a text"),
    "bytes": (lambda x, y: ([text.encode() for text in x], y), r"X\[0\]: found bytes"),
    "NaN": (lambda x, y: ([*x[:15], float("nan")], y), r"X\[15\]: found nan\n  expected a text"),
    "two columns": (lambda x, y: (halved(x), y), r"X: found DataFrame of shape \(16, 2\)"),
    "three dimensions": (lambda x, y: (np.array(x).reshape(4, 2, 2), y), r"X: found ndarray of shape \(4, 2, 2\)"),
    "masked": (lambda x, y: (np.ma.array(x, mask=[1] + [0] * 15), y), r"X\[0\]: found NoneType"),
    "dates": (lambda x, y: (x, np.array(["2020-01-01", "2021-01-01"] * 8, "datetime64[D]")), r"y\[0\]: found date"),
    "ragged": (lambda x, y: ([x[:1], *x[1:]], y), r"X\[0\]: found list"),
    "None itself": (lambda x, y: (None, y), "X: found NoneType"),
}


@pytest.mark.parametrize(("spoil", "message"), GIVEN.values(), ids=GIVEN)
def test_what_cannot_be_learned_from_is_a_value_error_that_names_it(rows, spoil, message):
    with pytest.raises(InputError, match=message) as caught:
        classifier().fit(*spoil(*rows))
    assert isinstance(caught.value, ValueError)


def test_missing_values_of_pandas(rows):
    pandas = pytest.importorskip("pandas")
    texts, labels = rows
    with pytest.raises(ArgumentError, match=r"X\[1\]: found NAType"):
        classifier().fit(pandas.Series([texts[0], pandas.NA, *texts[2:]], dtype="string"), labels)
    with pytest.raises(ArgumentError, match=r"y\[0\]: found <NA>"):
        classifier().fit(texts, pandas.Series([pandas.NA, *[1, 2] * 7, 1], dtype="Int64"))
    odd = pandas.Series(texts, index=range(100, 84, -1))
    marked = classifier().fit(odd, pandas.Series(labels, index=odd.index, dtype="category"))
    assert marked.predict(odd[::-1]).tolist() == marked.predict(texts[::-1]).tolist()


def test_half_a_surrogate_pair_is_read_as_files_have_it(rows):
    texts, labels = rows
    assert classifier().fit(["\ud800 parcel late", *texts[1:]], labels).predict(["\udfff parcel late"]).tolist() == ["late"]


def test_near_copies_alone_are_fitted_and_not_measured():
    texts = [f"Dear team, my parcel number {place} is broken. Regards" for place in range(6)]
    fitted = classifier().fit(texts, ["broken", "late"] * 3)
    assert fitted.predict(texts).shape == (6,)


def test_fit_tells_how_far_it_is_where_it_is_asked_to(rows, capfd):
    classifier(verbose=True, drafts=8).fit(*rows)
    told = capfd.readouterr()
    assert told.out == "" and [line.split()[0] for line in told.err.splitlines() if line[:1] != " "][:2] == ["rows", "drafts:"]
    assert "bundle" in told.err and not any(text in told.err for text in rows[0])


def test_the_tags_of_an_estimator_of_texts():
    tags = get_tags(classifier())
    assert tags.input_tags.string and tags.input_tags.one_d_array and not tags.input_tags.two_d_array
    assert tags.estimator_type == "classifier" and tags.target_tags.required


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
