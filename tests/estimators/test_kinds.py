"""Estimators of the other kinds of task: sets of labels, pairs of texts, labels of words."""

import pickle
import random

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import refsynth
from refsynth.core.errors import ArgumentError

WORDS = {
    "broken": "glass cracked broken piece damage",
    "late": "late parcel where delivery when",
    "money": "refund money pay cash back",
}
NAMES, PLACES = ["Ann Lee", "Bo Li", "Cy Fox", "Di Roe"], ["Oslo", "Rome", "New York", "Bern"]


def settings(learner):
    return {"language": "en", "reference": "echo", "learners": [learner]}


def make_sets(rng):
    texts, sets = [], []
    for place in range(36):
        names = [name for at, name in enumerate(WORDS) if place >> at & 1]
        texts.append(f"number {place} " + " ".join(word for name in names for word in rng.sample(WORDS[name].split(), 3)))
        sets.append(names)
    return texts, sets


def make_pairs(rng):
    second = [rng.sample(WORDS["late" if place % 2 else "money"].split(), 3) for place in range(32)]
    pairs = [(f"number {place} parcel late", " ".join(words)) for place, words in enumerate(second)]
    return pairs, ["same" if place % 2 else "other" for place in range(32)]


def make_spans(rng):
    texts, spans = [], []
    for place in range(32):
        name, city = rng.choice(NAMES), rng.choice(PLACES)
        text = f"{name} lives in {city} , I think {place}"
        texts.append(text)
        at = text.index(city)
        spans.append([(0, len(name), "person"), (at, at + len(city), "place")])
    return texts, spans


def tags_for(text, spans):
    """Return words and BIO tags of a text whose words stand between spaces."""
    words, tags, at = text.split(" "), [], 0
    for word in words:
        span = next((span for span in spans if span[0] <= at < span[1]), None)
        tags.append("O" if span is None else f"{'B' if at == span[0] else 'I'}-{span[2]}")
        at += len(word) + 1
    return words, tags


MADE = {
    "sets": (refsynth.MultiLabelTextClassifier, "tfidf", make_sets),
    "pairs": (refsynth.TextPairClassifier, "tfidf", make_pairs),
    "spans": (refsynth.TokenTagger, "crf", make_spans),
}


@pytest.fixture(autouse=True)
def _models(tiny_cache, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    monkeypatch.setattr("refsynth.pipeline.report.render_html", lambda *given, **named: "")
    monkeypatch.setattr("refsynth.pipeline.report.render_markdown", lambda *given, **named: "")


def estimator(kind, **changes):
    make, learner, _ = MADE[kind]
    return make(**{"drafts": 0, "settings": settings(learner), **changes})


def rows(kind):
    return MADE[kind][2](random.Random(0))


@pytest.fixture(params=MADE)
def kind(request):
    return request.param


def test_it_is_fitted_scored_cloned_and_pickled(kind, tmp_path):
    X, y = rows(kind)
    fitted = estimator(kind).fit(X, y)
    assert fitted.score(X, y) > 0.9
    copied = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert copied.predict(X) == fitted.predict(X) if kind != "pairs" else (copied.predict(X) == fitted.predict(X)).all()
    assert copied.report_ == fitted.report_ and copied.classes_.tolist() == fitted.classes_.tolist()
    assert refsynth.load(fitted.save(tmp_path / "bundle")).manifest.task == fitted._task
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


@pytest.mark.slow
def test_it_is_cross_validated_searched_and_ends_a_pipeline(kind):
    X, y = rows(kind)
    y = as_matrix(y) if kind == "sets" else y
    found = cross_validate(estimator(kind), X, y, cv=2, return_estimator=True)
    assert found["test_score"].mean() > 0.5 and len(found["estimator"]) == 2
    search = GridSearchCV(estimator(kind), {"random_state": [0, 1]}, cv=2).fit(X, y)
    assert search.best_estimator_.score(X, y) > 0.8
    piped = make_pipeline(FunctionTransformer(list), estimator(kind)).fit(X, y)
    assert piped.score(X, y) > 0.8


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_weights_count_in_fit_and_in_score(kind, weight):
    X, y = rows(kind)
    weights = [weight, *[1.0] * (len(X) - 1)]
    weighed = estimator(kind).fit(X, y, sample_weight=weights)
    same = estimator(kind).fit([*X[1:], *X[:1] * int(weight)], [*y[1:], *y[:1] * int(weight)])
    assert [list(each) for each in weighed.predict(X)] == [list(each) for each in same.predict(X)]
    wrong = [y[1], *y[1:]]
    right = weighed.score(X, y)
    assert weighed.score(X, wrong) < right
    assert weighed.score(X, wrong, sample_weight=[0.0, *[1.0] * (len(X) - 1)]) == weighed.score(X[1:], y[1:])


def test_labels_are_described(kind):
    X, y = rows(kind)
    name = {"sets": "late", "pairs": "same", "spans": "person"}[kind]
    fitted = estimator(kind, labels={name: "what it means"}).fit(X, y)
    assert {label.name: label.description for label in fitted.model_.manifest.labels}[name] == "what it means"
    with pytest.raises(ArgumentError, match="labels: 'nothing' is not in y"):
        estimator(kind, labels={"nothing": "x"}).fit(X, y)


# Sets of labels


def as_matrix(sets, names=tuple(WORDS)):
    return np.array([[name in given for name in names] for given in sets], int)


def named(table):
    def make(sets):
        module = pytest.importorskip(table)
        return module.DataFrame({name: as_matrix(sets)[:, at] for at, name in enumerate(WORDS)})

    return make


FORMS = {
    "lists": (list, list),
    "tuples": (lambda sets: [tuple(each) for each in sets], tuple),
    "sets": (lambda sets: [set(each) for each in sets], set),
    "frozen sets": (lambda sets: [frozenset(each) for each in sets], frozenset),
    "an array of lists": (lambda sets: np.array([*sets, []], dtype=object)[:-1], list),
}
MATRICES = {
    "numpy": (as_matrix, [0, 1, 2]),
    "truth": (lambda sets: as_matrix(sets).astype(bool), [0, 1, 2]),
    "fractions": (lambda sets: as_matrix(sets).astype(float), [0, 1, 2]),
    "lists": (lambda sets: as_matrix(sets).tolist(), [0, 1, 2]),
    "sparse": (lambda sets: scipy.sparse.csr_array(as_matrix(sets)), [0, 1, 2]),
    "pandas": (named("pandas"), list(WORDS)),
    "polars": (named("polars"), list(WORDS)),
}


@pytest.mark.parametrize(("make", "form"), FORMS.values(), ids=FORMS)
def test_sets_go_back_as_they_came(make, form):
    texts, sets = rows("sets")
    fitted = estimator("sets").fit(texts, make(sets))
    said = fitted.predict(texts)
    assert {type(each) for each in said} == {form}
    assert [set(each) for each in said] == [set(each) for each in sets] and fitted.classes_.tolist() == list(WORDS)
    assert fitted.score(texts, make(sets)) == 1


@pytest.mark.parametrize(("make", "classes"), MATRICES.values(), ids=MATRICES)
def test_matrices_go_back_as_matrices(make, classes):
    texts, sets = rows("sets")
    fitted = estimator("sets").fit(texts, make(sets))
    said = fitted.predict(texts)
    assert fitted.classes_.tolist() == classes and said.tolist() == as_matrix(sets).tolist()
    assert fitted.score(texts, make(sets)) == 1 == f1_score(as_matrix(sets), said, average="macro")
    assert fitted.predict_proba(texts).shape == said.shape


def test_scikit_learn_scores_an_indicator_matrix():
    texts, sets = rows("sets")
    assert is_classifier(estimator("sets"))
    assert cross_val_score(estimator("sets"), texts, as_matrix(sets), cv=2, scoring="f1_micro").mean() > 0.5


def test_a_column_without_a_row_is_a_label_that_is_never_said():
    texts, sets = rows("sets")
    fitted = estimator("sets").fit(texts, np.hstack([as_matrix(sets), np.zeros((len(sets), 1), int)]))
    assert fitted.predict(texts).shape == (len(texts), 4) and not fitted.predict(texts)[:, 3].any()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: ["late"] * len(y), r"y\[0\]: found 'late'\n  expected a list of labels"),
        (lambda y: [*y[:3], None, *y[4:]], r"y\[3\]: found NoneType"),
        (lambda y: y[:-1], "36 texts and 35 labels"),
        (lambda y: [["late"]] * len(y), "found only the label 'late'"),
        (lambda y: [[] for _ in y], "found no labels"),
        (lambda y: [[1], ["1"], *y[2:]], "labels of different types"),
        (lambda y: as_matrix(y) * 2, r"y\[1, 0\]: found '2'\n  expected 0 or 1"),
        (lambda y: as_matrix(y)[:, :1], "y: found"),
        (lambda y: as_matrix(y)[:-1], "36 texts and 35 labels"),
    ],
)
def test_what_is_no_sets_is_named(spoil, message):
    texts, sets = rows("sets")
    with pytest.raises(ArgumentError, match=message):
        estimator("sets").fit(texts, spoil(sets))


# Pairs of texts


@pytest.mark.parametrize("labels", [[1, 0], [True, False], ["same", "other"]])
def test_labels_of_pairs_come_back_as_they_were_given(labels):
    pairs, y = rows("pairs")
    given = [labels[label == "other"] for label in y]
    fitted = estimator("pairs").fit(np.array(pairs), given)
    assert fitted.predict(pairs).tolist() == given and fitted.n_features_in_ == 2
    np.testing.assert_allclose(fitted.predict_proba(pairs).sum(1), 1, atol=1e-6)


def test_columns_of_pairs_are_told_apart_by_name():
    pandas = pytest.importorskip("pandas")
    pairs, y = rows("pairs")
    frame = pandas.DataFrame(pairs, columns=["one", "two"])
    fitted = estimator("pairs").fit(frame, y)
    assert fitted.predict(frame).tolist() == fitted.predict(pairs).tolist() and fitted.feature_names_in_.tolist() == [
        "one",
        "two",
    ]
    with pytest.raises(ArgumentError, match="found the columns two, one\n  expected those of fit: one, two"):
        fitted.predict(frame[["two", "one"]])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("a", ""), r"X\[:, 1\]\[3\]: empty text"),
        ((None, "b"), r"X\[:, 0\]\[3\]: found NoneType"),
        (("a", "b", "c"), r"X\[3\]: found tuple of 3"),
        ("ab", r"X\[3\]: found str"),
    ],
)
def test_half_a_pair_is_named(pair, message):
    pairs, y = rows("pairs")
    with pytest.raises(ArgumentError, match=message):
        estimator("pairs").fit([*pairs[:3], pair, *pairs[4:]], y)


# Labels of words


@pytest.fixture(scope="module")
def tagged():
    texts, spans = make_spans(random.Random(0))
    words, tags = zip(*(tags_for(*row) for row in zip(texts, spans, strict=True)), strict=True)
    return texts, spans, list(words), list(tags)


def test_tags_go_back_as_tags_and_spans_as_spans(tagged):
    texts, spans, words, tags = tagged
    by_tags, by_places = estimator("spans").fit(words, tags), estimator("spans").fit(texts, spans)
    assert by_tags.predict(words) == tags and by_places.predict(texts) == spans == by_tags.predict(texts)
    assert by_tags.score(words, tags) == by_tags.score(texts, spans) == by_places.score(words, tags) == 1
    assert by_tags.classes_.tolist() == by_places.classes_.tolist() == ["person", "place"]


def test_spans_may_count_words(tagged):
    _, _, words, tags = tagged
    counted = []
    for row in tags:
        ends = [at for at, tag in enumerate(row) if tag[0] == "B"]
        counted.append([(at, at + 1 + (row[at + 1][0] == "I"), row[at][2:]) for at in ends])
    fitted = estimator("spans").fit(words, counted)
    assert fitted.predict(words) == counted and fitted.score(words, tags) == 1


@pytest.mark.parametrize("prefixes", ["BIES", "BILU"])
def test_tags_of_other_schemes(tagged, prefixes):
    *_, words, tags = tagged
    last, single = prefixes[2], prefixes[3]

    def other(row):
        goes_on = [tag[0] == "I" for tag in row[1:]] + [False]
        first = {("B", False): single, ("I", False): last}
        return [tag if tag == "O" else first.get((tag[0], on), tag[0]) + tag[1:] for tag, on in zip(row, goes_on, strict=True)]

    fitted = estimator("spans").fit(words, [other(row) for row in tags])
    assert fitted.predict(words) == tags


def test_words_that_the_model_cuts_keep_one_tag_each():
    words = [["Ann-Lee", "isn't", "in", "Oslo", f"{place}."] for place in range(12)]
    tags = [["B-person", "O", "O", "B-place", "O"]] * 12
    fitted = estimator("spans").fit(words, tags)
    assert fitted.predict(words) == tags and fitted.score(words, tags) == 1


def test_text_with_brackets_and_spaces_keeps_its_places():
    texts = [f"  [{place}]  Ann\u200b Lee  (is) in   Oslo \\ " for place in range(12)]
    spans = [
        [(text.index("Ann"), text.index("Lee") + 3, "person"), (text.index("Oslo"), text.index("Oslo") + 4, "place")]
        for text in texts
    ]
    fitted = estimator("spans").fit(texts, spans)
    assert fitted.predict(texts) == spans


def test_what_a_model_finds_can_be_learned_from(tagged):
    texts, spans, *_ = tagged
    first = estimator("spans").fit(texts, spans)
    found = [one.entities for one in first.model_.predict(texts)]
    assert estimator("spans").fit(texts, found).predict(texts) == spans


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("Ann sat", ["B-person", "O"], r"y\[2\]: tags, where X has a text; write it as a list of words"),
        (["Ann", "sat"], ["B-person", "O"], "X: found texts and lists of words"),
        ("Ann sat", [(0, 99, "person")], r"y\[2\]: the span 0-99 is no part"),
        ("Ann sat", [(0, 3, "person"), (1, 3, "place")], r"y\[2\]: the spans 0-3 and 1-3 overlap"),
        ("Ann sat", [(0, 3)], r"y\[2\]: a span is neither"),
        ("Ann sat", None, r"y\[2\]: found NoneType"),
        ("", [], r"X\[2\]: empty text"),
        (7, [], r"X\[2\]: found int"),
        ("Ann sat", [(0, 3, "two words")], r"y\[2\]: the label 'two words'"),
    ],
)
def test_what_is_no_spans_of_a_text_is_named(tagged, x, y, message):
    texts, spans, *_ = tagged
    with pytest.raises(ArgumentError, match=message):
        estimator("spans").fit([*texts[:2], x, *texts[3:]], [*spans[:2], y, *spans[3:]])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["Ann", "sat"], ["B-person"], r"y\[2\]: 1 tags for 2 tokens"),
        (["Ann", "sat"], [1, 0], r"y\[2\]: tags that are numbers; write their names"),
        (["Ann", "sat"], [(0, 3, "person")], r"y\[2\]: the span 0-3 is no part of 2 words"),
        (["Ann", "sat"], [(0, 2, "person"), (1, 2, "place")], r"y\[2\]: the spans 0-2 and 1-2 overlap"),
        (["Ann", " "], ["B-person", "O"], r"X\[2\]: found ' ' in place of word 1"),
        (["Ann", None], ["B-person", "O"], r"X\[2\]: found 'None' in place of word 1"),
        ([], [], r"X\[2\]: found no words"),
        (["Ann", "sat"], ["B-", "O"], r"y\[2\]: the tag 'B-' has no label"),
    ],
)
def test_what_is_no_tags_of_words_is_named(tagged, x, y, message):
    *_, words, tags = tagged
    with pytest.raises(ArgumentError, match=message):
        estimator("spans").fit([*words[:2], x, *words[3:]], [*tags[:2], y, *tags[3:]])


def test_rows_without_a_span_alone_teach_nothing(tagged):
    *_, words, tags = tagged
    with pytest.raises(ArgumentError, match="y: found no span"):
        estimator("spans").fit(words, [["O"] * len(row) for row in tags])
