"""Whatever library holds texts and labels, the estimators read the same; and what cannot be read is named."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

import refsynth
from refsynth.core.errors import ArgumentError
from refsynth.data.arguments import labels_of, texts_of
from refsynth.data.frame import cells_of, column_of, header_of, pairs_of
from refsynth.estimators.rows import seed_of, weighed

QUICK = {"language": "en", "reference": "echo", "learners": ["tfidf"]}
TEXTS = [f"number {place} {words}" for place, words in enumerate(["where is my late parcel", "the glass is broken"] * 8)]
LABELS = {
    "words": ["late", "broken"] * 8,
    "numbers": [7, 2] * 8,
    "truth": [True, False] * 8,
    "large numbers": [2**53 + 1, 2**53] * 8,
}


def held_by(library, function):
    return lambda values: function(pytest.importorskip(library), values)


COLUMNS = {
    "list": list,
    "tuple": tuple,
    "numpy": np.array,
    "numpy objects": lambda values: np.array(values, dtype=object),
    "pandas": held_by("pandas", lambda pandas, values: pandas.Series(values, index=range(50, 50 + len(values)))),
    "pandas category": held_by("pandas", lambda pandas, values: pandas.Series(values, dtype="category")),
    "pandas nullable": held_by("pandas", lambda pandas, values: pandas.Series(values).convert_dtypes()),
    "pandas of Arrow": held_by("pandas", lambda pandas, values: pandas.Series(values).convert_dtypes(dtype_backend="pyarrow")),
    "pandas index": held_by("pandas", lambda pandas, values: pandas.Index(values)),
    "pandas frame": held_by("pandas", lambda pandas, values: pandas.DataFrame({"said": values})),
    "polars": held_by("polars", lambda polars, values: polars.Series(values)),
    "polars frame": held_by("polars", lambda polars, values: polars.DataFrame({"said": values})),
    "Arrow": held_by("pyarrow", lambda arrow, values: arrow.array(values)),
    "Arrow dictionary": held_by("pyarrow", lambda arrow, values: arrow.array(values).dictionary_encode()),
    "Arrow chunks": held_by("pyarrow", lambda arrow, values: arrow.chunked_array([values[:3], values[3:]])),
    "Arrow table": held_by("pyarrow", lambda arrow, values: arrow.table({"said": values})),
    "Arrow batch": held_by("pyarrow", lambda arrow, values: arrow.record_batch({"said": values})),
    "datasets": held_by("datasets", lambda datasets, values: datasets.Dataset.from_dict({"said": values})),
    "a column of datasets": held_by("datasets", lambda datasets, values: datasets.Dataset.from_dict({"said": values})["said"]),
}


@pytest.fixture(autouse=True)
def _models(tiny_cache, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))


def classifier(**changes):
    return refsynth.TextClassifier(**{"drafts": 0, "settings": QUICK, **changes})


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_column_is_read_the_same_from_every_library(column, labels):
    assert texts_of(column(TEXTS)) == TEXTS
    found = labels_of(column(labels))
    assert found == labels and {type(label) for label in found} == {type(labels[0])}


@pytest.fixture(scope="module")
def fitted(tiny_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFSYNTH_CACHE", str(tiny_cache))
        return classifier().fit(TEXTS, LABELS["words"])


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_predictions_and_scores_do_not_depend_on_the_library(fitted, column):
    np.testing.assert_array_equal(fitted.predict_proba(column(TEXTS)), fitted.predict_proba(TEXTS))
    weights = column([1.0, *[2.0] * 15])
    assert fitted.score(column(TEXTS), column(LABELS["words"]), sample_weight=weights) == 1


def test_no_rows_have_no_answers_and_no_score(fitted):
    assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 2)
    with pytest.raises(ArgumentError, match="X: found no rows"):
        fitted.score([], [])


@pytest.mark.parametrize("name", ["pandas frame", "Arrow chunks", "polars", "datasets", "numpy"])
def test_a_fit_does_not_depend_on_the_library(fitted, name):
    other = classifier().fit(COLUMNS[name](TEXTS), COLUMNS[name](LABELS["words"]), sample_weight=COLUMNS[name]([1.0] * 16))
    np.testing.assert_array_equal(other.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert other.classes_.tolist() == fitted.classes_.tolist()


def test_what_columns_are_called_is_noted_and_held_to():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"said": TEXTS})
    fitted = classifier().fit(frame, LABELS["words"])
    assert fitted.feature_names_in_.tolist() == ["said"] and fitted.n_features_in_ == 1
    assert fitted.predict(frame).tolist() == fitted.predict(TEXTS).tolist()
    with pytest.raises(ArgumentError, match="X: found the columns other\n  expected those of fit: said"):
        fitted.predict(frame.rename(columns={"said": "other"}))
    assert not hasattr(fitted.fit(TEXTS, LABELS["words"]), "feature_names_in_")


TABLES = {
    "pandas": held_by("pandas", lambda pandas, columns: pandas.DataFrame(columns)),
    "polars": held_by("polars", lambda polars, columns: polars.DataFrame(columns)),
    "Arrow": held_by("pyarrow", lambda arrow, columns: arrow.table(columns)),
    "datasets": held_by("datasets", lambda datasets, columns: datasets.Dataset.from_dict(columns)),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_of_a_table_with_more_columns_the_one_meant_is_asked_for(table):
    both = table({"said": ["a", "b"], "id": ["1", "2"]})
    assert header_of(both) == ["said", "id"]
    assert pairs_of(both, "X") == [("a", "1"), ("b", "2")]
    with pytest.raises(
        ArgumentError, match=r"of shape \(2, 2\)\n.*\n  select the column, such as X\['said'\]; columns there: said, id"
    ):
        column_of(both, "X")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_lists_in_cells_stay_lists(table):
    nested = table({"words": [["a", "b"], ["c"], []]})
    assert cells_of(nested, "X") == cells_of(nested["words"], "X") == [["a", "b"], ["c"], []]


@pytest.mark.parametrize("values", [[("a", "b"), ["c", "d"]], np.array([["a", "b"], ["c", "d"]]), (("a", "b"), ("c", "d"))])
def test_pairs_in_any_form(values):
    assert pairs_of(values, "X") == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["ab", "cd"], r"X\[0\]: found str\n  expected a pair of texts"),
        ([("a", "b"), ("a", "b", "c")], r"X\[1\]: found tuple of 3"),
        (np.array([["a", "b", "c"]]), r"X: found ndarray of shape \(1, 3\)\n  expected two columns"),
        ("ab", "X: found str"),
        ({"a": "b"}, "X: found dict"),
    ],
)
def test_what_is_no_pairs_is_named(values, message):
    with pytest.raises(ArgumentError, match=message):
        pairs_of(values, "X")


def test_a_sparse_matrix_holds_no_texts():
    with pytest.raises(ArgumentError, match="a sparse matrix holds numbers only"):
        column_of(scipy.sparse.eye(3, format="csr"), "X")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 3)), min_size=1), st.randoms())
def test_weights_are_repeated_rows_in_any_order(rows, random):
    records = [{"text": text, "label": label} for text, label, _ in rows]
    repeated = [record for record, (_, _, weight) in zip(records, rows, strict=True) for _ in range(weight)]
    random.shuffle(repeated)
    bare = [
        [{name: value for name, value in row.items() if name != "id"} for row in found]
        for found in (weighed(records, np.array([weight for *_, weight in rows], float)), weighed(repeated, None))
    ]
    assert bare[0] == bare[1]


def test_a_row_that_no_file_may_hold_is_named():
    with pytest.raises(ArgumentError, match=r"X\[1\]: found 1,000,\d+ characters\n  expected at most 1,000,000"):
        weighed([{"text": "a"}, {"text": "a" * 1_000_000}], None)


STATES = {"int": 3, "numpy int": np.int64(3), "Generator": np.random.default_rng(3), "RandomState": np.random.RandomState(3)}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_randomness_begins_where_it_is_said(state):
    copied = clone(classifier(random_state=state)).random_state
    seeds = [seed_of(state), seed_of(state)]
    assert (seeds[0] == seeds[1]) == isinstance(state, (int, np.integer))  # a generator gives each fit another number
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert [seed_of(copied), seed_of(copied)] == seeds


def test_without_a_state_it_is_that_of_numpy():
    before = np.random.get_state()  # noqa: NPY002
    try:
        found = []
        for seed in (1, 1, 2):
            np.random.seed(seed)  # noqa: NPY002
            found.append(seed_of(None))
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("state", [-1, 2**31, 0.5, "seed", np.random.default_rng, [1]])
def test_what_is_no_state_is_named(state):
    with pytest.raises(ArgumentError, match="random_state: found"):
        classifier(random_state=state).fit(TEXTS, LABELS["words"])


def test_a_fit_with_a_generator_ends(tmp_path):
    random = np.random.default_rng(3)
    twice = [classifier(random_state=random, out=tmp_path / name).fit(TEXTS, LABELS["words"]) for name in "ab"]
    assert all(each.score(TEXTS, LABELS["words"]) == 1 for each in twice)
