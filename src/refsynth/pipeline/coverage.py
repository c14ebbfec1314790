"""How much of the real rows the chosen drafts cover, in the space of the encoder that training starts from."""

from __future__ import annotations

from pathlib import Path

from refsynth.core.run import RunFolder, read_json, write_json
from refsynth.pipeline.fit import Final
from refsynth.pipeline.rows import Rows
from refsynth.pipeline.workshop import Workshop
from refsynth.quality.diversity import NEAREST, CoverageFigures, coverage, sample
from refsynth.quality.filter import kept


def measure_coverage(rows: Rows, final: Final, shop: Workshop, folder: RunFolder) -> CoverageFigures | None:
    """Return the coverage of a sample of the real rows by a sample of the chosen drafts; None where there are too few."""
    real = sample([example.text for example in rows.examples])
    drafts = sample([example.text for example in kept(final.drafts)])
    if len(real) <= NEAREST or not drafts:
        return None

    def make(out: Path) -> None:
        figures = coverage(shop.encoder.encode(real), shop.encoder.encode(drafts))
        write_json(out / "coverage.json", figures._asdict())

    done = folder.step("coverage", {"fit": folder.hash_of("fit"), "encoder": shop.encoder_hash, "k": NEAREST}, make)
    return CoverageFigures(**read_json(done / "coverage.json"))
