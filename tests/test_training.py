from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from refsynth.core.protocols import Learner, Predictor
from refsynth.core.types import Example, Provenance
from refsynth.kinds.metrics import softmax
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.head import DRAFT_WEIGHT, fit_head, fit_head_to, fit_soft_head, row_weights
from refsynth.learning.tuning.contrastive import ContrastiveLearner, balanced_batches, contrastive_loss
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from tiny_encoder import MAX_TOKENS

LABELS = ("late", "broken", "other")
TEXTS = {
    "late": ["where is my order", "my order is late", "no sign of my order yet", "is my order on its way"],
    "broken": ["the lamp is broken", "a broken mug came", "it arrived in pieces", "the shade has a crack"],
}
TRAIN = [Example(f"row-{i}-{label}", text, label) for label, texts in TEXTS.items() for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)


def tuned(method, encoder):
    return FinetuneLearner(
        LABELS, encoder, method=method, recipe=TrainingRecipe(epochs=5, batch_size=4, learning_rate=METHODS[method].rate)
    )


MAKERS = {
    "tfidf": lambda encoder: TfidfLearner(LABELS, language="en"),
    "tfidf zh": lambda encoder: TfidfLearner(LABELS, language="zh"),
    "frozen": lambda encoder: FrozenLearner(LABELS, encoder),
    "contrastive": lambda encoder: ContrastiveLearner(
        LABELS, encoder, {"late": "it is late", "broken": "it is broken", "other": "else"}, steps=4
    ),
    **{method: partial(tuned, method) for method in METHODS},
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_learner_keeps_the_contract(name, encoder):
    before = encoder.encode(["where is it"])
    learner = MAKERS[name](encoder)
    assert isinstance(learner, Learner)
    first, again = (learner.fit(TRAIN, (), seed=3) for _ in range(2))
    assert isinstance(first, Predictor)
    assert first.labels == LABELS
    texts = [example.text for example in TRAIN] + ["", "?" * 500, "全く別の"]
    logits = first.logits(texts)
    assert logits.shape == (len(texts), 3)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(again.logits(texts), logits, rtol=1e-5, atol=1e-5)
    if name != "contrastive":  # which has read what the label means
        assert not (logits.argmax(1) == 2).any()  # a class without rows is never predicted
    right = logits[: len(TRAIN)].argmax(1) == [LABELS.index(example.label) for example in TRAIN]
    assert right.mean() >= 0.75
    np.testing.assert_array_equal(encoder.encode(["where is it"]), before)  # the encoder it was given is left as it was


def test_texts_without_words_are_counted_by_characters():
    rows = [Example("1", "A +", "late"), Example("2", "B ?!", "broken"), Example("3", "👍", "other")]
    model = TfidfLearner(LABELS, language="en").fit(rows, (), seed=0)
    assert [LABELS[place] for place in model.logits([row.text for row in rows]).argmax(1)] == [row.label for row in rows]


@pytest.mark.parametrize("name", MAKERS)
def test_every_learner_survives_one_row_per_class_and_one_class(name, encoder):
    learner = MAKERS[name](encoder)
    for train in ([TRAIN[0], TRAIN[4]], TRAIN[:1]):
        logits = learner.fit(train, (), seed=0).logits(["where is my order"])
        assert np.isfinite(logits).all()
    assert logits.argmax() == 0


def test_early_stopping_keeps_the_best_epoch(encoder):
    dev = [Example("row-9", "where is the order", "late"), Example("row-10", "the mug is broken", "broken")]
    learner = FinetuneLearner(LABELS, encoder, recipe=TrainingRecipe(epochs=6, batch_size=4, learning_rate=1e-3, patience=1))
    fitted = learner.fit(TRAIN, dev, seed=0)
    loss = -np.log(softmax(fitted.logits([d.text for d in dev]))[[0, 1], [0, 1]]).mean()
    assert loss < np.log(3)


@pytest.mark.parametrize("k", [2, 3])
def test_the_head_is_scikit_learns(k):
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(60, 5)), rng.integers(0, k, 60)
    head = fit_head(features, truth, k, strength=2.0)
    expected = LogisticRegression(C=2.0, max_iter=1000).fit(features, truth).predict_proba(features)
    np.testing.assert_allclose(softmax(head.logits(features)), expected, atol=1e-6)


@given(st.integers(0, 20), st.integers(0, 200))
def test_drafts_never_outweigh_real_rows_by_more_than_the_limit(real, drafted):
    origin = Provenance("p", (), 0, "echo")
    rows = [Example("r", "t", "late")] * real + [Example("d", "t", "late", origin)] * drafted
    weights = row_weights(rows)
    assert (weights[:real] == 1).all()
    assert (weights <= 1).all()
    assert not real or weights[real:].sum() <= DRAFT_WEIGHT * real + 1e-9


def test_the_contrastive_loss_is_the_formula():
    rng = np.random.default_rng(1)
    z = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(7, 4))), dim=-1)
    y = torch.tensor([0, 0, 1, 1, 1, 2, 0])
    terms = []
    for i in range(7):
        positives = [p for p in range(7) if p != i and y[p] == y[i]]
        if positives:
            total = sum(torch.exp(z[i] @ z[a] / 0.5) for a in range(7) if a != i)
            terms.append(-sum(torch.log(torch.exp(z[i] @ z[p] / 0.5) / total) for p in positives) / len(positives))
    torch.testing.assert_close(contrastive_loss(z, y, temperature=0.5), torch.stack(terms).mean())


@settings(max_examples=60)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=80), st.integers(2, 40), st.integers(0, 5))
def test_batches_are_balanced(classes, size, seed):
    classes = np.array(classes)
    for batch in balanced_batches(classes, size=size, steps=5, seed=seed):
        counts = np.bincount(classes[batch])[np.unique(classes[batch])]
        assert len(batch) <= max(size, 4) * 2
        assert counts.max() - counts.min() <= max(0, counts.max() - 2)
        assert (counts >= 2).all()


def test_soft_targets_are_cross_entropy_with_probabilities():
    """A row with targets (0.7, 0.3, 0) weighs in as the closed form says: the optimum of the weighted sum of its losses."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 3))
    rows = [Example(f"row-{i}", "x", "abc"[i % 3]) for i in range(9)]
    rows += [Example(f"draft-{i}", "x", "a", Provenance("p", (), 0, "r"), (0.7, 0.3, 0.0)) for i in range(3)]
    head = fit_head_to(features, rows, ("a", "b", "c"))
    repeated = np.concatenate([features[:9], features[9:], features[9:]])
    truth = np.array([*(i % 3 for i in range(9)), 0, 0, 0, 1, 1, 1])
    weights = np.array([1.0] * 9 + [0.7] * 3 + [0.3] * 3)
    expected = fit_head(repeated, truth, 3, strength=10.0, weights=weights)
    np.testing.assert_allclose(head.weights, expected.weights, atol=1e-3)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_fit_to_certain_targets_is_the_fit_to_classes(k):
    rng = np.random.default_rng(k)
    features, truth, weights = rng.normal(size=(40, 4)), np.arange(40) % k, rng.random(40) + 0.1
    soft = fit_soft_head(features, np.eye(k)[truth], strength=10.0, weights=weights)
    expected = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000).fit(features, truth, sample_weight=weights)
    np.testing.assert_allclose(softmax(soft.logits(features)), expected.predict_proba(features), atol=1e-3)


def test_many_classes_that_a_row_may_be_are_all_counted():
    """With smoothing 0.1 over 20 classes a row is each other class with probability 0.005, which the fit must show."""
    k = 20
    truth = np.arange(10 * k) % k
    features = np.eye(k)[truth]
    rows = [
        Example(f"d{i}", "x", str(c), Provenance("p", (), 0, "r"), tuple(0.9 * np.eye(k)[c] + 0.1 / k))
        for i, c in enumerate(truth)
    ]
    said = softmax(fit_head_to(sparse.csr_array(features), rows, [str(c) for c in range(k)]).logits(features))
    assert said[np.arange(len(truth)), truth].mean() < 0.905  # 0.99 without
    np.testing.assert_allclose(said.mean(0), 1 / k, atol=1e-3)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=30), st.integers(1, 5))
def test_weights_of_drafts_count_and_their_sum_is_limited(own, real):
    origin = Provenance("p", (), 0, "echo")
    rows = [Example("r", "t", "late")] * real + [Example("d", "t", "late", origin, weight=weight) for weight in own]
    weights = row_weights(rows)
    assert (weights[:real] == 1).all()
    assert weights[real:].sum() == pytest.approx(min(sum(own), DRAFT_WEIGHT * real))
    np.testing.assert_allclose(weights[real:] * sum(own), np.array(own) * weights[real:].sum(), atol=1e-9)


def test_a_weight_is_as_many_rows():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    rows = [Example("a", "x", "a"), Example("b", "x", "b"), Example("c", "x", "a", weight=2.0)]
    once = [*rows[:2], replace(rows[2], weight=1.0), replace(rows[2], weight=1.0)]
    weighed, repeated = fit_head_to(features, rows, ("a", "b")), fit_head_to(features[[0, 1, 2, 2]], once, ("a", "b"))
    np.testing.assert_allclose(weighed.weights, repeated.weights, atol=1e-3)


def test_a_saved_encoder_does_not_depend_on_what_it_read(tiny_folder, tmp_path):
    fresh, used = (TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS) for _ in range(2))
    used.tokenize(["the parcel is late " * 40], limit=5)
    used.encode(["short"])
    for name, encoder in (("fresh", fresh), ("used", used)):
        encoder.save(tmp_path / name)
    assert (tmp_path / "fresh" / "tokenizer.json").read_bytes() == (tmp_path / "used" / "tokenizer.json").read_bytes()
    again = TransformerEncoder(tmp_path / "used", max_tokens=MAX_TOKENS)
    assert again.tokenize(["the parcel is late " * 40]) == fresh.tokenize(["the parcel is late " * 40])
