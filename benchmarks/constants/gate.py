"""What the gate's rule lets through, and what it misses: simulated learners whose rows change, with drafts of a known effect.

    python -m benchmarks.constants.gate

The table of design/021-gate.md. Of N rows 15 % are answered otherwise once drafts are added, rightly as often as wrongly where
drafts have no effect; learners share half of the noise that decides which.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from refsynth.core.signflip import sign_flip
from refsynth.core.types import FloatArray
from refsynth.learning.gate import FALSE_ACCEPTS

CHANGED, SHARED = 0.15, 0.5
"""Share of the rows that change, and of the noise that learners have in common."""

ROWS, WAYS, EFFECTS = (16, 32, 64, 128, 256, 512), (1, 3, 6), (0.03, 0.05, 0.08, 0.12)


def differences(rng: np.random.Generator, rows: int, ways: int, effect: float) -> FloatArray:
    """Return -1, 0 or 1 for each learner and row [ways, rows]; their mean is the effect."""
    noise = np.sqrt(SHARED) * rng.normal(size=rows) + np.sqrt(1 - SHARED) * rng.normal(size=(ways, rows))
    won, lost = (CHANGED + effect) / 2, (CHANGED - effect) / 2
    return np.asarray((noise > norm.isf(won)).astype(float) - (noise < norm.ppf(lost)))


def taken(rows: int, ways: int, effect: float, runs: int) -> tuple[float, float]:
    """Return the share of runs in which drafts are taken: by the rule, and by one standard error of the best learner's gain."""
    rng, by_rule, by_error = np.random.default_rng([rows, ways]), 0, 0
    for _ in range(runs):
        found = differences(rng, rows, ways, effect)
        by_rule += bool(sign_flip(found, np.arange(rows)).min() <= FALSE_ACCEPTS)
        best = found[found.mean(1).argmax()]
        by_error += bool(best.mean() > best.std(ddof=1) / np.sqrt(rows) * (1 + 1e-9))
    return by_rule / runs, by_error / runs


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print(f"| rows | no effect, taken: {' / '.join(map(str, WAYS))} learners | by one standard error |\n|---|---|---|")
    for rows in ROWS:
        shares = np.array([taken(rows, ways, 0.0, runs) for ways in WAYS])
        columns = [" / ".join(f"{100 * share:.1f}" for share in column) + " %" for column in shares.T]
        print(f"| {rows} | {columns[0]} | {columns[1]} |")
    points = " | ".join(f"{100 * effect:.0f} points" for effect in EFFECTS)
    print(f"\n| rows | drafts bring (3 learners) {points} |\n|{'---|' * (1 + len(EFFECTS))}")
    for rows in ROWS:
        print(f"| {rows} | " + " | ".join(f"{100 * taken(rows, 3, effect, runs)[0]:.0f} %" for effect in EFFECTS) + " |")


if __name__ == "__main__":
    main()
