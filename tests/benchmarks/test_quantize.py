"""The bench of the int8 encoder: its checks follow from the cells, and a set that is measured is not measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import quantize
from benchmarks.cells import Cells
from refsynth.core.machine import describe_machine


def cells_of(folder: Path, *, ours: float, flips: float, size: int = 23) -> Cells:
    cells = Cells(folder / "quantize.jsonl")
    seconds = {quantize.TORCH: 4.0, quantize.FUSED: 2.0, quantize.OTHER: 1.0, quantize.OURS: ours}
    for name in quantize.SETS:
        for side, taken in seconds.items():
            timed = {"texts": 8, "seconds": [taken, 2 * taken, taken], "alone": [taken, taken, 3 * taken]}
            shares = {"changed": 0.01, "flips": flips if side == quantize.OURS else 0.02, "rows": 100}
            weight = size if side == quantize.OURS else 90
            cells.add(
                {
                    "set": name,
                    "version": "1",
                    "quick": False,
                    "machine": describe_machine(),
                    "system": side,
                    "size": weight,
                    **timed,
                    **shares,
                }
            )
    return cells


@pytest.mark.parametrize(
    ("ours", "flips", "size", "missed"),
    [
        (1.0, 0.0, 23, set()),
        (1.5, 0.0, 23, {"int8 / fused fp32, one long text"}),
        (2.5, 0.0, 23, {"int8 / fused fp32, one long text", "int8 / torch fp32, texts/s, short texts"}),
        (1.0, 0.002, 23, {"labels that change with the batch"}),
        (1.0, 0.0, 30, {"size, int8 / fp32"}),
    ],
)
def test_checks(tmp_path: Path, ours: float, flips: float, size: int, missed: set[str]) -> None:
    result = quantize.outcome(cells_of(tmp_path, ours=ours, flips=flips, size=size))
    assert {check["name"] for check in result["checks"] if not check["ok"]} == missed
    values = {check["name"]: check["value"] for check in result["checks"]}
    assert values["int8 / torch fp32, texts/s, short texts"] == pytest.approx(4 / ours)
    assert len(result["table"].splitlines()) == 2 + 8


def test_nothing_measured_is_nothing_met(tmp_path: Path) -> None:
    assert not any(check["ok"] for check in quantize.outcome(Cells(tmp_path / "quantize.jsonl"))["checks"])


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    before = cells_of(tmp_path, ours=1.0, flips=0.0).rows
    again = quantize.measure(tmp_path, tmp_path, version="1", quick=False, say=lambda line: pytest.fail(line))
    assert again.rows == before
