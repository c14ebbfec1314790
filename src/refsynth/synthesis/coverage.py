"""Measures how much of the real rows the drafts cover, in the embedding space of the encoder that training starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import digest
from refsynth.core.run import RunFolder
from refsynth.core.steps import STEPS
from refsynth.core.types import Draft, kept
from refsynth.learning.context import LearnerContext
from refsynth.learning.rows import Rows
from refsynth.synthesis.selection.diversity import NEAREST, CoverageFigures, coverage, sample


def measure_coverage(rows: Rows, drafts: Sequence[Draft], context: LearnerContext, folder: RunFolder) -> CoverageFigures | None:
    """Return the coverage of a sample of the real rows by a sample of the kept drafts; None if there are too few of either."""
    real = sample([example.text for example in rows.examples])
    texts = sample([example.text for example in kept(drafts)])
    if len(real) <= NEAREST or not texts:
        return None

    def make(out: Path) -> None:
        figures = coverage(context.encoder.encode(real), context.encoder.encode(texts))
        write_json(out / "coverage.json", figures._asdict())

    extra = {"drafts": digest(texts), "encoder": context.encoder_hash}
    return CoverageFigures(**read_json(folder.step(STEPS["coverage"], make, config={}, extra=extra) / "coverage.json"))
