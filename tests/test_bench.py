import json

import pytest

from refsynth.bench import fewshot
from refsynth.bench.cells import Cells, interval
from refsynth.bench.sets import read_sample
from refsynth.core.errors import InputError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    for file, n in (("train", 30), ("test", 40)):
        rows = [{"text": f"{label} {i}", "label": label} for i in range(n) for label in ("a", "b")]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "labels.json").write_text(json.dumps({"a": "first", "b": "second"}), "utf-8")
    return tmp_path


def test_a_sample_has_its_shots_and_the_same_test_rows_for_every_seed(data):
    samples = [read_sample(data, "toy", shots=8, seed=seed, test_rows=20) for seed in (0, 1, 0)]
    assert [row["label"] for row in samples[0].train].count("a") == 8
    assert samples[0].train != samples[1].train
    assert samples[0] == samples[2]
    assert samples[0].test == samples[1].test
    assert len(samples[0].test) == 20


def test_a_set_that_is_not_there_is_named(data):
    with pytest.raises(InputError, match="nothing"):
        read_sample(data, "nothing", shots=8, seed=0)


def test_a_bench_measures_only_what_is_missing(data, monkeypatch):
    calls = []

    def fake(sample, name, seed):
        calls.append((name, seed))
        return [{"system": system, "accuracy": 0.5 + seed / 10, "macro_f1": 0.5, "seconds": 1} for system in fewshot.SYSTEMS]

    monkeypatch.setattr(fewshot, "GROUPS", ((fake, fewshot.SYSTEMS, "refsynth"),))
    results = data / "cells.jsonl"
    for seeds in (1, 1, 2):
        cells = fewshot.measure(data, results, seeds=seeds, sets=["toy"], quick=False, say=lambda line: None)
    assert calls == [("toy", 0), ("toy", 1)]
    assert len(Cells(results).rows) == len(cells.rows) == 2 * len(fewshot.SYSTEMS)


def test_the_outcome_checks_the_floors(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    for seed in range(3):
        for system, accuracy in (("setfit", 0.70), ("real only", 0.75), ("shipped", 0.73)):
            cells.add({"set": "snips", "seed": seed, "system": system, "accuracy": accuracy})
    checks = {check["name"]: check for check in fewshot.outcome(cells)["checks"]}
    assert checks["shipped over setfit"]["value"] == pytest.approx(3.0)
    assert checks["shipped over setfit"]["ok"]
    assert checks["worst of shipped over real only"]["value"] == pytest.approx(-2.0)
    assert not checks["worst of shipped over real only"]["ok"]
    assert "| setfit | 70.0 [70.0-70.0] | 70.0 |" in fewshot.outcome(cells)["table"]


def test_the_interval_holds_the_mean():
    mean, low, high = interval([0.1, 0.4, 0.2, 0.3])
    assert mean == pytest.approx(0.25)
    assert low < mean < high
