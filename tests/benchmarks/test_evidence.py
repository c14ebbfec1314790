import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import evidence, smallrun
from benchmarks.bench import Options, measured
from benchmarks.cells import Cells
from benchmarks.claims import checks, covered, kept
from benchmarks.evidence import Material, evenly, other_rows, run_cell
from benchmarks.smallrun import shuffled
from refsynth.compress.ship import Calibrated
from refsynth.core.errors import InputError
from refsynth.core.intervals import wilson
from refsynth.core.types import Draft, Example
from refsynth.kinds import ONE_LABEL
from refsynth.learning.rows import Rows

LABELS = ("apple", "boat", "cloud")


class Telling:
    """An encoder that sees the label, a number modulo 3, through noise of its own for each text; TF-IDF sees nothing."""

    def __init__(self, noise: float) -> None:
        self._noise = noise

    def encode(self, texts):
        out = np.zeros((len(texts), 64))
        for row, text in enumerate(texts):
            out[row, int(text) % 3] = 1
            out[row] += self._noise * np.random.default_rng(int(text)).normal(size=64)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def rows_of(start, each):
    return [{"text": str(number), "label": LABELS[number % 3]} for number in range(start, start + 3 * each)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "toy"
    folder.mkdir()
    for file, rows in (("train", rows_of(10_000, 60)), ("test", rows_of(20_000, 40))):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "labels.json").write_text(json.dumps({label: f"about {label}" for label in LABELS}), "utf-8")
    monkeypatch.setattr(evidence, "SETS", ("toy",))
    return tmp_path


def material(data, *, noise, drafts=90):
    return Material("toy", data, rows_of(30_000, 60), Telling(noise), drafts, 90)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(3, 60))
def test_rows_are_taken_evenly(labels, most):
    rows = [{"text": str(place), "label": label} for place, label in enumerate(labels)]
    taken = evenly(rows, most, np.random.default_rng(0))
    counts = Counter(row["label"] for row in taken)
    assert set(counts) == set(labels)
    assert len(set(counts.values())) == 1
    assert len(taken) <= most
    assert len({row["text"] for row in taken}) == len(taken)
    assert min(counts.values()) == min(most // len(counts), min(Counter(labels).values()))


def test_drafts_are_other_rows_whose_prompts_showed_half_of_the_folds(data):
    rows = tuple(Example(f"row-{n}", row["text"], row["label"]) for n, row in enumerate(rows_of(30_000, 8)))
    held = Rows(rows, np.arange(len(rows)) % 4, "en", {}, ONE_LABEL, np.arange(len(rows)))
    drafts = other_rows(material(data, noise=1.0), held, seed=3)
    assert len(drafts) == 90
    assert not {draft.example.text for draft in drafts} & {row.text for row in rows}
    assert set(Counter(draft.example.label for draft in drafts).values()) == {30}
    folds = [frozenset(held.fold_of[row] for row in draft.example.provenance.shown) for draft in drafts]
    assert {len(each) for each in folds} == {2}
    assert len(set(folds)) == 6  # every half of four folds


def test_shuffled_drafts_keep_their_texts_and_deal_the_labels_out_anew():
    drafts = [Draft(Example(f"draft-{n}", f"text {n}", LABELS[n % 3])) for n in range(60)]
    dealt = shuffled(drafts, seed=0)
    assert [draft.example.text for draft in dealt] == [draft.example.text for draft in drafts]
    assert Counter(draft.example.label for draft in dealt) == Counter(draft.example.label for draft in drafts)
    same = sum(one.example.label == other.example.label for one, other in zip(drafts, dealt, strict=True))
    assert same < 40


def test_a_run_says_what_is_so_where_all_is_plain(data):
    cell = run_cell(material(data, noise=0.01), shots=8, seed=0)
    assert (cell["cv"], cell["accuracy"], cell["risk"], cell["rows"]) == (1.0, 1.0, 0.0, 90)
    assert covered(cell) and kept(cell)
    assert cell["shipped"] == "frozen"
    assert not any(one["taken"] for one in cell["drafts"].values())


@pytest.mark.slow
def test_useful_drafts_are_taken_and_shuffled_ones_are_not(data):
    drafts = run_cell(material(data, noise=0.5, drafts=150), shots=8, seed=0)["drafts"]
    assert set(drafts) == {"right, chosen", "right, all", "shuffled, chosen", "shuffled, all"}
    assert drafts["right, all"]["taken"] and drafts["right, all"]["test_gain"] > 0.05
    assert not drafts["shuffled, all"]["taken"] and drafts["shuffled, all"]["test_gain"] < -0.05


@pytest.mark.slow
def test_confidence_is_measured_at_the_temperature_that_the_run_found(data, monkeypatch):
    found = {}
    for temperature in (1.0, 5.0):
        monkeypatch.setattr(smallrun, "calibrate", lambda held, said, its=temperature: Calibrated(its, None))
        found[temperature] = run_cell(material(data, noise=0.6), shots=8, seed=0)
    assert found[1.0]["ece_after"] == found[1.0]["ece_before"] == found[5.0]["ece_before"]
    assert found[5.0]["ece_after"] != found[5.0]["ece_before"]
    assert found[5.0]["answered"] == 1.0  # without a threshold all rows are answered
    assert found[5.0]["risk"] == pytest.approx(1 - found[5.0]["accuracy"])


@pytest.mark.slow
def test_only_what_is_missing_is_measured(data, monkeypatch):
    monkeypatch.setattr(evidence, "load_encoder", lambda: Telling(0.5))
    said = []
    for seeds in (1, 1, 2):
        rows = measured(evidence, "evidence", Options(data, data, seeds, quick=True, say=said.append))["rows"]
    assert len(rows) == len(said) == 4
    assert {(one["shots"], one["seed"]) for one in rows} == {(8, 0), (32, 0), (8, 1), (32, 1)}
    monkeypatch.setattr("refsynth.__version__", "2")
    measured(evidence, "evidence", Options(data, data, 1, only=("toy",), quick=True, say=said.append))
    assert len(said) == 6


def test_a_set_of_another_bench_is_refused(data):
    with pytest.raises(InputError, match="banking77"):
        measured(evidence, "evidence", Options(data, data, only=("banking77",)))


def a_run(**changes):
    verdicts = {kind: {"taken": kind.startswith("right"), "gain": 0.0, "test_gain": 0.01} for kind in KINDS}
    plain = {"set": "toy", "shots": 8, "seed": 0, "quick": False, "cv": 0.8, "cv_low": 0.7, "cv_high": 0.9, "accuracy": 0.8}
    sure = {"ece_before": 0.2, "ece_after": 0.1, "answered": 0.5, "risk": 0.1, "risk_high": 0.2}
    return {**plain, **sure, "drafts": verdicts, **changes}


KINDS = ("right, chosen", "right, all", "shuffled, chosen", "shuffled, all")


def checks_of(rows, tmp_path):
    cells = Cells(tmp_path / "evidence.jsonl")
    cells.rows = rows
    return {check["name"]: check for check in checks(cells)}


def test_the_share_of_true_intervals_is_checked_from_both_sides(tmp_path):
    for missed, floor, ceiling in ((0, True, False), (3, True, True), (6, False, True)):
        rows = [a_run(accuracy=0.95 if place < missed else 0.8) for place in range(60)]
        found = checks_of(rows, tmp_path)
        above, below = (
            found["8 rows a class: interval holds the test accuracy"],
            found["8 rows a class: and is no wider than it need be"],
        )
        assert (above["ok"], below["ok"]) == (floor, ceiling)
        assert above["value"] == pytest.approx(100 * (60 - missed) / 60)
        assert (above["low"] / 100, above["high"] / 100) == pytest.approx(wilson((60 - missed) / 60, 60))


def test_a_risk_counts_as_kept_at_the_bound_and_in_silence():
    assert kept(a_run(risk=0.2)) and kept(a_run(risk=None))
    assert not kept(a_run(risk=0.201))


def test_useless_drafts_may_be_taken_once_in_twenty_runs(tmp_path):
    false = {kind: {"taken": True, "gain": 0.1, "test_gain": -0.1} for kind in KINDS}
    for taken, ok in ((1, True), (2, False)):
        found = checks_of([a_run(**({"drafts": false} if place < taken else {})) for place in range(20)], tmp_path)
        assert found["8 rows a class: taken, shuffled, all"]["ok"] is ok
        assert found["8 rows a class: taken, right, all"]["value"] == 100


def test_quick_runs_do_not_count_beside_others_and_sizes_are_apart(tmp_path):
    rows = [a_run(), a_run(shots=32, accuracy=0.95), a_run(quick=True, accuracy=0.95)]
    found = checks_of(rows, tmp_path)
    assert found["8 rows a class: interval holds the test accuracy"]["value"] == 100
    assert found["32 rows a class: interval holds the test accuracy"]["value"] == 0
    assert checks_of(rows[2:], tmp_path)["8 rows a class: interval holds the test accuracy"]["n"] == 1
