"""The root of a report. Its parts are in `sections`, `confidence` and `origins`; how they are shown is in `render`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refsynth.evaluation.confidence import CalibrationReport
from refsynth.evaluation.mistakes import Mistakes
from refsynth.evaluation.origins import Data, Drafting, Drafts, Lineage
from refsynth.evaluation.overlap import Overlap
from refsynth.evaluation.sections import Classes, Compression, Gate, Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The root. `language` is that of the texts; `date` is ISO 8601; `labels` maps names to what they mean.

    `absent` tells, by a section's field name, why that section is None. `overlap` is None where no test row is in train too.
    `drafting` is what the run wanted of drafts, whatever came of it.
    """

    title: str
    task: str
    language: str
    date: str
    version: str
    labels: Mapping[str, str]
    results: Results | None = None
    gate: Gate | None = None
    classes: Classes | None = None
    calibration: CalibrationReport | None = None
    drafts: Drafts | None = None
    data: Data | None = None
    compression: Compression | None = None
    lineage: Lineage | None = None
    overlap: Overlap | None = None
    drafting: Drafting | None = None
    mistakes: Mistakes | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
