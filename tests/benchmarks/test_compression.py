"""The benches of compression: checks follow from the cells, ratios are taken within a repeat, nothing measured is nothing met."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refsynth
from benchmarks import cascade, contract, distill, peer_env, serve_core
from benchmarks.bench import Options, measured
from benchmarks.cells import Cells
from benchmarks.engine import worker
from benchmarks.engine.roofline import int8_peak, operations
from benchmarks.engine.sides import CASCADE, FUSED, LONGEST, OURS, PADDED, STATIC, TORCH, make_sides
from benchmarks.engine.speeds import in_turn, timing
from benchmarks.sets import Sample
from refsynth.compress.static import distilled
from refsynth.core.machine import describe_machine
from refsynth.models.network import TransformerEncoder

ROWS = [
    {"text": f"{noun} {number} is {what}", "label": what}
    for number in range(6)
    for what, noun in (("late", "it"), ("lost", "one"))
]


HERE = {"version": refsynth.__version__, "quick": False, "machine": describe_machine()}


def speed_cells(folder: Path, **changed: float) -> Cells:
    cells = Cells(folder / "serve-core.jsonl")
    seconds = {
        TORCH: 4.0,
        FUSED: 2.0,
        OURS: 1.0,
        STATIC: 0.02,
        CASCADE: 0.2,
        PADDED: 5.0,
        LONGEST: 2.0,
        "model2vec": 0.02,
        "TF-IDF + LR": 0.01,
    }
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
    cells = speed_cells(tmp_path, **changed)
    assert {check["name"] for check in serve_core.checks(cells) if not check["ok"]} == missed
    table = serve_core.table(cells)
    assert "int8 1 of 4 G operations/s (25%)" in table
    assert f"| {TORCH} | 8.00 | 100 | 100 | 100 |" in table


def test_nothing_measured_is_nothing_met(tmp_path: Path) -> None:
    for module in (serve_core, distill, contract):
        checks = module.checks(Cells(tmp_path / "none.jsonl"))
        assert checks
        assert not any(check["ok"] for check in checks)


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    before = speed_cells(tmp_path).rows
    again = measured(serve_core, "serve-core", Options(tmp_path, tmp_path, say=pytest.fail))
    assert again["rows"] == before


def test_what_a_form_keeps_is_of_its_own_teacher(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "distill.jsonl")
    for shots, teacher in ((64, 0.8), (10**6, 0.9)):
        for system in distill.ORDER:
            f1 = teacher if system == distill.TEACHER else teacher - (0.1 if system == distill.STATIC else 0.004)
            figures = {"macro_f1": f1, "flips": 0.01, "megabytes": None}
            cells.add({"set": "one", "shots": shots, "version": "1", "rows": shots, "system": system, **figures})
    checks = {check["name"]: check for check in distill.checks(cells)}
    assert checks["P1: macro-F1 lost by int8"]["value"] == pytest.approx(0.4)
    static = checks["P4: macro-F1 kept by the static student"]
    assert static["value"] == pytest.approx((700 / 8 + 800 / 9) / 2)
    assert not static["ok"]
    assert checks["macro-F1 kept by half of the layers"]["ok"]


def test_where_all_rows_are_labeled_a_tenth_becomes_the_pool(tmp_path: Path) -> None:
    labels = {"late": "", "lost": ""}
    (tmp_path / "one").mkdir()
    for file in ("train", "test"):
        (tmp_path / "one" / f"{file}.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), "utf-8")
    (tmp_path / "one" / "labels.json").write_text(json.dumps(labels), "utf-8")
    some, rest = distill.parted(Sample(ROWS[:4], [], labels), tmp_path, "one", 3)
    assert len(some.train) == 4
    assert len(rest) == 3
    assert not {row["text"] for row in some.train} & set(rest)
    most, pool = distill.parted(Sample([*ROWS], [], labels), tmp_path, "one", 100)
    assert (len(most.train), len(pool)) == (11, 1)


def test_a_contract_that_is_misjudged_is_missed(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "contract.jsonl")
    for right in (True, False):
        asked = {"p50_ms": 2.0, "size_mb": None, "keep": None}
        cells.add({"system": f"it {right}", "met": True, "asked": asked, "shipped": "half: p50 1.00 ms, 8.0 MB", "right": right})
    (check,) = contract.checks(cells)
    assert (check["value"], check["ok"], check["n"]) == (50.0, False, 2)


def test_a_certificate_that_breaks_too_often_is_missed_and_so_is_one_that_is_not_there(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "cascade.jsonl")
    common = {"shots": 16, "calibrations": 200, "tiers": "a cascade", "test": {"share": 0.5, "otherwise": 0.01}}
    cells.add({"set": "one", **common, "certificate": {"share": 0.5}, "broken": 20, "shifted": {"void": True}})
    assert [check["ok"] for check in cascade.checks(cells)] == [True, True]
    cells.add({"set": "two", **common, "certificate": {"share": 0.5}, "broken": 30, "shifted": {"void": False}})
    assert [(check["value"], check["ok"]) for check in cascade.checks(cells)] == [(15, False), (0, False)]
    none = Cells(tmp_path / "none.jsonl")
    none.add({"set": "one", "shots": 16, "tiers": "alone", "certificate": None, "calibrations": 0, "broken": 0})
    assert not any(check["ok"] for check in cascade.checks(none))
    assert "| one | 16 | alone | 0 of 0 |  |  | no |" in cascade.table(none)


def test_ten_contracts_from_easy_to_impossible() -> None:
    assert len(contract.WISHES) == 10
    assert {wish.can for wish in contract.WISHES} == {True, False, None}


@pytest.mark.slow
def test_all_sides_in_this_process_answer(tiny_folder: Path, tmp_path: Path) -> None:
    network = TransformerEncoder(tiny_folder, max_tokens=24).eval()
    sample = Sample(ROWS[:8], ROWS, {"late": "it is late", "lost": "it is lost"})
    sides = make_sides(sample, network, distilled(network), tmp_path, threads=1, alpha=0.02, delta=0.1)
    texts = [row["text"] for row in ROWS]
    found = in_turn({name: timing(ask) for name, ask in sides.ask.items()}, texts, alone=2, repeats=1)
    assert all(len(one["seconds"]) == len(one["alone"]) == 1 for one in found.values())
    for folder in sides.bundles.values():
        source = tmp_path / "texts.json"
        source.write_text(json.dumps(texts), "utf-8")
        facts = serve_core._child("bundle", folder, 20, source)
        assert facts["texts"] == 20
        assert facts["after"] >= facts["loaded"] > 10**7
    assert operations(network, texts[:1]) == 2 * 2 * (4 * 32**2 + 2 * 32 * 64) * len(network.tokenize(texts[:1])[0])


def test_the_peak_is_that_of_a_machine() -> None:
    assert np.isfinite(int8_peak(threads=1, seconds=0.01))


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
    monkeypatch.setattr(worker, "environment", lambda folder, packages, on_ours: Path(sys.executable))
    with worker.peers(tmp_path, tmp_path / "work", threads=1, max_tokens=8) as sides:
        assert list(sides) == ["one", "two"]
        assert sides["one"](["a", "b"], True) == 3
        with pytest.raises(peer_env.PeerError, match="ended"):
            sides["two"](["a"], False)


def test_an_environment_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str], **options: object) -> None:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(peer_env.PeerError, match="litserve"):
        peer_env.environment(tmp_path / "venv", ("litserve",))
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


@pytest.mark.slow
def test_every_form_is_measured(small_data: Path, tmp_path: Path) -> None:
    found = measured(distill, "distill", Options(small_data, tmp_path / "results", quick=True))
    assert tuple(cell["system"] for cell in found["rows"]) == distill.ORDER
    assert all(0 <= cell["macro_f1"] <= 1 for cell in found["rows"])
    assert found["rows"][0]["flips"] == 0
    assert all(check["n"] == 1 for check in found["checks"])


@pytest.mark.slow
def test_contracts_are_met_or_refused(small_data: Path, tmp_path: Path) -> None:
    rows = measured(contract, "contract", Options(small_data, tmp_path / "results", quick=True))["rows"]
    verdicts = {cell["system"]: (cell["met"], cell["right"]) for cell in rows}
    assert verdicts["anything"] == (True, True)
    assert verdicts["a thousandth of the size"] == (False, True)
