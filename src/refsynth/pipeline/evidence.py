"""What a run has found out, stage by stage: the values that evaluation, shipping and the report read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.compress.shrink import Shrunk
from refsynth.compress.tiers import Tiers
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.evaluation.calibrate import Calibrated
from refsynth.evaluation.origins import Pretraining
from refsynth.evaluation.overlap import Overlap
from refsynth.evaluation.testfile import TestResult
from refsynth.learning.final import Final
from refsynth.learning.gate import Decision
from refsynth.learning.held import HeldOut
from refsynth.learning.judge import Selected
from refsynth.learning.rows import Rows
from refsynth.synthesis.drafts import WrittenDrafts
from refsynth.synthesis.reinforcement.policies import RewardCurve
from refsynth.synthesis.rounds import Round
from refsynth.synthesis.selection.diversity import CoverageFigures


@dataclass(frozen=True)
class Learned:
    """What was learnt from the real rows, the drafts and the pool.

    Of the test file nothing is in it but which drafts and texts were left out because they resemble one of its rows.
    """

    rows: Rows
    written: WrittenDrafts
    screened: Sequence[Draft]
    selected: Selected
    held: HeldOut | None
    decision: Decision
    final: Final
    rounds: tuple[Round, ...]
    curves: tuple[RewardCurve, ...]
    pretrained: tuple[Pretraining, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user has to know about the rows."""


@dataclass(frozen=True)
class Evidence:
    """What a run leaves behind.

    `studied` counts the texts of the pool that were learnt from without a label; `overlap` tells which test rows are in train
    too.
    """

    task: Task
    folder: RunFolder
    learned: Learned
    shrunk: Shrunk
    calibrated: Calibrated
    bundle: Path
    test: TestResult | None
    coverage: CoverageFigures | None
    tiers: Tiers
    studied: int = 0
    overlap: Overlap | None = None

    @property
    def measured(self) -> TestResult | None:
        """What was measured on new test rows, those whose text no training row has; None without any."""
        return None if self.test is None else self.test.new
