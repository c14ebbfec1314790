"""Influence: what a draft does to the loss on held-out real rows, without training again to find out.

For a multinomial logistic head with an L2 penalty the effect of a row on the optimum has a closed form to first order (Koh and
Liang, 2017, "Understanding Black-box Predictions via Influence Functions", eq. 2). With the objective that `training.head` fits,

    F(W, b) = |W|^2 / 2 + C sum_i w_i loss_i,

giving row j a little more weight e moves the parameters by -C e H^-1 g_j, and so the held-out loss by -C e g_val^T H^-1 g_j,
where H is the Hessian of F, g_j the gradient of loss_j and g_val that of the mean held-out loss.

One system H s = g_val is solved for all drafts together, by conjugate gradients with products H v that never form H: a product
costs as much as one evaluation of the loss, whatever K D is, so nothing is approximated but the first order itself. Scoring the
drafts is then one matrix product, linear in their number. Where the system cannot be solved gains are NaN: not known.
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
"""Of conjugate gradients, at most: they end far sooner unless rows are almost alike."""

DIRECT = 2000
"""Unknowns up to which a system that conjugate gradients leave unsolved is solved as a whole (32 MB)."""


class Points(NamedTuple):
    """Rows as a head sees them: features [N, D], classes [N] in [0, K), weights [N]."""

    features: FloatArray
    classes: IntArray
    weights: FloatArray

    def take(self, chosen: NDArray[np.bool_] | IntArray) -> Points:
        """Return some of the rows."""
        return Points(self.features[chosen], self.classes[chosen], self.weights[chosen])

    def joined(self, other: Points) -> Points:
        """Return these rows and then the others."""
        return Points(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def gains(head: LinearHead, train: Points, held_out: Points, drafts: Points, *, strength: float) -> FloatArray:
    """Return how much the mean held-out loss falls per unit of weight of each draft, in nats: [M].

    This is -dL/de of the formula above, so that higher is better; a negative value says that the draft does harm. For a draft
    among the training rows, its weight times the value is what taking it out costs. All are NaN where the system cannot be
    solved.

    Args:
        head: at its optimum for `train`.
        train: the rows it was fitted to, drafts included.
        held_out: real rows it was not fitted to.
        drafts: the rows to judge [M].
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
        out[:-1] += direction[:-1]  # the bias bears no penalty
        return np.asarray(out.ravel())

    residual = _residual(head, held_out)
    wanted = (_with_bias(held_out.features).T @ residual) / len(held_out.classes)
    solved = _solve(product, wanted.ravel(), _diagonal(features, probabilities, weighted)).reshape(shape)
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
    """Return the mean gain of each draft over the folds whose rows it owes nothing to: [M], NaN where there is none.

    In each fold the head is fitted to the other real rows and the drafts that are safe for the fold, and its held-out rows judge
    those drafts: no real row judges a draft that saw it, or a head that did. A head that has met no row of a class has no
    curvature there, and tells nothing of the class: neither its drafts nor its rows take part. A fold whose system cannot be
    solved takes no part either.

    Args:
        fit: fits a head to rows.
        real: the real rows [N].
        folds: of the real rows [N].
        drafts: screened drafts [M] with the weights that they would have.
        seen: for each draft, the folds of the rows that it owes anything to.
        strength: returns the C of a head that `fit` returns, by how many classes its rows have.
        train_on_drafts: whether the heads are fitted to the drafts too. Without, a draft's gain does not depend on its company,
            and gains of different batches can be compared.
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
        found = gains(fit(train), train, real.take(out), drafts.take(safe), strength=c)
        if np.isfinite(found).all():
            total[safe] += out.sum() * found
            count[safe] += out.sum()
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


def _with_bias(features: FloatArray) -> FloatArray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _probabilities(head: LinearHead, features: FloatArray) -> FloatArray:
    return softmax(np.asarray(head.logits(features), float))


def _residual(head: LinearHead, points: Points) -> FloatArray:
    """Return p - y, the gradient of the loss with respect to the logits [N, K]."""
    residual = _probabilities(head, points.features)
    residual[np.arange(len(points.classes)), points.classes] -= 1
    return residual


def _diagonal(features: FloatArray, probabilities: FloatArray, weighted: FloatArray) -> FloatArray:
    """Return the diagonal of H, which preconditions the solver [(D + 1) K]."""
    diagonal = (features**2).T @ (weighted * probabilities * (1 - probabilities))
    diagonal[:-1] += 1
    return np.asarray(np.maximum(diagonal, 1e-8).ravel())


def _solve(product: Callable[[FloatArray], FloatArray], wanted: FloatArray, diagonal: FloatArray) -> FloatArray:
    """Return s of H s = g, or NaN where no way leads there: [(D + 1) K].

    H is singular along one direction, equal biases for all classes, in which no gradient has a part. Rows that are almost alike
    under a weak penalty can need more iterations than there are; what is small is then solved by its singular values.
    """
    size = len(wanted)
    hessian = LinearOperator((size, size), matvec=product, dtype=float)
    inverse = LinearOperator((size, size), matvec=lambda flat: flat / diagonal, dtype=float)
    solution, unsolved = cg(hessian, wanted, rtol=TOLERANCE, maxiter=ITERATIONS, M=inverse)
    if not unsolved:
        return np.asarray(solution)
    if size > DIRECT:
        return np.full(size, np.nan)
    # Scaled by its diagonal, as for conjugate gradients: what counts as singular should not depend on the features' units.
    root = np.sqrt(diagonal)
    whole = np.stack([product(column) for column in np.diag(1 / root)], 1) / root[:, None]
    return np.asarray(lstsq(whole, wanted / root)[0] / root)
