"""Pairs of texts, from the file to the bundle and the server."""

import csv
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refsynth
from refsynth.cli.explain import explained
from refsynth.cli.opening import open_file
from refsynth.cli.predict import PredictionTally, records
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, DataError, InputError
from refsynth.core.observe import Silent
from refsynth.core.pair import DIVIDER, join_pair, split_pair
from refsynth.core.sections import Columns
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.data.account import SkippedRow
from refsynth.data.io import read_examples
from refsynth.data.rows import BadRow, iter_rows
from refsynth.data.text import clean, normalize
from refsynth.labels.added import add_rows
from refsynth.labels.next import ask_next
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.models.tokenizer import TextTokenizer
from refsynth.pipeline.flow import run
from refsynth.pipeline.reopen import reopened
from refsynth.service.http.explain import spans, without
from refsynth.synthesis.prompts import class_prompt
from refsynth.synthesis.selection.filter import NO_PAIR, screen

PAIRS = Columns(pair="text_pair")
halves = st.text(min_size=1).map(clean).filter(lambda text: text.strip(DIVIDER + " "))


@given(halves, halves)
def test_a_pair_comes_apart_as_it_was_joined(first, second):
    pair = join_pair(first, second)
    assert split_pair(pair) == (first.replace(DIVIDER, "|"), second.replace(DIVIDER, "|"))
    assert clean(pair) == pair
    assert split_pair(normalize(pair)) is not None or not (normalize(first) and normalize(second))


@given(st.text())
def test_only_two_halves_make_a_pair(text):
    parts = split_pair(text)
    assert (parts is None) == (text.count(DIVIDER) != 1 or not all(half.strip() for half in text.split(DIVIDER)))


def test_an_encoder_sees_its_own_separator(tiny_folder):
    texts = [join_pair("a red car", "no blue one"), "a red car", join_pair("red car " * 20, "none"), "half " + DIVIDER]
    said = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=24).encode(texts)
    alone = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=24, parallel=False)
    assert said == TransformerEncoder(tiny_folder, max_tokens=24).tokenize(texts) == alone.encode(texts)
    separator = 3
    assert [row.count(separator) for row in said] == [2, 1, 2, 1]
    assert len(said[2]) == 24
    assert said[2][-3:-1] == alone.encode(["none"])[0][1:-1]  # the longer half is cut


def write(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_pairs_are_read_from_two_columns(tmp_path):
    rows = [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "a", "text_pair": "c" + DIVIDER, "label": "y"}]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "rows.csv").write_text(table.getvalue(), "utf-8")
    for path in (write(tmp_path, rows), tmp_path / "rows.csv"):
        loaded = read_examples(path, labels="xy", columns=PAIRS)
        assert [(one.text, one.label) for one in loaded.examples] == [("a ‖ b", "x"), ("a ‖ c|", "y")]
        assert [row.text for row in iter_rows(path, columns=PAIRS)] == ["a ‖ b", "a ‖ c|"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, "no key 'text_pair'"),
        ({"text_pair": 3}, "'text_pair' is a JSON number"),
        ({"text_pair": " "}, "no text in 'text_pair'"),
    ],
)
def test_a_row_without_a_second_text_is_named(tmp_path, second, message):
    path = write(tmp_path, [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "a", **second, "label": "y"}])
    bad = list(iter_rows(path, columns=PAIRS))[1]
    assert isinstance(bad, BadRow)
    assert message in bad.message
    if second == {"text_pair": 3}:
        with pytest.raises(DataError, match=r"row 2.*text_pair"):
            read_examples(path, labels="xy", columns=PAIRS)
    else:
        loaded = read_examples(path, labels="xy", columns=PAIRS, least_labels=1)
        assert loaded.skipped == (SkippedRow(2, "half a pair", "no text in 'text_pair'"),)
        path = write(tmp_path, [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "", **second, "label": "y"}])
        assert read_examples(path, labels="xy", columns=PAIRS, least_labels=1).skipped == (SkippedRow(2, "empty text", ""),)


def test_a_file_without_the_second_column_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,other,label\na,b,x\n", "utf-8")
    with pytest.raises(DataError, match="no column 'text_pair'"):
        read_examples(path, labels="xy", columns=PAIRS)


LABELS = {"same": "both mean the same", "other": "they mean different things"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "classify", "data": {"train": "a", "columns": {"pair": "b"}}}, "task: pairs"),
        ({"task": "pairs"}, "data.train"),
        ({"task": "pairs", "data": {"train": "a"}, "synthesis": {"augment": ["noise"]}}, "augment"),
        ({"task": "paris"}, "known are classify, pairs, multilabel, tokens; did you mean 'pairs'"),
        ({"task": "pairs", "data": 3}, "data"),
    ],
)
def test_a_wrong_task_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse({"labels": LABELS} | changes)


def test_what_is_usual_for_pairs_is_filled_in():
    config = RunConfig.parse({"labels": LABELS, "task": "pairs", "data": {"train": "a"}})
    assert (config.data.columns.pair, config.learners) == ("text_pair", ("tfidf", "finetune"))
    named = {"train": "a", "columns": {"pair": "second"}}
    config = RunConfig.parse({"labels": LABELS, "task": "pairs", "data": named, "learners": ["frozen"]})
    assert (config.data.columns.pair, config.learners) == ("second", ("frozen",))
    assert DIVIDER in Task.of(config).meanings["same"]


def test_a_prompt_shows_both_halves_and_a_draft_must_have_them():
    row = Example("row-1", join_pair("word " * 60, "the end"), "same")
    assert class_prompt("same", "both", [row]).text.splitlines()[2].endswith("‖ the end")
    drafts = [Example(f"draft-{i}", text, "same") for i, text in enumerate(("one thing here", "one thing ‖ here it is"))]
    assert [draft.dropped for draft in screen(drafts, [], longest=50, paired=True)] == [NO_PAIR, None]


def test_leaving_a_part_out_leaves_a_pair():
    pair = join_pair("a red car goes " * 20, "nothing goes " * 20)
    parts = [without(pair, span) for span in spans(pair)]
    assert all(split_pair(part) for part in parts)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_cache):
    """A run in which a pair is the same where its halves share their words."""
    folder, rng = tmp_path_factory.mktemp("pairs"), random.Random(0)
    words = ["car", "tree", "house", "river", "stone", "cloud", "bread", "chair"]

    def rows(n):
        for i in range(n):
            one, other = rng.sample(words, 2)
            yield {"text": f"a {one} {i}", "text_pair": f"the {one} there", "label": "same"}
            yield {"text": f"a {one} {i}", "text_pair": f"the {other} there", "label": "other"}

    train, test = write(folder, rows(8), "train.jsonl"), write(folder, rows(6), "test.jsonl")
    tree = {
        "task": "pairs",
        "language": "en",
        "labels": LABELS,
        "data": {"train": str(train), "test": str(test)},
        "reference": "echo",
        "synthesis": {"drafts": 24, "per_prompt": 4},
        "gate": {"folds": 2},
        "learners": ["frozen"],
    }
    return run(Task.of(RunConfig.parse(tree)), folder / "out", store=ModelStore(tiny_cache)).evidence


def test_a_run_on_pairs_ends_with_a_bundle_of_pairs(finished):
    model = refsynth.load(finished.bundle)
    assert model.manifest.task == "pairs"
    assert "join_pair" in (finished.bundle / "README.md").read_text("utf-8")
    rows = [json.loads(line) for line in finished.task.test.read_text("utf-8").splitlines()]
    said = model.probabilities([refsynth.join_pair(row["text"], row["text_pair"]) for row in rows])
    np.testing.assert_allclose(said, finished.test.probabilities, atol=1e-5)
    assert len(finished.test.truth) == len(rows)


def test_predict_reads_the_second_column(finished):
    model = refsynth.load(finished.bundle)
    with opened(model, finished.task.test) as reading:
        assert [record["label"] in LABELS for record in records(model, reading.rows, PredictionTally())] == [True] * 12
    with opened(model, finished.task.test, pair="b") as reading:
        assert "no key 'b'" in next(reading.rows).message


def opened(model, file, *, pair=None):
    return open_file(model, str(file), text=None, pair=pair, delimiter=None, encoding=None)


def test_a_bundle_of_single_texts_takes_no_second_column(finished):
    model = refsynth.load(finished.bundle)
    model.manifest = model.manifest.model_copy(update={"task": "classify"})
    with opened(model, finished.task.test) as reading:
        assert reading.taken.pair is None
    with pytest.raises(InputError, match="single texts"), opened(model, finished.task.test, pair="b"):
        pass


def test_pairs_labeled_later_go_into_their_own_columns(tmp_path, tiny_cache, finished):
    pool = write(tmp_path, [{"text": f"a new {i}", "text_pair": f"the old {i}"} for i in range(9)])
    with reopened(finished.folder.path, (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        asked = ask_next(job, pool, n=3, strategy="random", out=tmp_path / "next.jsonl")
    forms = [json.loads(line) for line in asked.file.read_text("utf-8").splitlines()]
    assert [form["text_pair"] for form in forms] == [form["text"].replace("a new", "the old") for form in forms]
    rows = [Example(f"row-{i}", join_pair(form["text"], form["text_pair"]), "same") for i, form in enumerate(forms)]
    add_rows(tmp_path / "more.jsonl", rows, list, columns=PAIRS)
    again = read_examples(tmp_path / "more.jsonl", labels=LABELS, columns=PAIRS, least_labels=1)
    assert [row.text for row in again.examples] == [row.text for row in rows]


def test_explain_takes_pairs_apart_and_refuses_a_single_text(finished):
    model = refsynth.load(finished.bundle)
    why = explained(model, join_pair("a car", "the car there"), None, top=9)
    assert why["method"] == "occlusion"
    assert {part["text"] for part in why["parts"]} == {"a", "car", "the", "there"}
    with pytest.raises(InputError, match="pairs"):
        explained(model, "a car", None, top=9)
