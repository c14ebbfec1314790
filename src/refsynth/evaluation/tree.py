"""The root of a report. Its sections are in `sections`, `confidence` and `origins`; `render` shows them."""

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
    """A report.

    Attributes:
        language: of the texts.
        date: in ISO 8601.
        labels: the descriptions of the labels by name.
        overlap: None if no test row is also a training row.
        drafting: the drafts that the run requested.
        absent: why a section is None, by the section's field name.
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
