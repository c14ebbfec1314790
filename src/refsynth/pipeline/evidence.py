"""The results of a run's stages: the values that evaluation, shipping and the report read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class Paths(NamedTuple):
    """The three files of a report."""

    html: Path
    markdown: Path
    json: Path


@dataclass(frozen=True)
class Learned:
    """The results of the stages from rows to final fit.

    The test file has no influence on them, except that drafts and texts that resemble its rows were left out.
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
    """Notes on the rows that a user should read."""


@dataclass(frozen=True)
class Evidence:
    """Everything that a run found out.

    `studied` counts the texts of the pool that models learned from without a label; `overlap` tells which test rows are also in
    train.
    """

    task: Task
    folder: RunFolder
    learned: Learned
    shrunk: Shrunk
    calibrated: Calibrated
    test: TestResult | None
    coverage: CoverageFigures | None
    tiers: Tiers
    studied: int = 0
    overlap: Overlap | None = None

    @property
    def bundle(self) -> Path:
        """The folder of the bundle. Only the end of a run writes it, when nothing that was learned resembles a test row."""
        return self.folder.path / "bundle"

    @property
    def measured(self) -> TestResult | None:
        """The result on new test rows, those whose text is not in train; None if there are none."""
        return None if self.test is None else self.test.new
