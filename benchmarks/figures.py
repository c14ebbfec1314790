"""What benches make of their values: means with intervals, checks against floors and limits, Markdown tables.

The intervals here are over seeds or data sets, by Student's t. Those over rows are in `refsynth.core.intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

Check = dict[str, Any]
"""A figure with its interval, the bound that it is held to, and whether it is `ok`."""

LEAST = 3
"""Values from which on an interval of their mean is given: of two it is a dozen times as wide as they are apart."""

MEANS = "mean over seeds [its 95% interval over these, by Student's t]"
"""What a table of `shown` values is headed with."""


def interval(values: Sequence[float], *, statistic: Callable[[Any], Any] = np.mean) -> tuple[float, float, float]:
    """Return the mean of N values with its 95% interval by Student's t distribution, which few values need.

    What it is an interval over is what the values are of: seeds on one data set, or data sets. Of another statistic, such as the
    median, the range of the values comes with it, if there are several. Without values all three are NaN; so are the bounds of a
    mean of fewer than `LEAST`, or of values that are all the same: something that draws nothing was measured again.
    """
    data = np.asarray(values, float)
    if not len(data):
        return (float("nan"),) * 3
    value = float(statistic(data))
    if statistic is not np.mean and len(data) > 1:
        return value, float(data.min()), float(data.max())
    if len(data) < LEAST or not np.ptp(data):
        return value, float("nan"), float("nan")
    from scipy.stats import t  # late: it takes a second, and who only asks for the benches needs none of it

    half = float(t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return value, value - half, value + half


def shown(values: Sequence[float]) -> str:
    """Return e.g. `81.7 [80.5-82.9]`: the mean with its interval, if it has one; an empty text without values."""
    mean, low, high = interval(values)
    if math.isnan(mean):
        return ""
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} [{low:.1f}-{high:.1f}]"


def ranged(values: Sequence[float], spec: str = ".2f") -> str:
    """Return e.g. `2.00 [1.00-3.00]`: the median with the range; an empty text without values."""
    if not len(values):
        return ""
    return f"{np.median(values):{spec}} [{min(values):{spec}}-{max(values):{spec}}]"


def means(found: Iterable[tuple[Hashable, float]]) -> list[float]:
    """Return the mean of the values of each key: five draws of one data set are not five data sets."""
    by_key: dict[Hashable, list[float]] = {}
    for key, value in found:
        by_key.setdefault(key, []).append(value)
    return [float(np.mean(values)) for values in by_key.values()]


def figure(values: Sequence[float], unit: str, *, over: str, statistic: Callable[[Any], Any] = np.mean) -> Check:
    """Return a statistic of values with its interval, and what each value is of: the interval is `over` these."""
    value, low, high = interval(values, statistic=statistic)
    bounds = "95% interval" if statistic is np.mean else "range"
    return {"value": value, "low": low, "high": high, "bounds": bounds, "unit": unit, "n": len(values), "over": over}


def at_least(name: str, found: Check, floor: float, aim: float | None = None) -> Check:
    """Return a check of a `figure`: it may not fall below the floor. What was not measured is missed."""
    return {"name": name, **found, "floor": floor, "aim": floor if aim is None else aim, "ok": bool(found["value"] >= floor)}


def at_most(name: str, found: Check, limit: float) -> Check:
    """Return a check of a `figure`: it may not exceed the limit. What was not measured is missed."""
    return {"name": name, **found, "limit": limit, "ok": bool(found["value"] <= limit)}


def spread(check: Check) -> str:
    """Return the bounds of a `figure` in words, if there are any."""
    low, high = check.get("low", math.nan), check.get("high", math.nan)
    return "" if math.isnan(low) else f", {check['bounds']} {low:.4g} to {high:.4g} over {check['n']} {check['over']}"


def told(check: Check) -> str:
    """Return a check as a line."""
    bound = f"at most {check['limit']:g}" if "limit" in check else f"at least {check['floor']:g}, aim {check['aim']:g}"
    about = spread(check) + spread(check.get("by_seed", {}))
    return f"{'ok' if check['ok'] else 'MISSED':6} {check['name']}: {check['value']:.4g} {check['unit']}{about} ({bound})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
