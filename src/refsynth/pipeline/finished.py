"""What a run has found out, stage by stage: the values that evaluation, shipping and the report read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.evaluation.origins import Pretraining
from refsynth.evaluation.overlap import Overlap
from refsynth.pipeline.calibrate import Calibrated
from refsynth.pipeline.drafts import Written
from refsynth.pipeline.evaluate import TestResult
from refsynth.pipeline.fit import Final
from refsynth.pipeline.gate import Decision
from refsynth.pipeline.held import HeldOut
from refsynth.pipeline.policies import Curve
from refsynth.pipeline.rounds import Round
from refsynth.pipeline.rows import Rows
from refsynth.pipeline.shrink import Shrunk
from refsynth.pipeline.tiers import Tiers
from refsynth.synthesis.selection.diversity import CoverageFigures


@dataclass(frozen=True)
class Learned:
    """What was learnt from the real rows, the drafts and the pool.

    Of the test file nothing is in it but which drafts and texts were left out because they resemble one of its rows.
    """

    rows: Rows
    written: Written
    screened: Sequence[Draft]
    held: HeldOut | None
    decision: Decision
    final: Final
    rounds: tuple[Round, ...]
    curves: tuple[Curve, ...]
    pretrained: tuple[Pretraining, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user has to know about the rows."""


@dataclass(frozen=True)
class Finished:
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
