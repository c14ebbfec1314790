"""Test rows that are training rows too: found, named, and left out of the figure."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.config import RunConfig
from refsynth.core.files import read_json, read_jsonl
from refsynth.core.pair import join_pair
from refsynth.core.task import Task
from refsynth.core.types import Example, Metric
from refsynth.data.text import NEAR, normalize
from refsynth.evaluation.advice import advise
from refsynth.evaluation.headline import verdict
from refsynth.evaluation.leakage import shared_rows
from refsynth.evaluation.overlap import Overlap, SharedRow
from refsynth.evaluation.report import render_html, render_markdown
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.reports import example
from tests.support.runs import Told, make_task

PLAIN = {"synthesis": {"drafts": 0}, "learners": ["tfidf"]}
SETTLED = "Nothing stands out"


class Staged(Told):
    def __init__(self):
        super().__init__()
        self.stages = {}

    def stage(self, name, line):
        self.stages[name] = line


def put_into(path, places, rows):
    """Put rows into a file at places, counted from 1."""
    lines = path.read_text("utf-8").splitlines()
    for place, row in zip(places, rows, strict=True):
        lines.insert(place - 1, json.dumps(row))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def go(task, out, cache):
    watch = Staged()
    return run(task, out, store=ModelStore(cache), watch=watch), watch


def train_rows(texts):
    return [Example(f"row-{number}", text, "a") for number, text in enumerate(texts, 1)]


def test_the_same_text_is_found_whatever_its_case_and_white_space():
    train = train_rows(["Where is my parcel", "the lamp  broke", "the lamp broke"])
    found = shared_rows(["nothing like that", "WHERE is\tmy parcel", "the lamp broke"], train, language="en")
    assert [(one.place, one.train, one.same) for one in found] == [(1, "row-1", True), (2, "row-2", True)]


def test_near_duplicates_are_found_apart_from_the_same_texts():
    train = train_rows(["where is my parcel, it has not arrived", "the lamp broke on the first day"])
    found = shared_rows(["the lamp broke on the first day!", "my parcel is where"], train, language="en")
    assert [(one.place, one.train, one.same) for one in found] == [(0, "row-2", False)]
    assert NEAR <= found[0].alike < 1


def test_pairs_with_one_half_in_common_are_different():
    """Three hypotheses on one premise, as in sets for inference; the pair as a whole would be 0.8 alike."""
    premise = "a man in a green coat is waiting for the bus beside an old red telephone box in the rain"
    train = train_rows([join_pair(premise, "he is wet"), join_pair(premise, "he waits for a bus")])
    texts = [join_pair(premise, "it is sunny"), join_pair(premise, "he waits for a bus!"), join_pair(premise, "he is wet")]
    assert [(one.place, one.train, one.same) for one in shared_rows(texts, train, language="en")] == [
        (1, "row-2", False),
        (2, "row-1", True),
    ]


@given(st.lists(st.text(max_size=12), max_size=6), st.lists(st.text(max_size=12), max_size=6))
def test_what_is_the_same_is_what_normalizes_to_the_same(texts, train):
    found = shared_rows(texts, train_rows(train), language="en")
    known = {normalize(text) for text in train}
    assert [one.place for one in found if one.same] == [place for place, text in enumerate(texts) if normalize(text) in known]
    assert all(NEAR <= one.alike <= 1 for one in found)


def test_rows_in_train_and_test_are_named_and_left_out(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", **PLAIN)
    train = list(read_jsonl(task.train))
    twins = [row | {"text": row["text"].upper()} for row in (train[4], train[1])]
    put_into(task.test, (3, 9), twins)
    put_into(task.test, (12,), [train[7] | {"text": train[7]["text"] + "!"}])
    result, watch = go(task, tmp_path / "out", tiny_cache)
    report, test = result.report, result.evidence.test
    assert [(row.row, row.train) for row in report.overlap.same] == [(3, "row-5"), (9, "row-2")]
    assert [(row.row, row.train) for row in report.overlap.near] == [(12, "row-8")]
    assert (report.results.n, report.overlap.n, len(test.truth)) == (21, 23, 23)
    right = test.truth == test.predicted["shipped"]
    new = np.delete(right, [2, 8])
    assert report.results.shipped.accuracy.value == pytest.approx(new.mean())
    assert report.overlap.whole.value == pytest.approx(right.mean())
    assert report.overlap.apart.value == pytest.approx(np.delete(right, [2, 8, 11]).mean())
    assert report.classes.n == report.calibration.n == 21
    (beside,) = (system for system in report.results.systems if system.name == "the bundle, all 23 rows")
    assert beside.accuracy == report.overlap.whole and not beside.shipped
    figure = report.overlap.whole.percent()
    assert watch.stages["test"].startswith(
        f"test.jsonl: accuracy {figure}; 2 of 23 rows are also in train (rows 3, 9; in train rows 5, 2): without them "
    )
    assert "1 more is nearly the same as rows of train (row 12; in train row 8): without these too" in watch.stages["test"]
    assert f"on 21 new rows of test.jsonl ({100 * right.mean():.1f}%" in verdict(report)
    assert "on all 23, of which 2 are also in train)" in verdict(report)
    (file,) = (file for file in report.data.files if file.role == "test")
    assert (file.rows, file.used, [(one.reason, one.rows) for one in file.skipped]) == (23, 21, [("also in train", (3, 9))])


def test_all_such_rows_are_listed_in_a_file_which_goes_when_there_are_none(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", **PLAIN)
    untouched = task.test.read_text("utf-8")
    put_into(task.test, range(2, 14), list(read_jsonl(task.train)))
    result, _ = go(task, tmp_path / "out", tiny_cache)
    listed = tmp_path / "out" / "overlap.csv"
    rows = list(csv.DictReader(listed.read_text("utf-8").splitlines()))
    assert [(int(row["test_row"]), row["train_row"], row["kind"]) for row in rows] == [
        (place + 1, f"row-{place}", "same") for place in range(1, 13)
    ]
    tree = read_json(result.paths.json)
    assert [row["row"] for row in tree["overlap"]["same"]] == list(range(2, 14))
    assert not any(row["text"] in listed.read_text("utf-8") for row in read_jsonl(task.train))
    task.test.write_text(untouched, "utf-8")
    again, watch = go(task, tmp_path / "out", tiny_cache)
    assert again.report.overlap is None and not listed.exists()
    assert watch.stages["test"] == f"accuracy {again.report.results.shipped.accuracy.percent()}"


@pytest.mark.parametrize("learners", [["tfidf"], ["tfidf", "frozen"]])
def test_where_all_test_rows_are_in_train_nothing_new_was_measured(tmp_path, tiny_cache, learners):
    task = make_task(tmp_path / "data", **(PLAIN | {"learners": learners}))
    task = Task.of(task.config.changed([f"data={json.dumps({'train': str(task.train), 'test': str(task.train)})}"]))
    result, watch = go(task, tmp_path / "out", tiny_cache)
    report = result.report
    assert report.overlap.new is None and report.overlap.apart is None and len(report.overlap.same) == 12
    assert watch.stages["test"].endswith(
        "all 12 rows are also in train (rows 1, 2, 3 and 9 more; in train rows 1, 2, 3 and 9 more): "
        "nothing was measured on new rows"
    )
    assert report.results.source == report.classes.source == report.calibration.source == "cross-validation"
    assert "nothing was measured on new rows of train.jsonl: all 12 rows are also in train" in verdict(report)
    advice = advise(report)
    assert advice[0].startswith("Set aside a test file with rows that are not in train: in train.jsonl, all 12 rows are")
    assert sum("Set aside" in line for line in advice) == 1
    for document in (render_html(report), render_markdown(report)):
        assert SETTLED not in document
        assert "all 12 rows are also in train" in document


def test_without_rows_to_hold_out_nothing_is_measured_at_all(tmp_path, tiny_cache):
    task = make_task(tmp_path / "data", **PLAIN)
    lines = task.train.read_text("utf-8").splitlines()
    task.train.write_text(f"{lines[0]}\n{lines[6]}\n{lines[11]}\n", "utf-8")
    task.test.write_text(task.train.read_text("utf-8"), "utf-8")
    report = go(task, tmp_path / "out", tiny_cache)[0].report
    assert report.results is None and report.classes is None
    assert report.absent["results"] == "no new row in the test file and no held-out rows"
    assert (
        "nothing was measured on new rows of test.jsonl: all 3 rows are also in train, "
        f"where its accuracy is {report.overlap.whole.value:.1%} [43.9-100.0]."
    ) in verdict(report)
    assert SETTLED not in render_markdown(report)


def test_rows_of_words_with_labels_are_compared_without_their_marks(tmp_path, tiny_cache):
    rows = [
        f"[{name}](person) wrote to {place} on day {i}"
        for i, (name, place) in enumerate(
            [("Ann Lee", "Rome"), ("Bo", "Oslo"), ("Cy Day", "Bonn"), ("Di", "Kyiv"), ("Ed Roe", "Lima"), ("Flo", "Riga")]
        )
    ]
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), "utf-8")
    test.write_text(
        json.dumps({"text": "Bo wrote to [Oslo](person) on day 1"})
        + "\n"
        + json.dumps({"text": "[Gus](person) came back from a long journey"})
        + "\n",
        "utf-8",
    )
    tree = {
        "task": "tokens",
        "language": "en",
        "labels": {"person": "a person"},
        "synthesis": {"drafts": 0},
        "data": {"train": str(train), "test": str(test)},
        "learners": ["crf"],
        "gate": {"folds": 2},
    }
    report = go(Task.of(RunConfig.parse(tree)), tmp_path / "out", tiny_cache)[0].report
    assert [(row.row, row.train) for row in report.overlap.same] == [(1, "row-2")]
    assert report.results.n == 1


def metric(value, n):
    return Metric("accuracy", value, value - 0.1, min(1.0, value + 0.1), n)


def found(same, near, n, *, new=0.7, apart=0.6):
    rows = [SharedRow(row=place, train=f"row-{place + 10}", alike=1.0) for place in range(1, same + near + 1)]
    return Overlap(
        file="test.csv",
        n=n,
        same=tuple(rows[:same]),
        near=tuple(rows[same:]),
        whole=metric(0.8, n),
        new=None if same == n else metric(new, n - same),
        apart=None if same + near == n else metric(apart, n - same - near),
    )


def test_the_sentence_counts_and_names():
    assert found(1, 0, 9).line == (
        "accuracy 80.0 [70.0-90.0]; 1 of 9 rows is also in train (row 1; in train row 11): without them 70.0 [60.0-80.0]"
    )
    assert found(0, 4, 4).line == (
        "accuracy 80.0 [70.0-90.0]; all 4 rows are nearly the same as rows of train "
        "(rows 1, 2, 3 and 1 more; in train rows 11, 12, 13 and 1 more): nothing was measured on rows unlike those of train"
    )
    assert found(1, 0, 1).line.startswith(
        "accuracy 80.0 [70.0-90.0]; the only row is also in train (row 1; in train row 11): nothing"
    )
    more = replace(found(1, 0, 9), same=(SharedRow(row=2, train="more-3", alike=1.0),))
    assert "in train row more-3" in more.line


@pytest.mark.parametrize(("near", "said"), [(1, False), (2, True), (20, True)])
def test_a_reader_is_asked_to_look_at_near_duplicates_where_they_are_many(near, said):
    report = replace(example(), overlap=found(0, near, 20))
    looks = [line for line in advise(report) if line.startswith("Look at overlap.csv")]
    assert bool(looks) is said
    assert all(f"{near} of 20 rows of test.csv are nearly the same as one in train" in line for line in looks)
