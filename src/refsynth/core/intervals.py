"""Intervals of figures: of means over rows, of paired gains, of any statistic of rows.

All are 95% intervals, and none has width zero: what did not vary in a few rows may vary in the next. Rows that are copies of each
other carry less information than as many different rows. They share a group [N], and N rows count as N / deff, where deff is the
design effect (Kish, 1965, section 5.4): how much more a mean varies than it would if rows were independent. The interval is then
that of so many independent rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import FloatArray, IntArray, Metric

INTERVALS = (
    "Intervals are 95%: Wilson's for shares and means over rows, Agresti and Min's for paired gains, a bootstrap of rows for "
    "other figures; rows that copy each other count as one cluster. Those of cross-validated scores are wider, as models learned "
    "from these rows too (Nadeau and Bengio)."
)
"""The method in one paragraph, for all pages that show intervals of figures over rows."""

Z = 1.959963984540054
RESAMPLES = 2000

LEAST_SPREAD = 0.25
"""The least variance of scores, as a share of that of right-or-wrong answers: a few scores that are alike prove little."""

ROUNDING = 1e-12
"""A smaller variance counts as zero."""


def cross_validated(folds: int) -> float:
    """Return the factor by which the variance of a score over held-out rows exceeds that of its rows: 1 + F / (F - 1), F folds.

    Rows matter twice: as the rows that are predicted, and as the rows that the models learned from. Another draw of these would
    give other models (Nadeau and Bengio, 2003, eq. 8, with 1 / (F - 1) test rows for each training row). `bench evidence`
    measures how well this holds.
    """
    return 1 + folds / max(1, folds - 1)


def wilson(share: float, n: float, spread: float = 1.0) -> tuple[float, float]:
    """Return the 95% score interval of a share of `n` rows (Wilson, 1927), which holds for few rows and near 0 and 1.

    `spread` is the factor by which the variance of the share exceeds that of `n` independent rows.
    """
    z2 = Z**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (spread * share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return float(np.clip(center - half, 0.0, share)), float(np.clip(center + half, share, 1.0))


def share_of(name: str, share: float, n: int) -> Metric:
    """Return a share of `n` independent rows with Wilson's interval."""
    return Metric(name, share, *wilson(share, n), n)


def accuracy_interval(truth: IntArray, predicted: IntArray, groups: IntArray | None = None, *, spread: float = 1.0) -> Metric:
    """Return the share of rows [N] on which truth and prediction agree; `groups` and `spread` as for `mean_interval`."""
    return mean_interval("accuracy", truth == predicted, groups, spread=spread)


def mean_interval(
    name: str, scores: FloatArray | IntArray | NDArray[np.bool_], groups: IntArray | None = None, *, spread: float = 1.0
) -> Metric:
    """Return the mean of scores with Wilson's interval for an equivalent number of independent right-or-wrong rows.

    N scores with mean p and variance s^2 are equivalent to N p (1 - p) / s^2 rows that are right or wrong, which have the
    variance p (1 - p). Fractions vary less and so count more, at most four times. Linearized scores, which may leave [0, 1]
    while their mean does not, may vary more. Scores that are all alike say nothing about their variance: each group counts
    once.

    Args:
        name: of the metric.
        scores: N scores in [0, 1], or whether N rows are right.
        groups: a number for each row [N]; copies of a row share it. Default: all rows are independent.
        spread: the factor by which the variance of the mean exceeds that of the rows, see `cross_validated`.

    Raises:
        ValueError: the numbers of groups and rows differ.
    """
    values = np.asarray(scores, float)
    value = float(np.clip(values.mean(), 0.0, 1.0))
    deviations = values - values.mean()
    rows = _independent(deviations, groups)
    if (binary := value * (1 - value)) > ROUNDING:
        rows /= max(LEAST_SPREAD, float(deviations @ deviations) / (len(values) * binary))
    return Metric(name, value, *wilson(value, rows, spread), len(values))


def paired_gain(base: FloatArray | IntArray, other: FloatArray | IntArray, groups: IntArray | None = None) -> Metric:
    """Return the mean of `other - base` over paired rows [N] in [0, 1], with the interval of Agresti and Min (2005).

    Half a pair is added to each of the four cells of the paired table, so a gain is not certain even if no row differs. With n
    rows and differences d_i, d = sum d_i / (n + 2) has the variance (sum d_i^2 + 1) / (n + 2)^2 - d^2 / (n + 2). Fractions may
    take the place of -1, 0 and 1. `groups` [N] are as for `mean_interval`, and n is the number of independent rows that they
    amount to.

    Raises:
        ValueError: the rows are not paired, or the numbers of groups and rows differ.
    """
    differences = np.diff(np.stack([base, other]).astype(float), axis=0)[0]  # stacking refuses rows that are not paired
    value = float(differences.mean())
    rows = _independent(differences - value, groups)
    shrunk = rows * value / (rows + 2)
    squares = rows * float(differences @ differences) / len(differences)
    half = Z * math.sqrt((squares + 1) / (rows + 2) ** 2 - shrunk**2 / (rows + 2))
    low, high = max(-1.0, shrunk - half), min(1.0, shrunk + half)
    return Metric("gain", value, min(low, value), max(high, value), len(differences))


def bootstrap(
    name: str,
    statistic: Callable[[IntArray], float],
    n: int,
    *,
    groups: IntArray | None = None,
    matters: NDArray[np.bool_] | None = None,
    spread: float = 1.0,
    seed: int = 0,
) -> Metric:
    """Return a statistic that is not a mean over rows, with its 95% percentile bootstrap interval over groups (Efron, 1979).

    If all resamples give the same value, the interval is Wilson's, and each group counts once.

    Args:
        name: of the metric.
        statistic: a function of an array of row indices.
        n: the number of rows.
        groups: a number for each row [n], as for `mean_interval`; whole groups are drawn.
        matters: whether the statistic uses each row [n]; default: all. Other rows are no evidence, and are not drawn.
        spread: as for `mean_interval`; the interval of a statistic in [0, 1] is widened by its root.
        seed: of the resampling.

    Raises:
        ValueError: the numbers of groups and rows differ.
    """
    value, cluster = statistic(np.arange(n)), clusters(groups, n)
    rows = np.arange(n) if matters is None else np.flatnonzero(matters)
    if not len(rows):
        return Metric(name, value, 0.0, 1.0, n)
    draw = drawer(cluster[rows], np.random.default_rng(seed))
    low, high = np.quantile([statistic(rows[draw()]) for _ in range(RESAMPLES)], [0.025, 0.975])
    if high - low < ROUNDING:
        low, high = wilson(float(np.clip(value, 0.0, 1.0)), len(np.unique(cluster[rows])))
    elif spread > 1:
        low, high = (float(np.clip(value + math.sqrt(spread) * (bound - value), 0.0, 1.0)) for bound in (low, high))
    return Metric(name, value, min(float(low), value), max(float(high), value), n)


def exceeds_doubt(difference: FloatArray, *, doubt: float) -> bool:
    """Return whether the mean of differences [N] exceeds `doubt` of its standard errors.

    If one of N rows differs, the mean is exactly one standard error, which must not count as more because of rounding. Fewer than
    two differences have no standard error, and exceed none.
    """
    if len(difference) < 2:
        return False
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return float(difference.mean()) > doubt * error * (1 + 1e-9)


def clusters(groups: IntArray | None, n: int) -> IntArray:
    """Return the group of each row [n], numbered by first appearance; without groups each row is its own.

    Raises:
        ValueError: the numbers of groups and rows differ.
    """
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} rows")
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])


def drawer(groups: IntArray, rng: np.random.Generator) -> Callable[[], IntArray]:
    """Return a function that draws G of the G groups of rows [N] with replacement, and returns the indices of their rows."""
    cluster = clusters(groups, len(groups))
    order, sizes = np.argsort(cluster, kind="stable"), np.bincount(cluster)
    starts = np.cumsum(sizes) - sizes

    def draw() -> IntArray:
        drawn = rng.integers(0, len(sizes), len(sizes))
        taken = sizes[drawn]
        ends = np.cumsum(taken)
        return np.asarray(order[np.repeat(starts[drawn] - ends + taken, taken) + np.arange(ends[-1])])

    return draw


def _independent(deviations: FloatArray, groups: IntArray | None) -> float:
    """Return the number of independent rows that N rows in G groups amount to, by their deviations from the mean [N].

    It is N / deff. deff = sum over groups of (the sum of their deviations)^2, over the sum of all squared deviations: 1 if each
    row is a group, m if rows come in m copies. A value below 1 is chance, and counts as 1. The estimate rests on G groups: as
    Korn and Graubard (1998) do, deff is raised by the square of Student's quantile with G - 1 degrees of freedom over that with
    N - 1, here to first order in 1 / G, at most to what copies amount to. If nothing varies, or if there is only one group,
    deff is unknown, and each group counts once.
    """
    n, squares = len(deviations), float(deviations @ deviations)
    sums = np.bincount(clusters(groups, n), deviations)
    if squares <= ROUNDING * n or len(sums) == 1:
        return float(len(sums))
    design = float(sums @ sums) / squares
    student = 1 + (Z**2 + 1) / 2 * (1 / (len(sums) - 1) - 1 / (n - 1))
    return n / max(1.0, design, min(design * student, n / len(sums)))
