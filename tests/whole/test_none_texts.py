"""Texts that none of the labels fits (`data.none`): read like rows, no rows of a label, learned from, measured when held out."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import polars
import pytest
import xlsxwriter
from pydantic import ValidationError
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from typer.testing import CliRunner

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.none import ANOTHER_FORM, none_sentence
from refsynth.bundle.rules import NoneFacts, NoneRule, OutsideFigures
from refsynth.cli.app import app
from refsynth.cli.guards import DatabaseRecorder
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, DataError
from refsynth.core.files import read_jsonl
from refsynth.core.observe import Silent
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.evaluation.report import render_html, render_markdown
from refsynth.evaluation.strange import bar_of, strange_of
from refsynth.labels.next import STRANGE, ask_next
from refsynth.learning.candidates import Candidate
from refsynth.learning.gate import Decision
from refsynth.learning.held import HeldOutside
from refsynth.learning.outside import NOTHING, Outside, read_outside
from refsynth.learning.pool import read_pool
from refsynth.learning.rows import read_rows
from refsynth.learning.selftrain import UnlabeledText
from refsynth.models.nearness import AGAINST, against, near_of
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.store import ModelStore
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.pipeline.bundles import _strange
from refsynth.pipeline.flow import run
from refsynth.pipeline.reopen import reopened
from refsynth.service.http.engine import LoadedBundle
from refsynth.service.http.interfaces import Guards
from refsynth.service.http.metrics import Metrics
from refsynth.service.monitor.record import PredictionRecord
from refsynth.synthesis.selection.filter import NO_LABEL, screen
from tests.support.asking import metrics_of
from tests.support.held import held_of
from tests.support.runs import make_task, write_rows
from tests.support.serving import eventually, running

PLAIN, FROZEN = Candidate("tfidf", False), Candidate("frozen", False)
AWAY = (
    "I am out of the office until Monday",
    "Automatic reply: nobody reads this week",
    "The mailbox is full",
    "I left the company",
)
LATE = "number 10 parcel late courier waiting week"
LABELS = {"late": "the parcel is late", "broken": "the thing is broken"}


def none_task(folder, none, *, rows=6, **changes):
    """Return the usual task with texts of none of the labels, as a list or as a file in the folder."""
    task = make_task(folder, **{"synthesis": {"drafts": 0}, "learners": ["tfidf"]} | changes)
    write_rows(folder / "train.jsonl", rows, 1)
    data = task.config.data.model_dump(mode="json") | {"none": str(folder / none) if isinstance(none, str) else list(none)}
    return Task.of(RunConfig.parse(task.config.model_dump(mode="json") | {"data": data}))


def read(task, folder, *, skip_bad=False):
    return read_outside(task, read_rows(task, RunFolder(folder), skip_bad=False), RunFolder(folder), skip_bad=skip_bad)


# Reading


def csv_file(path):
    path.write_text("id,text,label\n1,Out of office,\n2,,\n3,Away,x\n4,out of  OFFICE,\n", "utf-8")


def tsv_file(path):
    path.write_text("text\tnote\nOut of office\t1\n\t2\nAway\t3\nOut of office\t4\n", "utf-8")


def jsonl_file(path):
    path.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("Out of office", " ", "Away", "Out of office")), "utf-8"
    )


def text_file(path):
    path.write_text("Out of office\n\u200b\nAway\nOut of office\n", "utf-8")


def parquet_file(path):
    polars.DataFrame({"text": ["Out of office", None, "Away", "Out of office"]}).write_parquet(path)


def excel_file(path):
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet().write_column(0, 0, ["text", "Out of office", " ", "Away", "Out of office"])


FILES = {"n.csv": csv_file, "n.tsv": tsv_file, "n.jsonl": jsonl_file, "n.txt": text_file, "n.parquet": parquet_file,
         "n.xlsx": excel_file}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_any_file_of_texts_is_read_and_what_is_left_out_is_counted(tmp_path, name):
    task = none_task(tmp_path / "data", name)
    FILES[name](tmp_path / "data" / name)
    found = read(task, tmp_path / "run")
    assert [text.casefold() for text in found.texts] == ["out of office", "away"]
    assert found.notes == (
        f"{name}: 1 row dropped: empty text (row 2)",
        f"{name}: 1 row dropped: duplicate (row 4)",
    )


def test_a_list_is_read_as_a_file_is(tmp_path):
    found = read(none_task(tmp_path / "data", ["Out of office", "", "Away", "out of office "]), tmp_path / "run")
    assert found.texts == ("Out of office", "Away") and "data.none: 1 row dropped: duplicate (row 4)" in found.notes


def test_the_text_is_where_the_task_has_it_or_where_it_usually_is(tmp_path):
    for column in ("message", "text"):
        (tmp_path / f"{column}.csv").write_text(f"{column},n\nAway,1\n", "utf-8")
        task = none_task(tmp_path / "data", str(tmp_path / f"{column}.csv"))
        data = task.config.data.model_copy(update={"columns": task.config.data.columns.model_copy(update={"text": "message"})})
        task = replace(task, config=task.config.model_copy(update={"data": data}))
        rows = read_rows(none_task(tmp_path / "data", ["x"]), RunFolder(tmp_path / "run"), skip_bad=False)
        assert read_outside(task, rows, RunFolder(tmp_path / "run"), skip_bad=False).texts == ("Away",)


BAD = {
    "no text at all": ("n.csv", "text\n", "no rows"),
    "nothing but empty texts": ("n.csv", "text,n\n,1\n ,2\n", "no text to learn from: 2 rows dropped"),
    "an empty file": ("n.txt", "", "is empty"),
    "no such column": ("n.csv", "body,n\na,1\n", r"no column 'text'(.|\n)*data\.columns\.text"),
    "one column, of another name": ("n.csv", "body\na\n", r"data\.columns\.text(.|\n)*data\.delimiter"),
    "no string": ("n.jsonl", '{"text": "a"}\n{"text": 5}\n', "row 2"),
    "no JSON": ("n.jsonl", '{"text": "a"}\n{"text": \n', "row 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(tmp_path, what):
    name, content, said = BAD[what]
    task = none_task(tmp_path / "data", name)
    (tmp_path / "data" / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=said) as caught:
        read(task, tmp_path / "run")
    assert name in str(caught.value)


def test_a_bad_row_can_be_left_out_as_those_of_training_can(tmp_path):
    task = none_task(tmp_path / "data", "n.jsonl")
    (tmp_path / "data" / "n.jsonl").write_text('{"text": "a"}\n{"text": 5}\n', "utf-8")
    found = read(task, tmp_path / "run", skip_bad=True)
    assert found.texts == ("a",) and found.notes == ("n.jsonl: 1 row dropped: malformed (row 2)",)


def test_a_file_that_is_not_there_ends_the_run_before_it_begins(tmp_path, tiny_cache):
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file(.|\n)*data\.none"):
        run(none_task(tmp_path / "data", "nowhere.csv"), tmp_path / "run", store=ModelStore(tiny_cache))


@pytest.mark.parametrize(
    ("none", "said"),
    [
        (3, "found 3"),
        ({"a": 1}, "a list of texts"),
        (["a", 5], "entry 2 is 5"),
        ([True], "entry 1 is True"),
        (True, "found True"),
    ],
)
def test_what_is_neither_a_file_nor_texts_is_refused(none, said):
    with pytest.raises(ConfigError, match=rf"data\.none: .*{said}"):
        RunConfig.parse({"labels": LABELS, "data": {"train": "t.csv", "none": none}})


@pytest.mark.parametrize("kind", ["pairs", "multilabel", "tokens"])
def test_it_is_for_tasks_of_one_label(kind):
    with pytest.raises(ConfigError, match=r"data\.none is for task: classify"):
        RunConfig.parse({"task": kind, "labels": LABELS, "data": {"train": "t.csv", "none": ["x"]}})


def test_a_path_is_read_from_the_folder_of_the_task_and_texts_are_not_moved(tmp_path):
    for none, expected in (("n.csv", tmp_path / "n.csv"), (["n.csv"], ("n.csv",))):
        (tmp_path / "task.yaml").write_text(json.dumps({"labels": LABELS, "data": {"train": "t.csv", "none": none}}), "utf-8")
        assert RunConfig.load(tmp_path / "task.yaml").data.none == expected


@pytest.mark.parametrize(
    ("row", "there"), [("text,label\na text,late\nanother,broken\n", True), ("text,label\na b,x|y\nc d,x\ne f,y|x\n", False)]
)
def test_the_task_file_that_init_writes_tells_of_them_where_they_can_be(tmp_path, row, there):
    (tmp_path / "t.csv").write_text(row, "utf-8")
    options = [] if there else ["--separator", "|"]
    made = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(tmp_path / "t.csv"), *options])
    assert made.exit_code == 0, made.output
    assert ("# none: FILE" in (tmp_path / "task" / "task.yaml").read_text("utf-8")) is there


# No row of a label


@pytest.mark.parametrize("form", ["list", "file", "other case", "later rows"])
def test_a_text_that_has_a_label_too_is_refused_with_both_rows(tmp_path, form):
    (tmp_path / "data").mkdir()
    task = none_task(tmp_path / "data", "n.csv" if form == "file" else ["Away", "x"])
    row = json.loads((tmp_path / "data" / "train.jsonl").read_text("utf-8").splitlines()[2])
    text, place = row["text"].upper() if form == "other case" else row["text"], ("row 3", "train.jsonl")
    if form == "later rows":
        text, place = "cracked, it was", ("row 1", "more.jsonl")
        (tmp_path / "data" / "more.jsonl").write_text(json.dumps({"text": text, "label": "broken"}) + "\n", "utf-8")
    (tmp_path / "data" / "n.csv").write_text(f"text\nAway\n{text}\n", "utf-8")
    none = tmp_path / "data" / "n.csv" if form == "file" else ("Away", text)
    data = task.config.data.model_copy(update={"none": none, "more": tmp_path / "data" / "more.jsonl"})
    with pytest.raises(DataError, match=r"row 2 has the text of row") as caught:
        read(Task.of(task.config.model_copy(update={"data": data})), tmp_path / "run")
    assert all(part in str(caught.value) for part in place)
    assert text.casefold() not in str(caught.value).casefold()


def test_neither_a_text_of_the_pool_nor_a_draft_becomes_a_row_of_a_label(tmp_path):
    (tmp_path / "pool.txt").write_text("Away\nsomething new\nAWAY \n", "utf-8")
    task = make_task(tmp_path / "data")
    data = task.config.data.model_copy(update={"pool": tmp_path / "pool.txt"})
    task, outside = Task.of(task.config.model_copy(update={"data": data})), Outside(("away",), (0,))
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(task, folder, skip_bad=False)
    assert read_pool(task, rows, folder, outside).texts == (UnlabeledText("pool-2", "something new"),)
    assert len(read_pool(task, rows, folder).texts) == 2
    drafts = [Example("d1", "I am away, dear people", "late"), Example("d2", "my parcel is very late again", "late")]
    known = Outside(("i am AWAY, dear people",), (0,)).known
    assert [draft.dropped for draft in screen(drafts, [], longest=50, none=known)] == [NO_LABEL, None]


def test_near_copies_are_held_out_together_and_every_text_once():
    texts = tuple(f"I am out of the office until day {n} of this month, and read nothing before" for n in range(6))
    outside = Outside((*texts, *AWAY), (*[0] * 6, 1, 2, 3, 4))
    folds = np.array([[0, 1, 2, 3] * 3, [5, 6, 7, 8] * 3])
    dealt = outside.dealt(folds, seed=0)
    assert dealt.shape == (2, 10) and set(dealt[0]) <= {0, 1, 2, 3} and set(dealt[1]) <= {5, 6, 7, 8}
    assert len(set(dealt[0][:6])) == 1 and len(set(dealt[0])) > 1
    assert NOTHING.dealt(folds, seed=0).shape == (2, 0)


# Learning from them


def test_half_of_the_likeness_to_them_is_taken_off():
    rows = (Example("1", "card lost", "a"), Example("2", "loan rate", "b"))
    part = Vocabulary.of_sklearn(TfidfVectorizer().fit(["card lost", "loan rate", "away today"]))
    near = near_of(TfidfPredictor(("a", "b"), TfidfVectors([part]), LinearHead(np.zeros((6, 2)), np.zeros(2))), rows)
    wary = against(near, ["away", "away today"])
    mean = np.array([1 + 2**-0.5, 2**-0.5])
    expected = AGAINST * mean[0] / np.linalg.norm(mean)
    assert wary.logits(["away"])[0] == pytest.approx([-expected] * 2)
    np.testing.assert_allclose(wary.logits(["card", "loan lost"]), near.logits(["card", "loan lost"]))
    np.testing.assert_allclose(against(near, []).head.weights, near.head.weights)


def outside_held(rows, texts, alone, *, learner=FROZEN):
    """Return what is known of rows in four folds, and of texts in the same four, by likeness alone `alone` and with the texts."""
    n, m = len(rows[0]), len(texts)
    held = held_of(np.zeros(n, int), {learner: np.zeros((1, n, 2))}, folds=np.arange(n) % 4)
    apart = HeldOutside(
        np.arange(m)[None] % 4, np.arange(m), {learner: rows[1][None]}, {learner: texts[None]}, {learner: alone[None]}
    )
    return replace(held, near={learner: rows[0][None]}, outside=apart)


def test_what_is_found_is_told_by_bars_of_the_other_folds_beside_distance_alone():
    rng = np.random.default_rng(0)
    near, less = rng.random(200), rng.random(200) - 0.2
    texts, alone = np.linspace(-0.3, 0.2, 40), np.linspace(0, 0.4, 40)
    found = strange_of(outside_held((near, less), texts, alone), FROZEN)
    assert found.threshold == np.sort(less)[9] and found.rule.rows == 200
    of_row, of_text = np.arange(200) % 4, np.arange(40) % 4
    hits = [texts[i] < bar_of(less[of_row != of_text[i]]) for i in range(40)]
    apart = [alone[i] < bar_of(near[of_row != of_text[i]]) for i in range(40)]
    assert (found.learned.texts, found.learned.found) == (40, pytest.approx(np.mean(hits)))
    assert found.learned.alone == pytest.approx(np.mean(apart)) and 0 < np.mean(apart) < np.mean(hits) < 1
    assert strange_of(outside_held((near, less), texts, alone, learner=PLAIN), PLAIN) == found  # TF-IDF has them too
    assert found.learned.low < found.learned.found < found.learned.high
    assert strange_of(replace(outside_held((near, less), texts, alone), outside=None), FROZEN).learned is None


def test_why_there_is_no_bar():
    few = held_of(np.zeros(18, int), {FROZEN: np.zeros((1, 18, 2))}, folds=np.arange(18) % 4)
    assert "no labeled rows" in strange_of(None, FROZEN)
    assert "not measured for pairs" in strange_of(few, FROZEN)
    assert (
        strange_of(replace(few, near={FROZEN: np.zeros((1, 18))}), FROZEN)
        == "18 held-out rows cannot set a threshold, which takes 19"
    )
    many = np.linspace(0, 1, 60)
    assert "it needs texts under data.none" in strange_of(
        replace(outside_held((many, many), many, many, learner=PLAIN), outside=None), PLAIN
    )


class Carried:
    """As much of what was learned as a bar is found by."""

    def __init__(self, held, shipped):
        self.held = held
        self.decision = Decision(shipped, shipped, None, None, "", (shipped,))


def test_a_form_has_the_bar_of_its_own_rows_or_says_that_it_has_none():
    near = np.linspace(0.1, 1, 60)
    held = held_of(np.zeros(60, int), {FROZEN: np.zeros((1, 60, 2)), PLAIN: np.zeros((1, 60, 2))}, folds=np.arange(60) % 4)
    learned = Carried(replace(held, near={FROZEN: near[None], PLAIN: near[None] / 2}), FROZEN)
    assert _strange(learned, "full").threshold == near[2]
    assert "TF-IDF's similarity" in _strange(learned, "tfidf")
    apart = outside_held((near, near / 2), near[:4], near[:4], learner=PLAIN).outside
    assert _strange(Carried(replace(learned.held, outside=apart), FROZEN), "tfidf").threshold == near[2] / 2
    for form in ("half", "few words", "static", "cascade"):
        assert _strange(learned, form) == ANOTHER_FORM


# In a run

WORDS_COUNT = pytest.mark.parametrize("made", ["tfidf"], indirect=True)
"""The tiny encoder of the tests knows no meaning."""


@pytest.fixture(scope="module", params=["tfidf", "frozen"])
def made(request, tmp_path_factory, tiny_cache):
    """A run with texts of none of the labels, and the same run without them."""
    where = tmp_path_factory.mktemp(request.param)
    with_them = none_task(where / "data", AWAY, rows=30, learners=[request.param])
    without = none_task(where / "data", AWAY, rows=30, learners=[request.param])
    data = without.config.data.model_copy(update={"none": None})
    without = Task.of(without.config.model_copy(update={"data": data}))
    return [run(task, where / name, store=ModelStore(tiny_cache)) for task, name in ((with_them, "with"), (without, "without"))]


def test_the_rule_is_told_wherever_it_ships(made):
    done = made[0]
    model = refsynth.load(done.bundle)
    rule, learned = model.manifest.none.rule, model.manifest.none.learned
    assert model.tells_none and rule.rows == 60 and learned.texts == 4
    said = none_sentence(model.manifest)
    assert "4 texts of data.none" in said and "rows alone" in said
    card, page, text = ((done.bundle / "README.md").read_text("utf-8"), render_html(done.report), render_markdown(done.report))
    assert said in card and said in text
    assert "each held out in its turn" in page
    assert refsynth.load(made[1].bundle).manifest.none.learned is None


def test_the_bundle_has_the_tensors_of_before_and_the_same_answers_as_without(made):
    theirs, own = (load_file(done.bundle / "head.safetensors") for done in made)
    assert set(theirs) - set(own) <= {"near", "near_bias"} and theirs["near"].shape == theirs["weights"].shape
    if "near" in own:  # of TF-IDF there is none without texts
        assert theirs["near"].shape == own["near"].shape and not np.allclose(theirs["near"], own["near"])
    for name in set(own) - {"near", "near_bias"}:
        np.testing.assert_array_equal(theirs[name], own[name])
    texts = ["the parcel is late", "broken", "zzz", *AWAY]
    said, before = (refsynth.load(done.bundle).predict(texts) for done in made)
    assert [replace(one, none=False) for one in said] == [replace(one, none=False) for one in before]


def test_no_training_row_is_one_of_them(made):
    steps = made[0].bundle.parent / "steps"
    assert not {row["text"] for row in read_jsonl(steps / "rows" / "examples.jsonl")} & set(AWAY)
    assert {row.text for row in made[0].evidence.learned.final.real}.isdisjoint(AWAY)


@WORDS_COUNT
def test_what_is_like_them_is_marked_and_rows_are_not(made):
    model = refsynth.load(made[0].bundle)
    assert [one.none for one in model.predict(["I am out of the office", "mailbox full", "zzz"])] == [True] * 3
    rows = [row["text"] for row in read_jsonl(made[0].bundle.parent.parent / "data" / "train.jsonl")]
    assert np.mean([one.none for one in model.predict(rows)]) <= 0.05


def test_a_rule_without_texts_has_its_own_sentence_and_broken_facts_are_refused(made):
    manifest = refsynth.load(made[0].bundle).manifest
    alone = manifest.none.model_copy(update={"learned": None})
    assert none_sentence(manifest.model_copy(update={"none": alone})) == manifest.none.rule.sentence
    tree = manifest.model_dump(mode="json")
    for odd in ("x", {"texts": 0}, {"texts": 3, "found": 2.0}):
        with pytest.raises(ValidationError):
            Manifest.model_validate_json(json.dumps({**tree, "none": {**tree["none"], "learned": odd}}))
    with pytest.raises(ValidationError, match="needs the field 'rule'"):
        Manifest.model_validate_json(json.dumps({**tree, "none": {**tree["none"], "rule": None}}))


@pytest.mark.parametrize(
    ("task", "why", "said"),
    [
        ("classify", "", "no threshold was measured"),
        ("classify", ANOTHER_FORM, "held-out rows in this form"),
        ("pairs", "it is of pairs", "it is of pairs"),
        ("multilabel", "", "an answer here may be no label"),
        ("tokens", "", "may have no labeled words"),
    ],
)
def test_what_marks_nothing_says_so(made, task, why, said):
    manifest = refsynth.load(made[1].bundle).manifest
    told = none_sentence(manifest.model_copy(update={"task": task, "none": NoneFacts(why=why)}))
    assert told.startswith("None of these: nothing is marked") and said in told


def test_the_sentence_has_the_figures():
    rule = NoneRule(share=0.05, rows=96, flagged=0.0417, low=0.016, high=0.102)
    said = OutsideFigures(texts=1, found=0.875, low=0.529, high=0.978, alone=0.5).sentence(rule)
    assert "1 text of data.none" in said and "4.2% [1.6-10.2]" in said and "87.5% [52.9-97.8]" in said
    assert "likeness to the labels' rows alone finds 50.0%" in said


# Who counts them


@WORDS_COUNT
def test_evaluate_counts_rows_marked_wrongly_and_others_marked_rightly(made, tmp_path):
    model = refsynth.load(made[0].bundle)
    lines = [(LATE, "late"), ("mailbox full", "broken"), ("I am out of the office", "away"), (LATE, "away")]
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in lines), "utf-8")
    asked = ["evaluate", str(made[0].bundle), str(tmp_path / "t.csv")]
    figures = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    marked = [one.none for one in model.predict([text for text, _ in lines])]
    assert marked == [False, True, True, False]
    assert figures["none"]["value"] == np.mean(marked[:2]) and figures["none"]["n"] == 2
    assert figures["unknown_none"] == sum(marked[2:])
    shown = CliRunner().invoke(app, asked).stdout
    assert "none of these      50.0" in shown and f"of those with unknown labels {sum(marked[2:])} of 2" in shown


def test_evaluate_says_nothing_of_it_where_a_bundle_cannot_tell(tmp_path, tiny_cache):
    bundle = run(none_task(tmp_path / "data", AWAY), tmp_path / "run", store=ModelStore(tiny_cache)).bundle
    assert not refsynth.load(bundle).tells_none and "12 held-out rows cannot set a threshold" in (bundle / "README.md").read_text(
        "utf-8"
    )
    asked = ["evaluate", str(bundle), str(tmp_path / "data" / "test.jsonl")]
    figures = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert figures["none"] is None and figures["unknown_none"] is None
    shown = CliRunner().invoke(app, asked).stdout
    assert "none of these  " not in shown and "of those with unknown labels" not in shown


@WORDS_COUNT
def test_label_next_asks_last_for_what_is_none_of_the_labels(made, tmp_path, tiny_cache):
    home = made[0].bundle.parent
    texts = [*AWAY, "out of the office", "mailbox", "left the company today", *(f"{LATE} {n}" for n in range(4))]
    (tmp_path / "pool.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in texts), "utf-8")
    scored = tmp_path / "scored.csv"
    assert CliRunner().invoke(app, ["predict", str(home), str(tmp_path / "pool.csv"), "--out", str(scored)]).exit_code == 0
    for n, strategy in ((4, "margin"), (4, "hybrid"), (7, "hybrid"), (7, "margin")):
        with reopened(home, (), Silent(), store=ModelStore(tiny_cache)) as begun:
            (tmp_path / f"{n}.csv").unlink(missing_ok=True)
            asked = ask_next(begun.job, tmp_path / "pool.csv", n=n, strategy=strategy, out=tmp_path / f"{n}.csv")
        assert (asked.rows, asked.pool, asked.labeled, asked.strange) == (n, 7, 4, n - 4)
        with (tmp_path / f"{n}.csv").open(encoding="utf-8-sig", newline="") as stream:
            forms = list(csv.DictReader(stream))
        assert [row["text"].startswith(LATE) for row in forms] == [True] * 4 + [False] * (n - 4)
        assert [row["reason"].startswith(STRANGE) for row in forms] == [False] * 4 + [True] * (n - 4)
    with reopened(home, (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        ask_next(job, scored, n=2, strategy="margin", out=tmp_path / "form.csv")
    with (tmp_path / "form.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert set(next(csv.reader(stream))) == {"id", "text", "label", "choices", "reason", "score"}  # what a model said is gone


def test_the_expected_share_is_a_metric(made):
    metrics, model = Metrics(), refsynth.load(made[0].bundle)
    metrics.model(LoadedBundle(model, "v1"))
    flagged = model.manifest.none.rule.flagged
    assert f"refsynth_expected_none_ratio {flagged}" in metrics.text().decode()
    model._tiers[0] = replace(model._first, near=None)
    metrics.model(LoadedBundle(model, "v2"))
    assert "refsynth_expected_none_ratio NaN" in metrics.text().decode()


@WORDS_COUNT
def test_a_server_counts_and_records_them(made, tmp_path):
    where = tmp_path / "record.sqlite"
    guards = Guards(recorder=DatabaseRecorder(PredictionRecord.open(where), texts=False, keyed=False))
    with running(made[0].bundle, guards=guards) as server:
        said = httpx.post(server.url + "/v1/predict", json={"texts": [LATE, *AWAY]}, timeout=30).json()["predictions"]
        assert [one["none"] for one in said] == [False, *[True] * len(AWAY)]
        assert metrics_of(server)["refsynth_none_of_these_total"] == len(AWAY)
        assert eventually(lambda: metrics_of(server)['refsynth_record_rows_total{outcome="written"}'] == 1 + len(AWAY))
    with closing(PredictionRecord.open(where, tables="check")) as record:
        found = record.summary(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert (sum(found.predictions.values()), found.none) == (1 + len(AWAY), len(AWAY))


def test_an_estimator_takes_them_too():
    found = refsynth.TextClassifier(settings={"data": {"none": list(AWAY)}})._tree(None, ["a", "b"], weighed=False)
    assert found["data"]["none"] == list(AWAY)
