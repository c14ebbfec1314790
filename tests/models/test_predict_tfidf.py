"""TF-IDF without scikit-learn gives scikit-learn's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from refsynth.core.errors import ModelError
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.tfidf import TfidfVectors, Vocabulary

texts = st.lists(
    st.text(st.sampled_from("aAbBé 中文I\u0130ß_1.\t\n-'\u00a0\u3000"), max_size=30) | st.text(max_size=12),
    min_size=1,
    max_size=8,
)
options = st.fixed_dictionaries(
    {
        "analyzer": st.sampled_from(["word", "char", "char_wb"]),
        "ngram_range": st.sampled_from([(1, 1), (1, 2), (2, 4), (3, 3)]),
        "lowercase": st.booleans(),
        "sublinear_tf": st.booleans(),
        "use_idf": st.booleans(),
        "token_pattern": st.sampled_from([r"(?u)\b\w\w+\b", r"(?u)\b\w+\b"]),
    }
)


def dense(vectors: TfidfVectors, rows: list[str]) -> np.ndarray:
    out = np.zeros((len(rows), vectors.dimension))
    for index, row in enumerate(vectors.rows(rows)):
        out[index, row.indices] = row.values
    return out


@settings(max_examples=150, deadline=None)
@given(texts, texts, options)
@pytest.mark.filterwarnings("ignore:The parameter 'token_pattern':UserWarning")
def test_features_equal_scikit_learns(train: list[str], test: list[str], chosen: dict[str, object]) -> None:
    vectorizer = TfidfVectorizer(**chosen)
    try:
        vectorizer.fit(train)
    except ValueError:  # no term occurs in the training texts
        return
    ours = TfidfVectors([Vocabulary.of_sklearn(vectorizer)])
    np.testing.assert_allclose(dense(ours, train + test), vectorizer.transform(train + test).toarray(), atol=1e-6)


def test_parts_stand_side_by_side_as_in_a_union() -> None:
    train = ["one fish two fish", "red fish", "blue FISH here"]
    parts = [TfidfVectorizer(ngram_range=(1, 2)), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True)]
    union = FeatureUnion([("words", parts[0]), ("characters", parts[1])]).fit(train)
    ours = TfidfVectors([Vocabulary.of_sklearn(part) for part in parts])
    np.testing.assert_allclose(
        dense(ours, ["a red fishbowl", "?"]), union.transform(["a red fishbowl", "?"]).toarray(), atol=1e-6
    )


def test_logits_equal_the_dense_product() -> None:
    train = ["good film", "bad film", "fine book"]
    vectorizer = TfidfVectorizer().fit(train)
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(len(vectorizer.vocabulary_), 2)), rng.normal(size=2))
    predictor = TfidfPredictor(("a", "b"), TfidfVectors([Vocabulary.of_sklearn(vectorizer)]), head)
    expected = vectorizer.transform(["film film good", "unknown"]).toarray() @ head.weights + head.bias
    np.testing.assert_allclose(predictor.logits(["film film good", "unknown"]), expected)
    assert predictor.logits([]).shape == (0, 2)


@pytest.mark.parametrize(
    "foreign", [{"norm": "l1"}, {"strip_accents": "unicode"}, {"stop_words": "english"}, {"analyzer": str.split}]
)
def test_options_that_inference_does_not_know_are_refused(foreign: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        Vocabulary.of_sklearn(TfidfVectorizer(**foreign).fit(["one fish"]))


@pytest.mark.parametrize("wrong", [{"pattern": "(a+)+$"}, {"low": 0}, {"low": 3}, {"idf": np.ones(3)}])
def test_a_vocabulary_that_does_not_fit_together_is_refused(wrong: dict[str, object]) -> None:
    fields = {"analyzer": "word", "low": 1, "high": 2, "terms": ("a",), "idf": np.ones(1), **wrong}
    with pytest.raises(ModelError):
        Vocabulary(**fields)
