"""Label or synthesize: the gains from more labels and from more drafts, extrapolated from measured learning curves.

A curve is err(n) = a + b n^-c (an inverse power law; for few labels, Figueroa et al., 2012), fitted by least squares. Its
uncertainty is estimated by fitting it to bootstrap samples of rows and models.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from refsynth.core.errors import InputError
from refsynth.core.intervals import ROUNDING, clusters, drawer, paired_gain
from refsynth.core.types import FloatArray, IntArray, Metric

EXPONENTS = np.linspace(0.1, 2.0, 20)
DRAWS = 1000
LEAST_SIZES = 3
"""A curve has three parameters."""

Verdict = Literal["labels", "drafts", "cannot tell"]


class LearningCurve(NamedTuple):
    """The scores of models trained on S sizes of data.

    Attributes:
        sizes: of the training data [S].
        scores: in [0, 1], of N held-out rows by R models of each size, trained on different draws [S, R, N].
    """

    sizes: FloatArray
    scores: FloatArray


class Powers(NamedTuple):
    """Fitted curves a + b n^-c, each [B]."""

    a: FloatArray
    b: FloatArray
    c: FloatArray

    def at(self, n: float) -> FloatArray:
        """Return the errors at size `n` [B]."""
        return np.asarray(self.a + self.b * n**-self.c)


def fit_powers(sizes: FloatArray, errors: FloatArray, *, falls: bool) -> Powers:
    """Fit a curve to each row of errors.

    Args:
        sizes: positive [S].
        errors: in [0, 1] [B, S].
        falls: whether more data can only help, so that b is not negative.
    """
    best = np.full(len(errors), np.inf)
    powers = Powers(*(np.zeros(len(errors)) for _ in range(3)))
    mean = errors.mean(1)
    for c in EXPONENTS:
        x = sizes**-c
        centered = x - x.mean()
        b = errors @ centered / (centered @ centered)
        b = np.maximum(b, 0) if falls else b
        a = mean - b * x.mean()
        b = np.where(a < 0, errors @ x / (x @ x), b)  # the limit of the error cannot be negative
        a = np.maximum(a, 0)
        loss = ((errors - a[:, None] - b[:, None] * x) ** 2).sum(1)
        better = loss < best
        best = np.where(better, loss, best)
        for values, value in zip(powers, (a, b, np.full(len(errors), c)), strict=True):
            values[better] = value[better]
    return powers


def worth(
    name: str, curve: LearningCurve, *, now: float, more: float, falls: bool, seed: int, groups: IntArray | None = None
) -> Metric:
    """Return the expected gain in score from size `now` to `now + more`, with a 95% bootstrap interval.

    If all rows have the same answers at every size, all draws are equal. The interval is then as wide as that of a paired gain in
    which no row differs.

    Args:
        name: of the figure.
        curve: the measured curve.
        now: the current size.
        more: the additional size.
        falls: whether more data can only help.
        seed: of the draws.
        groups: group numbers of near-duplicate rows [N]; whole groups are drawn.

    Raises:
        InputError: the curve has too few sizes.
    """
    if len(curve.sizes) < LEAST_SIZES:
        raise InputError(f"a curve of {len(curve.sizes)} sizes", expected=f"at least {LEAST_SIZES}")
    rng = np.random.default_rng(seed)
    count, models, n = curve.scores.shape
    errors = [1 - curve.scores.mean((1, 2))]
    draw = drawer(clusters(groups, n), rng)
    for _ in range(DRAWS):
        rows, drawn = draw(), rng.integers(0, models, (count, models))
        scores = np.take_along_axis(curve.scores[:, :, rows], drawn[:, :, None], axis=1)
        errors.append(1 - scores.mean((1, 2)))
    fitted = fit_powers(np.asarray(curve.sizes, float), np.array(errors), falls=falls)
    gains = fitted.at(now) - fitted.at(now + more)
    value, (low, high) = float(gains[0]), np.quantile(gains[1:], [0.025, 0.975])
    if high - low < ROUNDING:
        equal = paired_gain(np.zeros(n), np.zeros(n), groups)
        low, high = max(value + equal.low, 0.0 if falls else -1.0), min(value + equal.high, 1.0)
    return Metric(name, value, min(float(low), value), max(float(high), value), n)


def verdict(labels: Metric, drafts: Metric) -> Verdict:
    """Return which gain is larger; `cannot tell` if their intervals overlap."""
    if labels.low > drafts.high:
        return "labels"
    return "drafts" if drafts.low > labels.high else "cannot tell"
