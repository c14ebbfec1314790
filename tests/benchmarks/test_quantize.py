"""The bench of the int8 encoder: its checks follow from the cells, and a set that is measured is not measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

import refsynth
from benchmarks import quantize
from benchmarks.bench import Options, measured
from benchmarks.cells import Cells


def cells_of(folder: Path, *, flips: float = 0.0, size: int = 23) -> Cells:
    cells = Cells(folder / "quantize.jsonl")
    common = {"version": refsynth.__version__, "quick": False, "changed": 0.01, "rows": 100}
    for name in quantize.SETS:
        for side in (quantize.TORCH, quantize.FUSED, quantize.OTHER, quantize.OURS):
            own = {"flips": flips, "size": size} if side == quantize.OURS else {"flips": 0.02, "size": 90}
            cells.add({"set": name, "system": side, **common, **own})
    return cells


@pytest.mark.parametrize(
    ("flips", "size", "missed"),
    [
        (0.0, 23, set()),
        (0.002, 23, {"labels that change with the batch"}),
        (0.0, 30, {"size, int8 / fp32"}),
    ],
)
def test_checks(tmp_path: Path, flips: float, size: int, missed: set[str]) -> None:
    cells = cells_of(tmp_path, flips=flips, size=size)
    assert {check["name"] for check in quantize.checks(cells) if not check["ok"]} == missed
    assert len(quantize.table(cells).splitlines()) == 2 + 8


def test_nothing_measured_is_nothing_met(tmp_path: Path) -> None:
    assert not any(check["ok"] for check in quantize.checks(Cells(tmp_path / "quantize.jsonl")))


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    before = cells_of(tmp_path).rows
    again = measured(quantize, "quantize", Options(tmp_path, tmp_path, say=pytest.fail))
    assert again["rows"] == before
