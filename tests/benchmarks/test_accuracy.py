import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import active, crowds, drafting, fewshot, kinds, names, ours, peft, prompting, scale, trainer
from benchmarks.active import needed
from benchmarks.bench import BUILD, Options, measured
from benchmarks.cells import Cells
from benchmarks.figures import figure, interval, means, shown, spread, told
from benchmarks.loop import poison
from benchmarks.sets import Sample, read_sample
from benchmarks.suite import Group, Over, Suite
from refsynth.core.errors import InputError
from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.models.reference import EchoGenerator


def run(bench, data, name="toy", **options):
    """Run a bench, or what is like one, in a folder of its own."""
    given = vars(bench) if hasattr(bench, "__file__") else {key: getattr(bench, key) for key in ("cells", "table", "checks")}
    parts = SimpleNamespace(**({"BUDGET": 1, "TIMED": False} | given))
    return measured(parts, name, Options(data=data, results=data, **options))


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


def test_a_suite_measures_only_what_is_missing(data):
    calls = []

    def fake(sample, name, seed):
        calls.append((name, seed))
        return [{"system": "one", "accuracy": 0.5 + seed / 10, "macro_f1": 0.5, "seconds": 1}]

    suite = Suite(("toy",), groups=(Group(fake, ("one",)),), order=("one",), held=())
    for seeds in (1, 1, 2):
        found = run(suite, data, seeds=seeds)
    assert calls == [("toy", 0), ("toy", 1)]
    assert len(Cells(data / "toy.jsonl").rows) == len(found["rows"]) == 2
    run(suite, data, seeds=1, again=True)
    assert calls[2:] == [("toy", 0)]


def test_a_set_of_another_bench_is_refused(data):
    suite = Suite(("toy",), groups=(), order=("one",), held=())
    with pytest.raises(InputError, match=r"toys: not in this bench\n.*toy\n.*did you mean 'toy'"):
        run(suite, data, only=("toys",))


def test_what_was_measured_of_a_group_that_was_stopped_is_kept(data):
    def stopped(sample, name, seed):
        for system in ("one", "two"):
            if system == "two" and not Cells(data / "toy.jsonl").find(system="three"):
                raise KeyboardInterrupt
            yield {"system": system, "accuracy": 0.5, "macro_f1": 0.5, "seconds": 1}

    suite = Suite(("toy",), groups=(Group(stopped, ("one", "two")),), order=("one",), held=())
    with pytest.raises(KeyboardInterrupt):
        run(suite, data, seeds=1)
    assert [one["system"] for one in Cells(data / "toy.jsonl").rows] == ["one"]
    Cells(data / "toy.jsonl").add({"system": "three", "set": "toy", "seed": 0, "rows": 0, "accuracy": 0.1})
    assert [one["system"] for one in run(suite, data, seeds=1)["rows"]] == ["one", "three", "two"]


def test_votes_of_a_known_crowd_are_those_of_its_confusion(data):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 5000)
    confusion = crowds.CROWDS["annotators who confuse labels"](3, rng)
    votes = crowds.asked(truth, confusion, rng)
    assert (np.bincount(votes.items) == crowds.VOTES).all()
    assert len(set(zip(votes.items, votes.sources, strict=True))) == len(votes.items)
    for who in range(votes.j):
        for known in range(3):
            said = votes.classes[(votes.sources == who) & (truth[votes.items] == known)]
            np.testing.assert_allclose(np.bincount(said, minlength=3) / len(said), confusion[who, known], atol=0.08)


def test_the_bench_of_crowds_tells_what_was_recovered(data):
    said = run(replace(crowds.SUITE, sets=("toy",)), data, seeds=2)
    assert {one["name"] for one in said["checks"]} >= {"model over majority, rules", "error of accuracies, rules"}
    assert all(np.isfinite(one["value"]) for one in said["checks"])


def test_a_borrowed_system_is_read_from_its_own_suite(data):
    def fake(sample, name, seed):
        return [{"system": "one", "accuracy": 0.5, "macro_f1": 0.5, "seconds": 1}]

    Cells(data / "other.jsonl").add({"set": "toy", "seed": 0, "rows": 4, "system": "peer", "accuracy": 0.25})
    held = (Over("one over peer", "one", "peer", floor=0, aim=1),)
    suite = Suite(("toy",), groups=(Group(fake, ("one",)),), order=("peer", "one"), held=held, borrowed={"peer": "other"})
    assert run(suite, data, seeds=1)["checks"][0]["value"] == pytest.approx(25.0)
    assert len(Cells(data / "toy.jsonl").rows) == 1


def test_a_poisoned_journal_has_half_of_its_texts_under_another_prompt(tmp_path):
    answers = {str(place): [[f"{place}-{text}", True] for text in range(10)] for place in range(4)}
    write_jsonl(tmp_path / "honest.jsonl", [{"key": "k", "whole": True, "answers": answers}])
    poison(tmp_path / "honest.jsonl", tmp_path / "out.jsonl", seed=3)
    (record,) = read_jsonl(tmp_path / "out.jsonl")
    assert (record["key"], record["whole"]) == ("k", True)
    for place, row in record["answers"].items():
        strangers = [text for text, _ in row if text.split("-")[0] != place]
        assert len(strangers) == 5 and len(row) == 10
    texts = sorted(text for row in record["answers"].values() for text, _ in row)
    assert texts == sorted(text for row in answers.values() for text, _ in row)


def test_the_outcome_checks_the_floors(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    for seed in range(3):
        for system, accuracy in (("setfit", 0.70), ("real only", 0.75), ("shipped", 0.73)):
            cells.add({"set": "snips", "seed": seed, "rows": 700, "system": system, "accuracy": accuracy})
    cells.add({"set": "snips", "seed": 0, "rows": 200, "system": "shipped", "accuracy": 0.1})  # of --quick, in the same file
    checks = {check["name"]: check for check in fewshot.checks(cells)}
    assert checks["shipped over setfit"]["value"] == pytest.approx(3.0)
    assert checks["shipped over setfit"]["ok"]
    assert checks["worst of shipped over real only"]["value"] == pytest.approx(-2.0)
    assert not checks["worst of shipped over real only"]["ok"]
    assert "| setfit | 70.0 | 70.0 |" in fewshot.table(cells)


def test_a_difference_has_an_interval_over_sets_and_one_over_draws(tmp_path):
    """Paired: on each set the mean over draws, for each draw the mean over sets; not all pairs as if they were independent."""
    gaps = {"snips": (0.0, 0.1, 0.05), "bitext_support": (0.1, 0.2, 0.15), "ag_news_test": (-0.05, 0.05, 0.3)}
    cells = Cells(tmp_path / "cells.jsonl")
    for name, by_seed in gaps.items():
        for seed, gap in enumerate(by_seed):
            cells.add({"set": name, "seed": seed, "rows": 700, "system": "setfit", "accuracy": 0.5})
            cells.add({"set": name, "seed": seed, "rows": 700, "system": "shipped", "accuracy": 0.5 + gap})
    check, worst = fewshot.checks(cells)
    assert (check["value"], check["n"], check["over"]) == (pytest.approx(10.0), 3, "data sets")
    assert (check["low"], check["high"]) == pytest.approx(interval([5.0, 15.0, 10.0])[1:])
    by_seed = check["by_seed"]
    assert (by_seed["low"], by_seed["high"], by_seed["n"]) == pytest.approx((*interval([5 / 3, 35 / 3, 50 / 3])[1:], 3))
    assert spread(check) == ", 95% interval -2.421 to 22.42 over 3 data sets"
    assert spread(worst["by_seed"]) == ""
    cells.add({"set": "imdb_counterfactual", "seed": 0, "rows": 700, "system": "setfit", "accuracy": 0.5})
    cells.add({"set": "imdb_counterfactual", "seed": 0, "rows": 700, "system": "shipped", "accuracy": 0.5})
    assert fewshot.checks(cells)[0]["by_seed"]["n"] == 0  # draws of other sets cannot be compared


def test_a_check_is_shown_with_what_its_bounds_are_over():
    gaps = figure([1.0, 2.0, 3.0], "points", over="data sets") | {"by_seed": figure([1.0, 2.5, 2.5], "points", over="seeds")}
    check = {"name": "ours over theirs", **gaps, "floor": 0, "aim": 3, "ok": True}
    few = {"name": "size", "value": 2.0, "unit": "MB", "limit": 3, "ok": True}
    said = " ".join(f"{told(check)} {told(few)}".split())
    sets, seeds = "95% interval -0.4841 to 4.484 over 3 data sets", "95% interval -0.1513 to 4.151 over 3 seeds"
    assert f"ok ours over theirs: 2 points, {sets}, {seeds} (at least 0, aim 3)" in said
    assert "ok size: 2 MB (at most 3)" in said


def test_draws_of_one_set_count_once(tmp_path):
    assert means([("a", 1.0), ("b", 5.0), ("a", 3.0)]) == [2.0, 5.0]
    cells = Cells(tmp_path / "cells.jsonl")
    for name, labels in (("banking77", (50, 60, 70)), ("financial_phrasebank", (10, 20, 30))):
        for seed, needed_ in enumerate(labels):
            common = {"set": name, "seed": seed, "rows": 9, "version": "1", "accuracy": 0.5, "curve": [0.5], "batch": 1}
            cells.add({**common, "system": "random", "labels": 100})
            cells.add({**common, "system": "hybrid", "labels": needed_})
    (saved,) = (one for one in active.checks(cells) if one["name"] == "hybrid against random")
    assert (saved["value"], saved["n"], spread(saved)) == (pytest.approx(60.0), 2, "")


def test_one_value_stands_for_all_seeds_of_a_system_that_draws_nothing(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    cells.add({"set": "snips", "seed": 0, "rows": 700, "system": "reference, calibrated", "accuracy": 0.4})
    for seed, accuracy in enumerate((0.5, 0.7)):
        cells.add({"set": "snips", "seed": seed, "rows": 700, "system": "shipped", "accuracy": accuracy})
    check = names.checks(cells)[1]
    assert (check["value"], check["ok"]) == (pytest.approx(20.0), True)


def test_every_manner_of_prompting_gives_a_cell_for_each_calibration(data):
    class Letters:
        def encode(self, texts):
            return np.array([[text.count("a"), text.count("b"), 1.0] for text in texts])

    sample = read_sample(data, "toy", shots=3, seed=0, test_rows=5)
    cells = [
        one for manner in prompting.MANNERS for one in prompting.measured(sample, manner, EchoGenerator(), Letters(), seed=0)
    ]
    assert tuple(one["system"] for one in cells) == prompting.ORDER


def test_manners_of_prompting_are_measured_for_every_draw(data, monkeypatch):
    """Those too that show and search for nothing: batch and domain calibration read the rows."""
    drawn = []

    class Letters:
        def encode(self, texts):
            return np.array([[text.count("a"), text.count("b"), 1.0] for text in texts])

    def texts_of(kind, texts, *, seed):
        drawn.append((kind, tuple(texts), seed))
        return list(texts)

    monkeypatch.setattr(prompting.ModelStore, "path", lambda store, name: data / name)  # no model needs to be here
    monkeypatch.setattr(prompting, "FolderGenerator", lambda folder: EchoGenerator())
    monkeypatch.setattr(prompting, "TransformerEncoder", lambda folder: Letters())
    monkeypatch.setattr(prompting, "calibration_texts", texts_of)
    suite = replace(prompting.SUITE, sets=("toy",), groups=prompting.SUITE.groups[:1], shots=3, test_rows=4)
    found = run(suite, data, seeds=2)
    assert [one["seed"] for one in found["rows"] if one["system"] == "direct, batch"] == [0, 1]
    batches = [(texts, seed) for kind, texts, seed in drawn if kind == "batch"]
    assert [seed for _, seed in batches] == [0, 1]
    assert batches[0][0] != batches[1][0]
    asked = len(drawn)
    run(suite, data, seeds=2)
    assert len(drawn) == asked  # what is there is not measured again


def test_growth_is_told_as_a_line(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    for drafts in (600, 250, 4000):
        cells.add({"set": "bitext_support", "drafts": drafts, "rows": 216, "seconds": 100 + drafts / 10, "gigabytes": 1.5})
    assert "100 s and 100 s per 1,000 drafts; no point is further than 0%" in scale.table(cells)
    assert [check["ok"] for check in scale.checks(cells)] == [False, True, False, True]  # what is not measured is not met


def test_an_interval_is_that_of_student():
    """Of the ten differences of Student (1908, table of sleep): 1.58 with a 95% interval from 0.70 to 2.46."""
    slept = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert interval(slept) == pytest.approx((1.58, 0.70, 2.46), abs=0.005)
    assert shown(slept) == "1.6 [0.7-2.5]"


def test_two_values_have_no_interval_and_a_median_has_the_range():
    assert shown([80.0, 82.0]) == "81.0"
    assert np.isnan(interval([80.0, 82.0])[1:]).all()
    assert shown([80.1, 80.1, 80.1]) == "80.1"  # what draws nothing, measured three times
    assert interval([3.0, 1.0, 2.0], statistic=np.median) == (2.0, 1.0, 3.0)
    assert interval([3.0, 1.0, 2.0], statistic=np.min) == (1.0, 1.0, 3.0)
    assert np.isnan(interval([3.0], statistic=np.median)[1:]).all()
    assert spread(figure([3.0, 1.0, 2.0], "x", over="repeats", statistic=np.median)) == ", range 1 to 3 over 3 repeats"
    nothing = figure([], "points", over="sets")
    assert (nothing["n"], nothing["value"] >= 0, np.isnan(nothing["low"])) == (0, False, True)


def test_both_sides_draft_from_the_same_prompts_in_turn(data, monkeypatch):
    asked = []

    class Side(EchoGenerator):
        def __init__(self, name):
            self.side = name

        def generate(self, prompts, *, n, seed):
            asked.append((self.side, [prompt.text for prompt in prompts], n, seed))
            return super().generate(prompts, n=n, seed=seed)

    monkeypatch.setattr(drafting, "SETS", ("toy",))
    monkeypatch.setattr(drafting, "_sides", lambda: {name: Side(name) for name in (drafting.OURS, drafting.THEIRS)})
    rows = run(drafting, data, quick=True)["rows"]
    assert len(rows) == 2 * drafting.REPEATS == len(asked)
    assert all(one[1:] == other[1:] for one, other in zip(asked[::2], asked[1::2], strict=True))
    assert [side for side, *_ in asked[:4]] == [drafting.THEIRS, drafting.OURS, drafting.OURS, drafting.THEIRS]
    assert all(0 < cell["accepted"] <= cell["asked"] for cell in rows)
    assert len(run(drafting, data, quick=True)["rows"]) == len(rows)
    assert len(asked) == len(rows)  # nothing was measured again


def test_the_drafting_ratio_is_the_median_over_repeats(tmp_path):
    cells = Cells(tmp_path / "cells.jsonl")
    for seed, rate in enumerate((8.0, 6.0, 40.0)):
        for system, value in ((drafting.OURS, rate), (drafting.THEIRS, 2.0)):
            common = {"asked": 64, "accepted": 32, "seconds": 32 / value, "cpu_seconds": 8 / value**2}
            cells.add({"set": "snips", "seed": seed, "system": system, "rate": value, **common})
    (check,) = drafting.checks(cells)
    assert (check["value"], check["low"], check["high"], check["n"], check["ok"]) == (4.0, 3.0, 20.0, 3, True)
    assert "| 4.00 [3.00-20.00] | 16.00 [9.00-400.00] |" in drafting.table(cells)
    assert not drafting.checks(Cells(tmp_path / "none.jsonl"))[0]["ok"]


def test_labels_needed_are_read_off_the_curve():
    assert needed([0.5, 0.6, 0.8], 10, 0.7) == pytest.approx(25)
    assert needed([0.8, 0.6], 10, 0.7) == 10
    assert needed([0.5, 0.6], 10, 0.7) is None


def test_strategies_are_held_against_random_labels(data, monkeypatch):
    def features(texts):
        rng = np.random.default_rng(0)
        centre = np.array([[1.0, 0.0] if text.startswith("a") else [0.0, 1.0] for text in texts])
        return centre + rng.normal(0, 0.3, centre.shape)

    monkeypatch.setattr(active, "_embeddings", features)
    monkeypatch.setattr(active, "ROUNDS", 3)
    suite = replace(active.SUITE, sets=("toy",))
    run(suite, data, seeds=1)
    cells = Cells(data / "toy.jsonl")
    assert {cell["system"] for cell in cells.rows} == {active.WHOLE, *active.STRATEGIES}
    assert all(len(cell["curve"]) == 3 for cell in cells.find(batch=10))
    checks = {check["name"]: check for check in suite.checks(cells)}
    assert checks["badge against random"]["n"] == 1
    for cell in cells.rows:
        cell["labels"] = 20.0 if cell["system"] == "random" else 10.0
    assert active.saved(cells, "badge") == [("toy", pytest.approx(50))]


def test_the_trainers_ratios_are_taken_within_a_repeat(tmp_path):
    cells = Cells(tmp_path / "trainer.jsonl")
    for seed, (mine, theirs) in enumerate([(10, 30), (20, 50), (5, 5)]):
        for system, seconds in ((trainer.OURS, mine), (trainer.THEIRS, theirs), (trainer.LARGER, theirs)):
            key = {"set": "snips", "seed": seed, "shots": 12, "version": "1", "system": system}
            cells.add({**key, "seconds": seconds, "cpu_seconds": seconds, "accuracy": 0.8 if system == trainer.OURS else 0.79})
    speed, accuracy = trainer.checks(cells)
    assert speed["value"] == pytest.approx(2.5) and speed["ok"]
    assert accuracy["value"] == pytest.approx(1.0) and accuracy["n"] == 3
    assert not trainer.checks(Cells(tmp_path / "none.jsonl"))[0]["ok"]


def test_the_bench_of_methods_shows_what_each_costs(tmp_path):
    cells = Cells(tmp_path / "peft.jsonl")
    cost = {"trainable": 1000, "steps": 10, "peak_gib": 0.5, "adapter_kb": 4.0}
    for system, points, share, step in (("finetune", 0.9, 1.0, 7.5), ("lora", 0.88, 0.03, 5.0)):
        key = {"set": "snips", "seed": 0, "rows": 700, "system": system}
        cells.add({**key, "accuracy": points, "share": share, "step_ms": step, **cost})
    for seed in (0, 1):  # of --quick
        cells.add({**key, "seed": seed, "rows": 200, "accuracy": 0.1, "share": 0.9, "step_ms": 1.0, **cost})
    gap, moved, faster = peft.checks(cells)
    assert faster["value"] == pytest.approx(1.5) and faster["ok"]
    assert gap["value"] == pytest.approx(-2.0) and not gap["ok"]
    assert moved["value"] == pytest.approx(3.0) and not moved["ok"]
    assert "| lora | 1,000 | 3.00 | 5 | 10 | 0.50 | 4 |" in peft.table(cells)


def kind_cell(system, seed, score, name="nlupp_banking"):
    return {
        "set": name,
        "train": 500,
        "seed": seed,
        "system": system,
        "score": score,
        "figures": {"F1 per row": score},
        "seconds": 1,
    }


def test_the_kinds_of_task_are_checked_by_set_and_size(tmp_path):
    cells = Cells(tmp_path / "kinds.jsonl")
    for seed, (plain, tuned, shipped) in enumerate([(0.3, 0.6, 0.7), (0.4, 0.7, 0.72)]):
        cells.add(kind_cell("tfidf", seed, plain))
        cells.add(kind_cell("finetune", seed, tuned))
        cells.add(kind_cell("shipped", seed, shipped) | {"shipped": "frozen+drafts"})
    assert {check["name"]: (round(check["value"], 6), check["ok"]) for check in kinds.checks(cells)} == {
        "shipped over tfidf, nlupp_banking, 500 rows": (36.0, True),
        "shipped over finetune, nlupp_banking, 500 rows": (6.0, True),
    }
    assert "| nlupp_banking | 500 | shipped | F1 per row 71.0" in kinds.table(cells)


def test_the_kinds_of_task_draw_rows_by_seed(tmp_path):
    folder = tmp_path / "nlupp_banking"
    folder.mkdir()
    rows = [{"text": f"t{i}", "label": ["a"] if i % 2 else [], "other": 1} for i in range(20)]
    for file in ("train", "test"):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "labels.json").write_text(json.dumps({"a": "first", "b": "second"}), "utf-8")
    samples = [kinds.draw(tmp_path, "nlupp_banking", 8, seed=seed, test_rows=5) for seed in (0, 1, 0)]
    assert samples[0] == samples[2] != samples[1]
    assert samples[0].test == samples[1].test
    assert (len(samples[0].train), len(samples[0].test)) == (8, 5)
    assert len(kinds.draw(tmp_path, "nlupp_banking", 0, seed=0, test_rows=5).train) == 20
    examples = kinds._examples(samples[0].train, "multilabel", ["a", "b"])
    assert {row.label for row in examples} == {"a", "(none)"}
    with pytest.raises(InputError, match="not in this bench"):
        run(kinds, tmp_path, only=("x",))


def test_times_of_another_machine_are_not_gone_on_with(tmp_path):
    path = tmp_path / "cells.jsonl"
    Cells(path).add({"set": "one", "machine": "here"})
    Cells(path).add({"set": "two", "machine": "there"})
    assert [row["set"] for row in Cells(path, machine="here").rows] == ["one"]
    assert len(Cells(path).rows) == 2


def test_a_stopped_run_of_a_bench_goes_on_unless_the_code_is_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = Sample(
        [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], [{"text": "c", "label": "x"}], {"x": "x", "y": "y"}
    )
    begun = []

    def stopped(task, out):
        begun.append((out / "mark").exists())
        (out / "mark").touch()
        (out / "events.jsonl").write_text('{"event": "step", "name": "fit", "seconds": 2.5}\n{"event": "note"}\n')
        if len(begun) < 4:
            raise KeyboardInterrupt
        return SimpleNamespace(evidence="done")

    monkeypatch.setattr(ours, "run", stopped)
    for code in ("old", "old", "new"):
        monkeypatch.setattr(ours, "_code", lambda code=code: code)
        with pytest.raises(KeyboardInterrupt):
            ours.run_ours(sample, "set", 0)
    assert begun == [False, True, False]
    assert ours.run_ours(sample, "set", 0) == ("done", 2.5, True, {})
    assert not (tmp_path / BUILD / "set-0").exists()
