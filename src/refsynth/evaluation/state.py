"""The state of a run as one value: what was measured, whether drafts are used, whether the contract is kept.

All sentences on a run, in `headline` and `advice`, are derived from it, so that they cannot contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refsynth.core.types import Metric
from refsynth.evaluation.sections import Gate
from refsynth.evaluation.tree import Report

Measured = Literal["test file", "cross-validation", "not what ships", "nothing"]
"""The rows on which the shipped model was measured; `not what ships` if only its teacher was."""

Use = Literal["off", "unwritten", "unkept", "untested", "unchosen", "helpful", "harmful", "unclear"]
"""Whether drafts are used, and why.

off: none were requested. unwritten: none of the requested ones could be parsed. unkept: none passed the filter. untested: the
bundle was trained with them, and there were no rows to measure their effect. unchosen: the shipped learner was not measured with
drafts. helpful: measured and used. harmful, unclear: measured and not used.
"""


@dataclass(frozen=True, slots=True)
class ReportState:
    """The state of a run.

    Attributes:
        usual: the figure of the most-frequent baseline.
        wanted: number of drafts requested.
        written: number of drafts parsed.
        kept: number of drafts that passed the filter.
        pool: number of pool texts that joined them.
        rows: number of real rows the bundle is trained on; None if unknown.
        contract: whether there is one, and whether it is kept.
        unsure: whether the shipped model abstains on some rows.
    """

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
        """The name of the rows that the gate tests: drafts, pool texts, or both."""
        if not self.pool:
            return "drafts"
        return "drafts and texts of the pool" if self.kept else "texts of the pool"

    @property
    def learned_from(self) -> str:
        """The training data of a bundle without drafts."""
        return "the descriptions of the labels alone" if self.rows == 0 else "real rows only"


def state_of(report: Report) -> ReportState:
    """Return the state of the run behind a report."""
    results, drafts, compression = report.results, report.drafts, report.compression
    shipped = results.shipped if results else None
    score = shipped.score if shipped else None
    measured: Measured = "nothing" if results is None else "not what ships" if score is None else results.source
    drafting = report.drafting
    written, kept = (drafts.parsed, drafts.kept) if drafts else (0, 0)
    pool = drafting.pool if drafting else 0
    wanted = max(drafting.wanted if drafting else 0, drafts.asked if drafts else 0)
    calibration = report.calibration
    return ReportState(
        measured=measured,
        score=score,
        usual=next((system.score for system in results.systems if system.usual), None) if results else None,
        use=_use(report.gate, wanted, written, kept + pool),
        wanted=wanted,
        written=written,
        kept=kept,
        pool=pool,
        rows=drafting.rows if drafting else None,
        contract="none" if not (compression and compression.asked) else "kept" if compression.met else "missed",
        unsure=calibration is not None and calibration.answered.value < 1,
    )


def _use(gate: Gate | None, wanted: int, written: int, joined: int) -> Use:
    if gate is not None and gate.gain is not None:
        return "helpful" if gate.accepted else "harmful" if gate.gain.high < 0 else "unclear"
    if joined:
        return "untested" if gate is None else "unchosen"
    return "unkept" if written else "unwritten" if wanted else "off"
