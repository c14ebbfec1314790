"""The benches of compression: checks follow from the cells, ratios are taken within a repeat, nothing measured is nothing met."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import contract, distill, serve_core
from benchmarks.cells import Cells
from benchmarks.engine import worker
from benchmarks.engine.roofline import int8_peak, operations
from benchmarks.engine.sides import CASCADE, FUSED, LONGEST, OURS, PADDED, STATIC, TORCH, make_sides, seconds_of
from benchmarks.sets import Sample
from refsynth.compress.static import distilled
from refsynth.core.machine import describe_machine
from refsynth.models.network import TransformerEncoder

ROWS = [
    {"text": f"{noun} {number} is {what}", "label": what}
    for number in range(6)
    for what, noun in (("late", "it"), ("lost", "one"))
]


HERE = {"version": "1", "quick": False, "machine": describe_machine()}


def speed_cells(folder: Path, **changed: float) -> Cells:
    cells = Cells(folder / "serve-core.jsonl")
    seconds = {TORCH: 4.0, FUSED: 2.0, OURS: 1.0, STATIC: 0.02, PADDED: 5.0, LONGEST: 2.0, "model2vec": 0.02, "TF-IDF + LR": 0.01}
    seconds |= {"SetFit predict": 6.0, serve_core.SENTENCE: 2.0, serve_core.OPTIMUM: 2.0} | changed
    for name in (serve_core.SHORT, serve_core.LONG):
        for side, taken in seconds.items():
            noisy = [taken, 10 * taken, taken]  # what slows one repeat slows both sides of it
            cell = {"set": name, "system": side, **HERE, "texts": 8, "seconds": noisy, "alone": noisy}
            weight = {TORCH: 90.0, OURS: 23.0, STATIC: 5.0}.get(side)
            more = {"operations": 1e9, "tokens": 100, "tokenizer": 1e4, "peak": 4e9} if side in (OURS, STATIC) else {}
            cells.add({**cell, "megabytes": weight, **more})
    for side, first in ((OURS, 1.0), (STATIC, 0.2), (CASCADE, 0.2), (TORCH, 8.0)):
        figures = {"starts": [first] * 3, "first": first, "loaded": 10**8, "after": 10**8, "texts": 100}
        cells.add({"set": "processes", "system": side, **HERE, **figures})
    spent = {"cpu": {"reference": [60.0, 90.0], "cascade": [0.5, 0.75]}, "right": {"reference": 8, "cascade": 9}, "texts": 10}
    cells.add({"set": "reference", "system": CASCADE, **HERE, **spent})
    return cells


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, set()),
        ({TORCH: 1.9}, {"P1: int8 / torch fp32, texts/s, short texts"}),
        ({STATIC: 0.05}, {"P4: static / int8, texts/s", "static / model2vec", "static / TF-IDF"}),
        ({PADDED: 2.0}, {"P3a: by length / in arrival order, padded to the maximum"}),
    ],
)
def test_ratios_are_those_within_a_repeat(changed: dict[str, float], missed: set[str], tmp_path: Path) -> None:
    result = serve_core.outcome(speed_cells(tmp_path, **changed))
    assert {check["name"] for check in result["checks"] if not check["ok"]} == missed
    assert "int8 1 of 4 G operations/s (25%)" in result["table"]
    assert f"| {TORCH} | 8.00 | 100 | 100 | 100 |" in result["table"]


def test_a_cascade_that_is_wrong_more_often_than_the_reference_is_missed(tmp_path: Path) -> None:
    cells = speed_cells(tmp_path)
    cells.rows[-1]["right"]["cascade"] = 7
    (missed,) = [check for check in serve_core.outcome(cells)["checks"] if not check["ok"]]
    assert missed["name"].startswith("P6")
    assert missed["value"] == pytest.approx(120)


def test_nothing_measured_is_nothing_met(tmp_path: Path) -> None:
    for module in (serve_core, distill, contract):
        checks = module.outcome(Cells(tmp_path / "none.jsonl"))["checks"]
        assert checks
        assert not any(check["ok"] for check in checks)


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    before = speed_cells(tmp_path).rows
    again = serve_core.measure(tmp_path, tmp_path, version="1", quick=False, say=lambda line: pytest.fail(line))
    assert again.rows == before


def test_what_a_form_keeps_is_of_its_own_teacher(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "distill.jsonl")
    for shots, teacher in ((64, 0.8), (10**6, 0.9)):
        for system in distill.ORDER:
            f1 = teacher if system == distill.TEACHER else teacher - (0.1 if system == distill.STATIC else 0.004)
            figures = {"macro_f1": f1, "flips": 0.01, "megabytes": None}
            cells.add({"set": "one", "shots": shots, "version": "1", "rows": shots, "system": system, **figures})
    checks = {check["name"]: check for check in distill.outcome(cells)["checks"]}
    assert checks["P1: macro-F1 lost by int8"]["value"] == pytest.approx(0.4)
    static = checks["P4: macro-F1 kept by the static student"]
    assert static["value"] == pytest.approx((700 / 8 + 800 / 9) / 2)
    assert not static["ok"]
    assert checks["macro-F1 kept by half of the layers"]["ok"]


def test_where_all_rows_are_labelled_a_tenth_becomes_the_pool(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), "utf-8")
    labels = {"late": "", "lost": ""}
    some, rest = distill._parted(tmp_path, Sample(ROWS[:4], [], labels), 3)
    assert len(some.train) == 4
    assert len(rest) == 3
    assert not {row["text"] for row in some.train} & set(rest)
    most, pool = distill._parted(tmp_path, Sample([*ROWS], [], labels), 100)
    assert (len(most.train), len(pool)) == (11, 1)


def test_a_contract_that_is_misjudged_is_missed(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "contract.jsonl")
    for right in (True, False):
        asked = {"p50_ms": 2.0, "size_mb": None, "keep": None}
        cells.add({"system": f"it {right}", "met": True, "asked": asked, "shipped": "half: p50 1.00 ms, 8.0 MB", "right": right})
    (check,) = contract.outcome(cells)["checks"]
    assert (check["value"], check["ok"], check["n"]) == (50.0, False, 2)


def test_ten_contracts_from_easy_to_impossible() -> None:
    assert len(contract.WISHES) == 10
    assert {wish.can for wish in contract.WISHES} == {True, False, None}


def test_all_sides_in_this_process_answer(tiny_folder: Path, tmp_path: Path) -> None:
    network = TransformerEncoder(tiny_folder, max_tokens=24).eval()
    sample = Sample(ROWS[:8], ROWS, {"late": "it is late", "lost": "it is lost"})
    sides = make_sides(sample, network, distilled(network), tmp_path, threads=1, alpha=0.02, delta=0.1)
    texts = [row["text"] for row in ROWS]
    for name, ask in sides.ask.items():
        assert seconds_of(name, ask, texts, one=False) > 0
    for folder in sides.bundles.values():
        source = tmp_path / "texts.json"
        source.write_text(json.dumps(texts), "utf-8")
        facts = serve_core._child("bundle", folder, 20, source)
        assert facts["texts"] == 20
        assert facts["after"] >= facts["loaded"] > 10**7
    assert operations(network, texts[:1]) == 2 * 2 * (4 * 32**2 + 2 * 32 * 64) * len(network.tokenize(texts[:1])[0])


def test_the_peak_is_that_of_a_machine() -> None:
    assert 1e8 < int8_peak(threads=1, seconds=0.05) < 1e14


HANDLER = """
import json, sys
print(json.dumps({"sides": ["one", "two"]}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["side"] == "two":
        sys.exit(1)
    print(json.dumps({"seconds": len(asked["texts"]) + asked["one"]}), flush=True)
"""


def test_a_worker_takes_turns_and_one_that_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handler.py").write_text(HANDLER, "utf-8")
    monkeypatch.setattr(worker, "HANDLER", tmp_path / "handler.py")
    monkeypatch.setattr(worker, "environment", lambda folder: Path(sys.executable))
    with worker.peers(tmp_path, tmp_path / "work", threads=1, max_tokens=8) as sides:
        assert list(sides) == ["one", "two"]
        assert sides["one"](["a", "b"], True) == 3
        with pytest.raises(worker.PeerError, match="ended"):
            sides["two"](["a"], False)


def test_an_environment_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **options: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(worker.PeerError, match="transformers<5"):
        worker.environment(tmp_path / "venv")
    assert not (tmp_path / "venv" / "ready").exists()


@pytest.fixture
def small_data(tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set under the name of the benches' own, and the tiny encoder under the name of the real one."""
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "snips"
    folder.mkdir(parents=True)
    names = ("late", "lost")
    rows = [
        {"text": f"{noun} {number} is {what}", "label": what}
        for number in range(40)
        for what, noun in zip(names, "ab", strict=True)
    ]
    for name, part in (("train", rows[:60]), ("test", rows[60:])):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in part), "utf-8")
    (folder / "labels.json").write_text(json.dumps({"late": "it is late", "lost": "it is lost"}), "utf-8")
    return tmp_path / "data"


def test_every_form_is_measured(small_data: Path, tmp_path: Path) -> None:
    cells = distill.measure(small_data, tmp_path / "results", version="1", quick=True, say=lambda line: None)
    assert tuple(cell["system"] for cell in cells.rows) == distill.ORDER
    assert all(0 <= cell["macro_f1"] <= 1 for cell in cells.rows)
    assert cells.rows[0]["flips"] == 0
    assert all(check["n"] == 1 for check in distill.outcome(cells)["checks"])


def test_contracts_are_met_or_refused(small_data: Path, tmp_path: Path) -> None:
    cells = contract.measure(small_data, tmp_path / "results", version="1", quick=True, say=lambda line: None)
    verdicts = {cell["system"]: (cell["met"], cell["right"]) for cell in cells.rows}
    assert verdicts["anything"] == (True, True)
    assert verdicts["a thousandth of the size"] == (False, True)
