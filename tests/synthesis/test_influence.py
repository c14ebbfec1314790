"""Influence against what it stands for: training again with a little more of a row, and without it."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import spearmanr

from refsynth.kinds.metrics import softmax
from refsynth.learning.head import HEAD_STRENGTH, fit_head, softmax_strength
from refsynth.models.predict import LinearHead
from refsynth.synthesis.selection import influence
from refsynth.synthesis.selection.influence import Points, cross_fitted, gains

C = 10.0


def rows(rng, n, *, k=3, d=6, noise=0.6, weight=1.0):
    centres = np.random.default_rng(7).normal(size=(k, d))
    classes = np.arange(n) % k
    features = centres[classes] + noise * rng.normal(size=(n, d))
    return Points(features / np.linalg.norm(features, axis=1, keepdims=True), classes, np.full(n, weight))


def joined(*parts):
    return Points(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))


def exact(points, k=3, strength=C):
    """The optimum to far more digits than the product's solver goes for: differences of 1e-4 are measured with it."""
    d = points.features.shape[1]
    x = np.hstack([points.features, np.ones((len(points.classes), 1))])

    def objective(flat):
        w = flat.reshape(d + 1, k)
        p = softmax(x @ w)
        loss = -(points.weights * np.log(p[np.arange(len(x)), points.classes])).sum()
        p[np.arange(len(x)), points.classes] -= 1
        slope = strength * x.T @ (points.weights[:, None] * p)
        slope[:-1] += w[:-1]
        return (w[:-1] ** 2).sum() / 2 + strength * loss, slope.ravel()

    flat = minimize(objective, np.zeros((d + 1) * k), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x
    w = flat.reshape(d + 1, k)
    return LinearHead(w[:-1], w[-1])


def loss(head, points):
    p = softmax(head.logits(points.features))
    return -np.log(p[np.arange(len(points.classes)), points.classes]).mean()


def test_where_two_of_three_classes_have_rows_gains_are_those_of_two():
    """A head of two classes has half of the penalty, however many labels the task has."""
    rng = np.random.default_rng(4)
    real, drafts = rows(rng, 24, k=2), rows(rng, 9, k=2, noise=1.5)
    folds = np.arange(24) // 2 % 3

    def said(k):
        def fit(points):
            return fit_head(points.features, points.classes, k, strength=HEAD_STRENGTH, weights=points.weights)

        return cross_fitted(fit, real, folds, drafts, [frozenset[int]()] * 9, strength=softmax_strength)

    np.testing.assert_allclose(said(3), said(2), rtol=1e-4)


def test_the_formula_is_the_slope_of_the_held_out_loss():
    rng = np.random.default_rng(0)
    train, held_out = rows(rng, 24), rows(rng, 12)
    drafts = rows(rng, 9, noise=1.5)
    said = gains(exact(train), train, held_out, drafts, strength=C)
    for j in range(9):
        one = [Points(drafts.features[[j]], drafts.classes[[j]], np.array([e])) for e in (1e-3, -1e-3)]
        up, down = (loss(exact(joined(train, each)), held_out) for each in one)
        assert said[j] == pytest.approx(-(up - down) / 2e-3, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_a_head_is_the_softmax_regression_whose_strength_is_told(k):
    points = rows(np.random.default_rng(3), 24, k=k)
    head = fit_head(points.features, points.classes, k, strength=HEAD_STRENGTH)
    twin = exact(points, k, softmax_strength(k))
    np.testing.assert_allclose(softmax(head.logits(points.features)), softmax(twin.logits(points.features)), atol=2e-3)


def test_the_order_is_that_of_training_again_without_each_draft():
    rng = np.random.default_rng(1)
    real, held_out, drafts = rows(rng, 24), rows(rng, 60), rows(rng, 60, noise=1.2, weight=0.5)
    wrong = np.arange(60) % 4 == 0
    drafts = drafts._replace(classes=np.where(wrong, (drafts.classes + 1) % 3, drafts.classes))
    train = joined(real, drafts)
    head = fit_head(train.features, train.classes, 3, strength=C, weights=train.weights)
    said = gains(head, train, held_out, drafts, strength=C)
    without = []
    for j in range(60):
        some = joined(real, drafts.take(np.arange(60) != j))
        without.append(loss(fit_head(some.features, some.classes, 3, strength=C, weights=some.weights), held_out))
    assert spearmanr(said, without).statistic > 0.95
    assert said[wrong].mean() < 0 < said[~wrong].mean()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 5), n=st.integers(6, 40))
def test_a_batch_is_judged_as_its_rows_are_one_by_one(seed, k, n):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, 4))
    classes = np.arange(n + k) % k
    train = Points(centres[classes] + rng.normal(size=(n + k, 4)), classes, rng.random(n + k))
    head = fit_head(train.features, classes, k, strength=C, weights=train.weights)
    whole = gains(head, train, train, train, strength=C)
    some = gains(head, train, train, train.take(np.arange(n + k) < 3), strength=C)
    np.testing.assert_allclose(whole[:3], some, rtol=1e-9, atol=1e-12)


def hard(n=40, k=3, d=12):
    """Features that are almost one direction, a head that is far from sure: what its Hessian is made of differs by 1e9."""
    rng = np.random.default_rng(11)
    features = rng.normal(size=(n, 1)) @ rng.normal(size=(1, d)) + 1e-4 * rng.normal(size=(n, d))
    head = LinearHead(0.1 * rng.normal(size=(d, k)), 0.1 * rng.normal(size=k))
    return head, Points(features, np.arange(n) % k, np.ones(n))


def solved(head, train, held_out, drafts, strength):
    """The gains by the Hessian as it is written, row by row, and its pseudo-inverse."""
    k = head.weights.shape[1]

    def slope(points):
        x = np.hstack([points.features, np.ones((len(points.classes), 1))])
        p = softmax(head.logits(points.features))
        return x, p, p - np.eye(k)[points.classes]

    x, p, _ = slope(train)
    penalty = np.kron(np.diag([*np.ones(x.shape[1] - 1), 0.0]), np.eye(k))
    hessian = penalty + sum(
        strength * w * np.kron(np.outer(row, row), np.diag(q) - np.outer(q, q))
        for row, q, w in zip(x, p, train.weights, strict=True)
    )
    x, _, residual = slope(held_out)
    wanted = (x.T @ residual / len(x)).ravel()
    found = (np.linalg.pinv(hessian, rcond=1e-13, hermitian=True) @ wanted).reshape(-1, k)
    x, _, residual = slope(drafts)
    return strength * (residual * (x @ found)).sum(1)


def test_gains_are_right_where_conjugate_gradients_do_not_come_to_an_end(monkeypatch):
    head, train = hard()
    drafts = train.take(np.arange(40) < 9)
    expected = solved(head, train, train, drafts, 1e6)
    monkeypatch.setattr(influence, "ITERATIONS", 3)
    np.testing.assert_allclose(gains(head, train, train, drafts, strength=1e6), expected, rtol=1e-3)


def test_gains_that_cannot_be_solved_for_are_not_known(monkeypatch):
    """What is too large for the other way, too, is NaN: a wrong gain would drop or weigh drafts."""
    head, train = hard()
    monkeypatch.setattr(influence, "ITERATIONS", 3)
    monkeypatch.setattr(influence, "DIRECT", 0)
    drafts = train.take(np.arange(40) < 9)
    assert np.isnan(gains(head, train, train, drafts, strength=1e6)).all()


def test_a_fold_that_cannot_tell_takes_no_part(monkeypatch):
    rng = np.random.default_rng(2)
    real, drafts = rows(rng, 24), rows(rng, 12, weight=0.5)
    folds = np.arange(24) // 3 % 4
    whole = influence.gains
    judged = []

    def some(*points, **options):
        judged.append(whole(*points, **options))
        return judged[-1] if len(judged) > 1 else np.full(12, np.nan)

    monkeypatch.setattr(influence, "gains", some)

    def fit(points):
        return fit_head(points.features, points.classes, 3, strength=C, weights=points.weights)

    said = cross_fitted(fit, real, folds, drafts, [frozenset[int]()] * 12, strength=lambda _: C)
    np.testing.assert_allclose(said, np.mean(judged[1:], axis=0))


def test_no_fold_judges_a_draft_that_saw_it():
    rng = np.random.default_rng(2)
    real, drafts = rows(rng, 24), rows(rng, 12, weight=0.5)
    folds = np.arange(24) // 3 % 4
    shown = [frozenset({j % 4, (j + 1) % 4}) for j in range(11)] + [frozenset(range(4))]

    def fit(points):
        return fit_head(points.features, points.classes, 3, strength=C, weights=points.weights)

    said = cross_fitted(fit, real, folds, drafts, shown, strength=lambda _: C)
    assert np.isfinite(said[:11]).all()
    assert np.isnan(said[11])
    # Fold 0's labels are spoilt: only drafts that never saw fold 0 may notice it in their judge; here none of them trains on it.
    spoilt = real._replace(classes=np.where(folds == 0, (real.classes + 1) % 3, real.classes))
    only = cross_fitted(fit, spoilt, np.where(folds == 0, 0, 1), drafts, [frozenset({1})] * 12, strength=lambda _: C)
    seen = cross_fitted(fit, spoilt, np.where(folds == 0, 0, 1), drafts, [frozenset({0})] * 12, strength=lambda _: C)
    assert only.mean() < seen.mean()


def test_on_real_rows_alone_a_gain_does_not_depend_on_the_other_drafts():
    rng = np.random.default_rng(4)
    real, drafts = rows(rng, 24), rows(rng, 12, noise=1.2)
    folds = np.arange(24) // 3 % 4

    def fit(points):
        return fit_head(points.features, points.classes, 3, strength=C, weights=points.weights)

    seen = [frozenset({j % 4}) for j in range(12)]
    whole = cross_fitted(fit, real, folds, drafts, seen, strength=lambda _: C, train_on_drafts=False)
    some = cross_fitted(fit, real, folds, drafts.take(np.arange(12) < 4), seen[:4], strength=lambda _: C, train_on_drafts=False)
    np.testing.assert_allclose(whole[:4], some, rtol=1e-9)
    together = cross_fitted(fit, real, folds, drafts, seen, strength=lambda _: C)
    assert np.abs(together - whole).max() > 1e-4


def test_a_head_that_never_met_a_class_tells_nothing_of_it():
    rng = np.random.default_rng(5)
    real, drafts = rows(rng, 24), rows(rng, 12)
    folds = np.where(real.classes == 2, 0, np.arange(24) // 3 % 2)  # without fold 0 no row of class 2 is left

    def fit(points):
        return fit_head(points.features, points.classes, 3, strength=C, weights=points.weights)

    shown = [frozenset({1})] * 12  # fold 0 alone may judge
    said = cross_fitted(fit, real, folds, drafts, shown, strength=lambda _: C, train_on_drafts=False)
    assert np.isnan(said[drafts.classes == 2]).all()
    others = drafts.classes != 2
    without = real.take(real.classes != 2)
    alone = cross_fitted(
        fit, without, folds[real.classes != 2], drafts.take(others), shown[:8], strength=lambda _: C, train_on_drafts=False
    )
    np.testing.assert_allclose(said[others], alone, rtol=1e-6)


def test_ten_thousand_drafts_of_77_classes_are_judged_at_once():
    rng = np.random.default_rng(3)
    real = rows(rng, 616, k=77, d=384)
    drafts = rows(rng, 10_000, k=77, d=384, noise=1.5, weight=0.25)
    train = joined(real, drafts)
    head = LinearHead(0.1 * rng.normal(size=(384, 77)), np.zeros(77))
    started = time.monotonic()
    said = gains(head, train, real, drafts, strength=C)
    assert said.shape == (10_000,)
    assert time.monotonic() - started < 600  # a hang, not a speed
