"""The state of a run as one value: what was measured, what became of drafts, whether the contract is kept.

Every sentence on a run is derived from it, in `headline` and `advice`: no sentence looks at the run by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refsynth.core.types import Metric
from refsynth.evaluation.sections import Gate
from refsynth.evaluation.tree import Report

Measured = Literal["test file", "cross-validation", "not what ships", "nothing"]
"""On which rows what ships was measured: on those of the test file, on held-out ones, on none but its teacher was, on none."""

Use = Literal["off", "unwritten", "unkept", "untested", "unchosen", "helpful", "harmful", "unclear"]
"""What became of drafts.

off: none were asked for. unwritten: none could be read of what was asked for. unkept: none passed the screen. untested: the
bundle learned from them, and no row could tell whether they help. unchosen: rows were held out, and the learner that ships chose
none. helpful, harmful, unclear: measured, and used, or not.
"""


@dataclass(frozen=True, slots=True)
class ReportState:
    """What is so. `score` is the figure of what ships, `usual` that of a system that reads nothing; counts are of drafts."""

    measured: Measured
    score: Metric | None
    usual: Metric | None
    use: Use
    wanted: int
    written: int
    kept: int
    pool: int
    rows: int | None
    contract: Literal["none", "kept", "missed"]
    unsure: bool

    @property
    def noun(self) -> str:
        """What the gate compares models with and without."""
        if not self.pool:
            return "drafts"
        return "drafts and texts of the pool" if self.kept else "texts of the pool"

    @property
    def learned_from(self) -> str:
        """What a bundle without drafts is trained on."""
        return "the descriptions of the labels alone" if self.rows == 0 else "real rows only"


def state_of(report: Report) -> ReportState:
    """Return the state that a report shows."""
    results, drafts, compression = report.results, report.drafts, report.compression
    shipped = results.shipped if results else None
    score = shipped.score if shipped else None
    measured: Measured = "nothing" if results is None else "not what ships" if score is None else results.source
    wanting = report.drafting
    written, kept = (drafts.parsed, drafts.kept) if drafts else (0, 0)
    pool = wanting.pool if wanting else 0
    wanted = max(wanting.wanted if wanting else 0, drafts.asked if drafts else 0)
    calibration = report.calibration
    return ReportState(
        measured=measured,
        score=score,
        usual=next((each.score for each in results.systems if each.usual), None) if results else None,
        use=_use(report.gate, wanted, written, kept + pool),
        wanted=wanted,
        written=written,
        kept=kept,
        pool=pool,
        rows=wanting.rows if wanting else None,
        contract="none" if not (compression and compression.asked) else "kept" if compression.met else "missed",
        unsure=calibration is not None and calibration.answered.value < 1,
    )


def _use(gate: Gate | None, wanted: int, written: int, joined: int) -> Use:
    if gate is not None and gate.gain is not None:
        return "helpful" if gate.accepted else "harmful" if gate.gain.high < 0 else "unclear"
    if joined:
        return "untested" if gate is None else "unchosen"
    return "unkept" if written else "unwritten" if wanted else "off"
