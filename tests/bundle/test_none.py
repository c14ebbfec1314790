"""None of these: texts that are unlike the rows of all labels are marked; what is no text is never answered."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from typer.testing import CliRunner

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.bundle.rules import NoneRule
from refsynth.cli.app import app
from refsynth.cli.explain import explained
from refsynth.cli.scored import names_for
from refsynth.core.errors import ArgumentError, InputError
from refsynth.core.pair import join_pair
from refsynth.core.task import Task
from refsynth.core.types import Example, Prediction
from refsynth.data.empty import missing_in, refuse_empty
from refsynth.evaluation.report import render_html, render_markdown
from refsynth.evaluation.strange import bar_of, strange_of
from refsynth.learning.candidates import Candidate
from refsynth.models.nearness import below, near_of, strange
from refsynth.models.predict import LinearHead, TfidfPredictor
from refsynth.models.store import ModelStore
from refsynth.models.tfidf import TfidfVectors, Vocabulary
from refsynth.pipeline.flow import run
from refsynth.service.http.client import _prediction
from refsynth.service.http.dialects import prediction_json
from refsynth.service.http.engine import Answer
from refsynth.service.http.schema import PredictRequest
from tests.support.held import held_of
from tests.support.runs import make_task, write_rows

PLAIN = Candidate("frozen", False)
AWAY = ("I am out of the office until Monday", "Automatic reply: nobody reads this", "The mailbox is full", "I left the company")
"""What TF-IDF has to know of strange texts."""

EMPTY = ["", " \t\n", "\x00", "\u200b\u2060\ufeff", "\x1f \u200b"]


@pytest.mark.parametrize("text", EMPTY)
def test_a_text_without_a_sign_is_nothing(text):
    assert missing_in(text, pairs=False) == "empty text"
    assert missing_in(text, pairs=True) == "empty text"
    with pytest.raises(ArgumentError, match=r"X\[1\]: empty text"):
        refuse_empty(["a", text], name="X")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (join_pair("", "b"), "no text in 'first' of [first, second]"),
        (join_pair("a", "\u200b"), "no text in 'second' of [first, second]"),
        (join_pair("a", "b"), None),
    ],
)
def test_half_a_pair_is_nothing_to_a_bundle_of_pairs(text, why):
    assert missing_in(text, pairs=True) == why
    assert missing_in(text, pairs=False) is None


@pytest.mark.parametrize("text", ["?", "0", "\ud800", "\U0001f600", "a\x00"])
def test_what_has_a_sign_is_answered(text):
    assert missing_in(text, pairs=False) is None


@pytest.mark.parametrize(("n", "rank"), [(18, 0), (19, 1), (39, 2), (99, 5), (100, 5)])
def test_the_bar_lets_one_in_twenty_rows_be_below(n, rank):
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert bar_of(values) == (rank or None)


def test_what_is_flagged_is_told_of_folds_that_had_no_part_in_the_bar():
    rng = np.random.default_rng(0)
    near = rng.random(200)
    held = held_of(np.zeros(200, int), {PLAIN: np.zeros((1, 200, 2))}, folds=np.arange(200) % 4)
    assert "not measured" in strange_of(held, PLAIN)  # nobody said how like the rows are
    found = strange_of(replace(held, near={PLAIN: near[None]}), PLAIN)
    assert found.threshold == np.sort(near)[9] and found.rule.rows == 200
    flagged = [near[i] < np.sort(near[np.arange(200) % 4 != i % 4])[6] for i in range(200)]
    assert found.rule.flagged == pytest.approx(np.mean(flagged)) and found.rule.low < found.rule.flagged < found.rule.high


def test_rows_of_a_label_that_no_model_had_met_set_no_bar():
    near = np.concatenate([np.full(20, -1.0), np.linspace(0.1, 1, 60)])
    held = held_of(np.repeat([1, 0], [20, 60]), {PLAIN: np.zeros((1, 80, 2))}, folds=np.arange(80) % 4)
    met = held.met.copy()
    met[:, :20, 1] = False
    found = strange_of(replace(held, near={PLAIN: near[None]}, met=met), PLAIN)
    assert found.threshold > 0 and found.rule.rows == 60


ROWS = (Example("1", "card lost", "a"), Example("2", "loan rate", "b"), Example("3", "card", "a"))


def test_a_strange_text_is_like_no_label():
    part = Vocabulary.of_sklearn(TfidfVectorizer().fit([row.text for row in ROWS]))
    near = near_of(TfidfPredictor(("a", "b"), TfidfVectors([part]), LinearHead(np.zeros((4, 2)), np.zeros(2))), ROWS)
    values = near.logits(["card", "loan", "something else"])
    assert values.shape == (3, 2) and values[0, 0] > values[0, 1] and values[1, 1] > values[1, 0]
    assert (values[2] == 0).all()
    assert strange(replace(near, head=below(near.head, 0.1)).logits(["card", "something else"])).tolist() == [False, True]
    assert near_of(object(), ROWS) is None


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_cache):
    """Bundles of TF-IDF and of an encoder with enough rows for a bar, by learner."""
    out = {}
    for learner in ("tfidf", "frozen"):
        where = tmp_path_factory.mktemp(learner)
        task = make_task(where / "data", synthesis={"drafts": 0}, learners=[learner])
        write_rows(where / "data" / "train.jsonl", 30, 1)
        if learner == "tfidf":
            task = Task.of(task.config.changed([f"data.none={json.dumps(AWAY)}"]))
        out[learner] = run(task, where / "out", store=ModelStore(tiny_cache))
    return out


@pytest.mark.parametrize("learner", ["tfidf", "frozen"])
def test_a_run_ships_the_rule_and_says_it_everywhere(made, learner):
    done = made[learner]
    model = refsynth.load(done.bundle)
    rule = model.manifest.none.rule
    assert model.tells_none and rule.rows == 60
    for said in (render_html(done.report), render_markdown(done.report), (done.bundle / "README.md").read_text("utf-8")):
        assert "None of these: a text" in said and "would be flagged" in said
    tensors = load_file(done.bundle / "head.safetensors")
    assert tensors["near"].shape == tensors["weights"].shape


def test_strange_texts_are_marked_and_rows_are_not(made):
    model = refsynth.load(made["tfidf"].bundle)
    strange_ones = model.predict(["zzz qqq xxx", "Ich bin im Urlaub", "1234567"])
    assert [one.none for one in strange_ones] == [True] * 3
    train = made["tfidf"].bundle.parent.parent / "data" / "train.jsonl"
    rows = [json.loads(line)["text"] for line in train.read_text("utf-8").splitlines()]
    assert np.mean([one.none for one in model.predict(rows)]) <= 0.05


@pytest.mark.parametrize("learner", ["tfidf", "frozen"])
def test_the_probabilities_are_what_they_are_without_the_rule(made, learner):
    model = refsynth.load(made[learner].bundle)
    texts = ["the parcel is late", "broken", "zzz"]
    tier = model._first
    np.testing.assert_allclose(tier.answer(texts)[0], tier.probabilities(texts), atol=1e-6)


def test_predict_marks_and_counts_them(made, tmp_path):
    bundle = made["tfidf"].bundle
    (tmp_path / "in.csv").write_text("text\nthe parcel is late\nzzz qqq xxx\n", "utf-8")
    streamed = CliRunner().invoke(app, ["predict", str(bundle), str(tmp_path / "in.csv")])
    assert [json.loads(line)["none"] for line in streamed.stdout.splitlines()] == [False, True]
    assert "1 none of these" in streamed.stderr and "None of these:" in streamed.stderr
    written = CliRunner().invoke(app, ["predict", str(bundle), str(tmp_path / "in.csv"), "--out", str(tmp_path / "s.csv")])
    assert "1 none of these" in written.stdout
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert [row["none_of_these"] for row in csv.DictReader(stream)] == ["false", "true"]


def test_a_column_of_that_name_stays_the_users():
    assert names_for(["None_of_these"], spans=False, none=True) == ("label", "confidence", "unsure", "predicted_none_of_these")


@pytest.mark.parametrize("none", [False, True])
def test_a_reply_says_it_and_the_client_reads_it(none):
    said = Prediction("a", {"a": 0.9, "b": 0.1}, tier="exact", none=none)
    reply = prediction_json(Answer(said, "v", "exact", None), PredictRequest(texts="x"))
    assert reply["none"] is none and _prediction(reply).none is none
    del reply["none"]  # an older server
    assert _prediction(reply).none is False


@pytest.mark.parametrize("text", EMPTY)
def test_a_model_answers_no_empty_text(made, text):
    model = refsynth.load(made["tfidf"].bundle)
    with pytest.raises(ValueError, match=r"texts\[1\]: empty text"):
        model.predict(["late", text, text])
    with pytest.raises(InputError, match="empty text"):
        explained(model, text, None, top=3)


def test_an_explanation_asks_about_what_is_left_of_one_word(made):
    assert explained(refsynth.load(made["frozen"].bundle), "late", None, top=3)["parts"]


@pytest.mark.parametrize("none", ["x", {"rule": "x"}, {"rule": {"share": 2, "rows": 1, "flagged": 0, "low": 0, "high": 0}}])
def test_a_manifest_with_a_broken_rule_is_refused(made, none):
    tree = refsynth.load(made["tfidf"].bundle).manifest.model_dump(mode="json")
    with pytest.raises(ValidationError):
        Manifest.model_validate_json(json.dumps({**tree, "none": none}))


def test_the_sentence_has_the_figures():
    said = NoneRule(share=0.05, rows=96, flagged=0.0417, low=0.016, high=0.102).sentence
    assert "95% of 96 held-out rows" in said and "4.2% [1.6-10.2]" in said
