"""Does it hold for Chinese texts, on the multilingual encoder and without drafts, which the embedded reference cannot write?"""

from __future__ import annotations

from benchmarks.ours import OURS, four_arms
from benchmarks.suite import Group, Over, Suite

BUDGET = 32
TIMED = False

SUITE = Suite(
    ("csl_zh", "coldataset_zh"),
    groups=(Group(four_arms, OURS),),
    order=("tfidf", "frozen", "real only", "shipped"),
    held=(
        Over("shipped over tfidf, csl_zh", "shipped", "tfidf", floor=12.0, aim=20.0, sets=("csl_zh",)),
        Over("shipped over tfidf, coldataset_zh", "shipped", "tfidf", floor=4.0, aim=8.0, sets=("coldataset_zh",)),
    ),
    seeds=3,
    quick=("csl_zh",),
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
