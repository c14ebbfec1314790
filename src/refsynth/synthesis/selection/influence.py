"""Influence: the effect of a draft on the loss of held-out real rows, computed without training again.

For a multinomial logistic head with an L2 penalty, the effect of a row on the optimum has a closed form to first order (Koh and
Liang, 2017, "Understanding Black-box Predictions via Influence Functions", eq. 2). `learning.head` minimizes

    F(W, b) = |W|^2 / 2 + C sum_i w_i loss_i.

An additional weight e of row j moves the parameters by -C e H^-1 g_j, and so the held-out loss by -C e g_val^T H^-1 g_j, where H
is the Hessian of F, g_j the gradient of loss_j, and g_val the gradient of the mean held-out loss.

One system H s = g_val is solved for all drafts together, by conjugate gradients with products H v that never form H. A product
costs as much as one evaluation of the loss, whatever K D is, so the first order is the only approximation. Scoring the drafts is
then one matrix product, linear in their number. If the system cannot be solved, the gains are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq
from scipy.sparse.linalg import LinearOperator, cg

from refsynth.core.types import FloatArray, IntArray
from refsynth.kinds.metrics import softmax
from refsynth.models.predict import LinearHead

TOLERANCE = 1e-6
"""Relative residual of the solver."""

ITERATIONS = 5000
"""Most iterations of conjugate gradients. They end far sooner unless rows are almost equal."""

DIRECT = 2000
"""Most unknowns for which a system is solved directly if conjugate gradients fail (32 MB)."""


class Points(NamedTuple):
    """Rows as a head sees them: features [N, D], classes [N] in [0, K), weights [N]."""

    features: FloatArray
    classes: IntArray
    weights: FloatArray

    def take(self, chosen: NDArray[np.bool_] | IntArray) -> Points:
        """Return the chosen rows."""
        return Points(self.features[chosen], self.classes[chosen], self.weights[chosen])

    def joined(self, other: Points) -> Points:
        """Return these rows followed by the others."""
        return Points(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def gains(head: LinearHead, train: Points, held_out: Points, drafts: Points, *, strength: float) -> FloatArray:
    """Return by how much the mean held-out loss falls per unit of weight of each draft, in nats [M].

    This is -dL/de of the formula above: higher is better, and a negative value means harm. For a draft among the training rows,
    its weight times its gain is the cost of removing it. All gains are NaN if the system cannot be solved.

    Args:
        head: at its optimum for `train`.
        train: the rows that it was fitted to, with drafts.
        held_out: real rows that it was not fitted to.
        drafts: the rows to score [M].
        strength: C.
    """
    features = _with_bias(train.features)
    probabilities = _probabilities(head, train.features)
    weighted = strength * train.weights[:, None]
    shape = (features.shape[1], probabilities.shape[1])

    def product(flat: FloatArray) -> FloatArray:
        direction = flat.reshape(shape)
        scores = features @ direction
        slope = probabilities * (scores - (probabilities * scores).sum(1, keepdims=True))
        out = features.T @ (weighted * slope)
        out[:-1] += direction[:-1]  # the bias has no penalty
        return np.asarray(out.ravel())

    residual = _residual(head, held_out)
    gradient = (_with_bias(held_out.features).T @ residual) / len(held_out.classes)
    solved = _solve(product, gradient.ravel(), _diagonal(features, probabilities, weighted)).reshape(shape)
    return np.asarray(strength * (_residual(head, drafts) * (_with_bias(drafts.features) @ solved)).sum(1))


def cross_fitted(
    fit: Callable[[Points], LinearHead],
    real: Points,
    folds: IntArray,
    drafts: Points,
    seen: Sequence[frozenset[int]],
    *,
    strength: Callable[[int], float],
    train_on_drafts: bool = True,
) -> FloatArray:
    """Return the mean gain of each draft over the folds that it has not seen [M]; NaN if there is no such fold.

    For each fold, a head is fitted to the other real rows and to the drafts that have not seen the fold, and the rows of the fold
    measure these drafts. So no real row measures a draft or a head that saw it. A head without a row of some class has no
    curvature there: the drafts and rows of that class are skipped in that fold. A fold whose system cannot be solved is skipped.

    Args:
        fit: fits a head to rows.
        real: the real rows [N].
        folds: of the real rows [N].
        drafts: screened drafts [M] with their weights.
        seen: for each draft, the folds of the rows that it was made from.
        strength: returns the C of a head from the number of classes among its rows.
        train_on_drafts: whether the heads are fitted to the drafts too. Without them, a draft's gain does not depend on the other
            drafts, and gains of different batches can be compared.
    """
    total, count = np.zeros(len(drafts.classes)), np.zeros(len(drafts.classes))
    for fold in np.unique(folds):
        out = folds == fold
        safe = np.array([int(fold) not in mine for mine in seen], bool)
        if not safe.any() or out.all():
            continue
        train = real.take(~out)
        if train_on_drafts:
            train = train.joined(drafts.take(safe))
        safe &= np.isin(drafts.classes, train.classes)
        out &= np.isin(real.classes, train.classes)
        if not safe.any() or not out.any():
            continue
        c = strength(len(np.unique(train.classes)))
        values = gains(fit(train), train, real.take(out), drafts.take(safe), strength=c)
        if np.isfinite(values).all():
            total[safe] += out.sum() * values
            count[safe] += out.sum()
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


def _with_bias(features: FloatArray) -> FloatArray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _probabilities(head: LinearHead, features: FloatArray) -> FloatArray:
    return softmax(np.asarray(head.logits(features), float))


def _residual(head: LinearHead, points: Points) -> FloatArray:
    """Return p - y, the gradient of the loss by the logits [N, K]."""
    residual = _probabilities(head, points.features)
    residual[np.arange(len(points.classes)), points.classes] -= 1
    return residual


def _diagonal(features: FloatArray, probabilities: FloatArray, weighted: FloatArray) -> FloatArray:
    """Return the diagonal of H, the preconditioner of the solver [(D + 1) K]."""
    diagonal = (features**2).T @ (weighted * probabilities * (1 - probabilities))
    diagonal[:-1] += 1
    return np.asarray(np.maximum(diagonal, 1e-8).ravel())


def _solve(product: Callable[[FloatArray], FloatArray], gradient: FloatArray, diagonal: FloatArray) -> FloatArray:
    """Return the s of H s = g, or NaN if it cannot be found [(D + 1) K].

    H is singular in one direction, equal biases for all classes, and no gradient has a part in it. Almost equal rows under a weak
    penalty can need more than `ITERATIONS`; a small system is then solved directly by its singular values.
    """
    size = len(gradient)
    hessian = LinearOperator((size, size), matvec=product, dtype=float)
    inverse = LinearOperator((size, size), matvec=lambda flat: flat / diagonal, dtype=float)
    solution, unsolved = cg(hessian, gradient, rtol=TOLERANCE, maxiter=ITERATIONS, M=inverse)
    if not unsolved:
        return np.asarray(solution)
    if size > DIRECT:
        return np.full(size, np.nan)
    # Scaled by the diagonal, so that which singular values count as zero does not depend on the features' units.
    root = np.sqrt(diagonal)
    whole = np.stack([product(column) for column in np.diag(1 / root)], 1) / root[:, None]
    return np.asarray(lstsq(whole, gradient / root)[0] / root)
