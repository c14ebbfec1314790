"""Labels of words in texts, from the file to the bundle, the report, the commands and the server."""

import itertools
import json
import shutil
import unicodedata
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import seqeval.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from typer.testing import CliRunner

import refsynth
from refsynth.bundle.manifest import Manifest
from refsynth.cli.app import app
from refsynth.cli.guards import compose, prepare
from refsynth.core.chain import Chain, best_path, occurrences
from refsynth.core.config import RunConfig
from refsynth.core.errors import BundleError, ConfigError, DataError, InputError
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.marks import MarkedPlace, MarkError, places_in, read_marks, spans_in, write_marks
from refsynth.core.sections import Columns
from refsynth.core.spans import Span, join_spans, names_in, spans_of, split_spans, tag_names, tags_of, unfit_name
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.core.words import words_of
from refsynth.data.io import read_examples
from refsynth.data.rows import BadRow, iter_rows
from refsynth.data.text import clean
from refsynth.kinds import SPANS, as_json, from_json
from refsynth.kinds.spans import path_of, read_of, span_confidences, spans_right
from refsynth.learning.candidates import Candidate, Fitter
from refsynth.learning.crf import OPTIONS, CrfLearner
from refsynth.learning.fits import read_fits, write_fits
from refsynth.learning.gate import _FoldValues, _whole
from refsynth.learning.rows import Rows
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.crf import CrfPredictor, features_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import LinearHead
from refsynth.models.store import ModelStore
from refsynth.models.tokenizer import TextTokenizer, split_words
from refsynth.pipeline.flow import run
from refsynth.service.http import interfaces
from refsynth.service.http.engine import LoadedBundle
from refsynth.service.monitor.export import export
from refsynth.service.monitor.record import Feedback, Predicted, PredictionRecord
from refsynth.synthesis.demand import demand_of
from refsynth.synthesis.markup import BROKEN, UNKNOWN, UNMARKED, shown_rows, with_marks, without_marks
from refsynth.synthesis.selection.scorers import agreement_of_tags
from tests.support.asking import Memory, post, problem
from tests.support.serving import running
from tests.support.tagged import example, texts, tree

LABELS = ("person", "place")
TAGS = tag_names(LABELS)
tags = st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=9), min_size=1, max_size=8)


# Words and marks


@given(st.text(max_size=60))
def test_a_text_and_its_cleaned_form_have_the_same_words(text):
    words = [clean(text[start:end]) for start, end in words_of(text)]
    cleaned = clean(text)
    assert words == [cleaned[start:end] for start, end in words_of(cleaned)]
    seen = [
        [one for one in some if not one.isspace() and unicodedata.category(one) != "Cf"] for some in ("".join(words), cleaned)
    ]
    assert seen[0] == seen[1]
    assert all(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's @ann, 3.5!", ["It", "'", "s", "@", "ann", ",", "3", ".", "5", "!"]),
        ("我在Oslo，学习", ["我", "在", "Oslo", "，", "学", "习"]),
        ("東京タワー", list("東京タワー")),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("nai\u0308ve\u200bly \x00", ["nai\u0308vely"]),
        ("", []),
    ],
)
def test_what_a_word_is(text, words):
    assert split_words(text) == words


@given(st.text(min_size=1, max_size=40), st.data())
def test_marks_come_out_as_they_went_in(text, data):
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6, unique=True)))
    places = tuple(MarkedPlace(a, b, "place") for a, b in zip(ends[::2], ends[1::2], strict=False))
    assume(all(text[a:b].strip() for a, b, _ in places))
    assert read_marks(write_marks(text, places)) == (text, places, False)


@given(st.text("[]()\\ab ", max_size=16))
def test_whatever_is_written_is_read_or_refused(text):
    try:
        marked = read_marks(text)
    except MarkError:
        return
    assert all(0 <= place.start < place.end <= len(marked.text) and place.label for place in marked.places)
    assert all(a.end <= b.start for a, b in itertools.pairwise(sorted(marked.places)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Ann](person", "no label, or no closing"),
        ("[Ann]()", "no label, or no closing"),
        ("Ann](person)", "none begins before it"),
        ("[ ](person)", "is empty"),
        ("[[Ann](person) Lee](person)", "holds another mark"),
    ],
)
def test_broken_marks_are_named(text, message):
    with pytest.raises(MarkError, match=message):
        read_marks(text)


def test_brackets_that_are_no_marks_stay():
    assert read_marks(r"see [1], \[Ann\](person) and [Bo](person)") == (
        "see [1], [Ann](person) and Bo",
        (MarkedPlace(27, 29, "person"),),
        True,
    )


def test_a_mark_inside_a_word_takes_the_word():
    assert spans_in("in Oslos hills", [MarkedPlace(3, 7, "place")]) == ((Span(1, 2, "place"),), 1)
    assert places_in("in Oslos hills", [Span(1, 3, "place")]) == (MarkedPlace(3, 14, "place"),)
    for places, message in (
        ([MarkedPlace(0, 5, "a"), MarkedPlace(4, 9, "b")], "overlaps with another"),
        ([MarkedPlace(3, 99, "a")], "no part of the text"),
        ([MarkedPlace(2, 3, "a")], "holds no word"),
    ):
        with pytest.raises(MarkError, match=message):
            spans_in("in Oslos hills", places)


# Tags, figures, chains


@given(tags)
def test_spans_are_those_of_seqeval(rows):
    for row in rows:
        spans = spans_of(row)
        assert [(span.label, span.start, span.end - 1) for span in spans] == get_entities(row)
        assert spans_of(tags_of(spans, len(row))) == spans
        assert split_spans(join_spans(spans)) == spans
        assert set(SPANS.names(join_spans(spans))) == {span.label for span in spans}


@given(tags, st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_figures_are_those_of_seqeval(rows, rng):
    said = [[tag if rng.random() < 0.6 else rng.choice(TAGS) for tag in row] for row in rows]
    assume(any(spans_of(row) for row in (*rows, *said)))  # seqeval warns of means over nothing
    truth, answers = (SPANS.truth([join_spans(spans_of(row)) for row in some], LABELS) for some in (rows, said))
    figures = {figure.name: figure.value for figure in SPANS.figures(truth, answers, 2)}
    assert figures["span F1"] == pytest.approx(seqeval.metrics.f1_score(rows, said, zero_division=0))
    assert figures["precision"] == pytest.approx(seqeval.metrics.precision_score(rows, said, zero_division=0))
    assert figures["recall"] == pytest.approx(seqeval.metrics.recall_score(rows, said, zero_division=0))
    assert SPANS.scores(truth, answers).mean() == pytest.approx(figures["span F1"])
    assert figures["macro-F1"] == pytest.approx(seqeval.metrics.f1_score(rows, said, average="macro", zero_division=0))
    report = seqeval.metrics.classification_report(rows, said, output_dict=True, zero_division=0)
    table = SPANS.table(truth, answers, 2)
    for index, label in enumerate(LABELS):
        if label in report:
            row = report[label]
            wanted_ = [row["precision"], row["recall"], row["f1-score"], row["support"]]
            assert [column[index] for column in table] == pytest.approx(wanted_)


def test_the_spread_of_scores_is_the_error_of_the_f1():
    rng = np.random.default_rng(0)
    truth, answers = (
        SPANS.truth(
            [join_spans(Span(i, i + 1, LABELS[0]) for i in np.flatnonzero(rng.random(6) < 0.4)) for _ in range(400)], LABELS
        )
        for _ in range(2)
    )
    scores, (f1, *_) = SPANS.scores(truth, answers), SPANS.figures(truth, answers, 2)
    assert scores.std() / 20 == pytest.approx((f1.high - f1.low) / (2 * 1.96), rel=0.1)  # the bootstrap's, over whole rows


def allowed(path, k=2):
    return all(tag <= k or (at and path[at - 1] in (tag, tag - k)) for at, tag in enumerate(path))


@given(st.integers(1, 5), st.integers(0, 999))
def test_chains_are_sums_over_all_allowed_paths(t, seed):
    scores = np.random.default_rng(seed).normal(scale=2, size=(t, 5))
    paths = [path for path in itertools.product(range(5), repeat=t) if allowed(path)]
    weights = {path: np.exp(scores[np.arange(t), path].sum()) for path in paths}
    total = sum(weights.values())
    chain, best = Chain.of(scores), best_path(scores)
    assert chain.total == pytest.approx(np.log(total))
    assert tuple(best) == max(weights, key=weights.get)
    assert chain.path(best) == pytest.approx(max(weights.values()) / total)
    anywhere = [
        sum(weight for path, weight in weights.items() if {1 + label, 3 + label} & set(path)) / total for label in range(2)
    ]
    np.testing.assert_allclose(occurrences(scores), anywhere)
    for start, end in itertools.combinations(range(t + 1), 2):
        for label in range(2):
            span = Span(start, end, LABELS[label])
            share = sum(weight for path, weight in weights.items() if span in spans_of([TAGS[tag] for tag in path])) / total
            assert chain.span(start, end, label) == pytest.approx(share)


def test_names_are_read_out_of_spans_only():
    assert names_in("0-2:person 5-6:place 7-8:person") == ("person", "place")
    for label in ("(none)", "person", "a + b", "0-2:", "7-8: x", "1-2", "24-7:help yes"):
        assert names_in(label) == (label,)


def test_answers_survive_json():
    rng = np.random.default_rng(0)
    said = np.empty(3, object)
    for place, t in enumerate((3, 3, 0)):
        said[place] = rng.dirichlet(np.ones(5), t)
    answers = SPANS.decide(said)
    assert answers[2] == "(none)"
    np.testing.assert_array_equal(from_json(json.loads(json.dumps(as_json(answers)))), answers)
    again = from_json(json.loads(json.dumps(as_json(said))))
    for one, other in zip(said, again, strict=True):
        np.testing.assert_allclose(one.ravel(), np.asarray(other).ravel(), atol=1e-6)
    np.testing.assert_allclose(SPANS.confidence(again, answers), SPANS.confidence(said, answers), atol=1e-5)
    for label in ("0-1:place 2-3:person", "(none)"):
        assert SPANS.shown(SPANS.truth([label], LABELS)[0], LABELS) == label
    np.testing.assert_array_equal(path_of("0-2:1 3-4:0", 5, 2), [2, 4, 0, 1, 0])


def test_agreement_is_over_words_that_belong_to_a_span():
    said = np.empty(2, object)
    said[0] = np.array([[0.1, 0.9, 0, 0, 0], [0.8, 0, 0.2, 0, 0], [1, 0, 0, 0, 0]])
    said[1] = np.array([[1.0, 0, 0, 0, 0]])
    truth = np.array(["0-1:0 1-2:1", "(none)"], object)
    np.testing.assert_allclose(agreement_of_tags(said, truth, SPANS.decide(said)), [(0.9 + 0.2) / 2, 1])
    assert spans_right(truth, SPANS.decide(said)).tolist() == [1]
    assert span_confidences(said, SPANS.decide(said)) == pytest.approx([0.9 / (0.9 + 0.1)], rel=0.02)


# Files


def write(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


FORMS = {
    "marks.csv": ["text", '"[Ann Lee](person) lives, in [Oslo](place)"', "nobody here"],
    "marks.jsonl": [{"text": "[Ann Lee](person) lives, in [Oslo](place)"}, {"text": "nobody here"}],
    "places.jsonl": [
        {"text": "Ann  Lee lives, in\tOslo", "label": [[0, 8, "person"], [19, 23, "place"]]},
        {"text": "nobody here", "label": []},
    ],
    "named.jsonl": [
        {"words": ["Ann", "Lee", "lives,", "in", "Oslo"], "bio": ["B-person", "I-person", "O", "O", "B-place"]},
        {"words": ["nobody", "here"], "bio": ["O", "O"]},
    ],
    "tokens.jsonl": [
        {"tokens": ["Ann", "Lee", "lives,", "in", "Oslo"], "tags": ["B-person", "I-person", "O", "O", "I-place"]},
        {"tokens": ["nobody", "here"], "tags": ["O", "O"]},
    ],
    "rows.conll": ["-DOCSTART- O", "", "Ann\tNNP\tB-person", "Lee\tNNP\tI-person", "lives,\tX\tO", "in X O", "Oslo X B-place", "",
                   "nobody X O", "here X O"],
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_all_forms_say_the_same(tmp_path, name):

    columns = Columns(text="words", label="bio") if name == "named.jsonl" else Columns()
    loaded = read_examples(write(tmp_path / name, FORMS[name]), labels=LABELS, columns=columns, spans="marked", least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [
        ("Ann Lee lives, in Oslo", "0-2:person 5-6:place"),
        ("nobody here", "(none)"),
    ]
    assert loaded.counts == {"person": 1, "place": 1}
    rows = list(iter_rows(tmp_path / name, columns=columns, spans="marked"))
    assert [(row.text, row.label) for row in rows] == [(row.text, row.label) for row in loaded.examples]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "[Ann](persn) sat"}, r"row 2: label 'persn' is not in task.yaml[\s\S]*did you mean 'person'"),
        ({"text": "[Ann(person) and ](b"}, r"row 2: the mark that ends at character 18 has no label[\s\S]*written \\\["),
        ({"text": "Ann sat", "label": [[0, 3, "person"], [2, 6, "place"]]}, "row 2: the spans 0-3 and 2-6 overlap"),
        (
            {"text": "Ann sat", "label": [[0, 1, "person"], [1, 3, "place"]]},
            "row 2: the span .* overlaps with another, in words 1 to 1",
        ),
        (
            {"text": "Ann sat", "label": [[0, 30, "person"]]},
            "row 2: the span 0-30 is no part of the text, which has 7 characters",
        ),
        ({"text": "Ann sat", "label": [["Ann", "person"]]}, "row 2: a span is neither"),
        ({"text": "Ann sat", "label": "person"}, "row 2: 'label' is neither a list of tags nor of spans"),
        ({"tokens": ["Ann", "sat"], "tags": ["B-person"]}, "row 2: 1 tags for 2 tokens"),
        ({"tokens": ["Ann", "sat"], "tags": ["B-person", "person"]}, "row 2: the tag 'person' is not O, B-label or I-label"),
        ({"tokens": ["Ann", ""], "tags": ["O", "O"]}, "row 2: the tokens are not all non-empty strings"),
        ({"text": 3}, "row 2: 'text' is a JSON number"),
        (
            {"text": "[Ann](a person) sat"},
            r"row 2: the label 'a person': expected a name without spaces, [\s\S]*written \\\[ and \\\]",
        ),
        ({"text": "see [docs](http://x.y)"}, "row 2: the label 'http://x.y': expected a name without space"),
        ({"text": "Ann sat", "label": [[0, 3, "a person"]]}, "row 2: the label 'a person'"),
        ({"text": "Ann sat", "label": [[0, 3, ""]]}, "row 2: the label ''"),
        ({"text": "Ann sat", "label": "0-1:a:person"}, "row 2: the label 'a:person'"),
        ({"tokens": ["Ann", "sat"], "tags": ["B-a person", "O"]}, "row 2: the label 'a person'"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    path = write(tmp_path / "rows.jsonl", [{"text": "[Ann](person) sat"}, row])
    with pytest.raises(DataError, match=message):
        read_examples(path, labels=LABELS, spans="marked", least_labels=1)
    skipped = read_examples(path, labels=LABELS, spans="marked", least_labels=1, skip_bad=True).skipped
    assert [one.row for one in skipped] == [2]


def test_init_passes_over_labels_that_cannot_be_one_and_names_the_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", [{"text": "[Ann](person) sat"}, {"text": "see [docs](http://x.y)"}, {"text": "[Bo](a b)"}])
    result = CliRunner().invoke(app, ["init", "names", "--from", "rows.jsonl", "--words"])
    assert result.exit_code == 0, result.exception
    assert "2 rows dropped: malformed (rows 2, 3)" in result.output
    assert "  row 2: the label 'http://x.y': expected a name without space" in result.output
    assert list(RunConfig.load(tmp_path / "names" / "task.yaml").labels) == ["person"]


def test_rows_that_say_nothing_are_left_out_and_widened_ones_are_told(tmp_path):
    rows = [{"text": "[Ann](person)s hat"}, {"text": " "}, {"tokens": ["a", "b"]}, {"text": "[Ann](person)s hat"}]
    loaded = read_examples(write(tmp_path / "rows.jsonl", rows), labels=LABELS, spans="marked", least_labels=1)
    assert [(row.row, row.reason) for row in loaded.skipped] == [(2, "empty text"), (3, "no label"), (4, "duplicate")]
    assert "2 rows have marks that end inside a word: it counts whole" in loaded.notes
    with pytest.raises(DataError, match="line 2: a token without a tag"):
        read_examples(write(tmp_path / "rows.conll", ["a O", "b"]), labels=LABELS, spans="marked", least_labels=1)


def test_brackets_of_a_text_to_predict_are_no_marks(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"text": "a [b](c"}, {"tokens": ["Ann", "sat"]}, {"tokens": [1]}])
    rows = list(iter_rows(path, spans="ignored"))
    assert [row.text for row in rows[:2]] == ["a [b](c", "Ann sat"]
    assert isinstance(rows[2], BadRow)


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, "data.train"),
        ({"data": {"train": "a", "pool": "b"}}, "selftrain: {per_class: 0}"),
        ({"labels": ["creative work", "b"]}, "rename it"),
        ({"labels": ["a)", "b"]}, "rename it"),
        ({"learners": ["frozen"]}, "take crf or finetune"),
        ({"learners": ["crf", "prompt"]}, "take crf or finetune"),
        ({"learners": ["crf", "soup"]}, "soup .* take crf or finetune"),
        ({"learners": ["crf", "finetune", "average"]}, "average .* take crf or finetune"),
        ({"learners": ["crf", "finetune", "stacking"]}, "stacking .* take crf or finetune"),
        ({"learners": ["crf", "finetune", "distilled"]}, "distilled .* take crf or finetune"),
        ({"data": {"train": "a", "pool": "b"}, "pretrain": {"encoder": 1}}, "pretrain.encoder .*; take it out"),
        ({"data": {"train": "a", "pool": "b"}, "pretrain": {"reference": 1}}, "pretrain.reference .*; take it out"),
        ({"search": {"minutes": 1}}, "search.minutes .*; take it out"),
        ({"synthesis": {"ways": ["contrast"]}}, "take examples or styles"),
        ({"synthesis": {"augment": ["noise"]}}, "synthesis.augment"),
        ({"synthesis": {"rounds": 2}}, "synthesis.rounds"),
        ({"reinforce": {"iterations": 1}}, "reinforce.iterations"),
        ({"filter": {"scores": {"likelihood": 0.0}}}, "filter.scores.likelihood"),
        ({"filter": {"targets": "judge"}}, "filter.targets"),
        ({"training": {"mixup": 0.2}}, "training.mixup"),
        ({"task": "classify", "learners": ["crf"]}, "write task: tokens"),
        ({"task": "classify", "labels": ["one"]}, "write task: tokens"),
        ({"data": {"train": "a", "separator": ";"}}, "task: multilabel"),
    ],
)
def test_what_makes_no_sense_for_words_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse(tree(**changes))


def test_one_label_is_enough():
    config = RunConfig.parse(tree(labels={"person": "people"}))
    assert config.learners == TASK_KINDS["tokens"].learners
    assert not unfit_name("creative-work")


# Models


def test_marginals_of_a_crf_are_sums_over_all_allowed_paths():
    rows = list(itertools.starmap(example, enumerate(texts(30, long=True))))
    model = CrfLearner(LABELS).fit(rows, (), seed=0)
    words = split_words(rows[0].text)
    scores, passes = model._scores(words), model._passes
    paths = [path for path in itertools.product(range(5), repeat=4) if allowed(path)]
    weights = np.array(
        [
            np.prod([np.exp(scores[at, tag]) * (passes[path[at - 1], tag] if at else 1) for at, tag in enumerate(path)])
            for path in paths
        ]
    )
    marginals = model._marginals(scores[:4])
    for at, tag in itertools.product(range(4), range(5)):
        share = sum(weight for path, weight in zip(paths, weights, strict=True) if path[at] == tag) / weights.sum()
        assert marginals[at, tag] == pytest.approx(share, abs=1e-9)
    said = SPANS.decide(SPANS.probabilities(model.logits([row.text for row in rows])))
    truth = SPANS.truth([row.label for row in rows], LABELS)
    assert SPANS.figures(truth, said, 2)[0].value > 0.95


def test_a_crf_scores_paths_as_crfsuite_does(tmp_path):
    import pycrfsuite

    rows = list(itertools.starmap(example, enumerate(texts(30, long=True))))
    model = CrfLearner(LABELS).fit(rows, (), seed=0)
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", params=OPTIONS, verbose=False)
    for row in rows:
        words = split_words(row.text)
        trainer.append(features_of(words), tags_of(split_spans(row.label), len(words)))
    trainer.train(str(tmp_path / "model"))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(tmp_path / "model"))
    words = split_words("bo sat in oslo")
    tagger.set(features_of(words))
    scores = model._scores(words)

    def ours(path):
        steps = sum(model.transitions[before, after] for before, after in itertools.pairwise(path))
        return scores[np.arange(4), path].sum() + steps

    for one, other in (((1, 0, 0, 2), (0, 0, 0, 0)), ((1, 3, 0, 2), (1, 0, 2, 4))):
        theirs = [np.log(tagger.probability([TAGS[tag] for tag in path])) for path in (one, other)]
        assert ours(one) - ours(other) == pytest.approx(theirs[0] - theirs[1], abs=1e-4)


def test_a_crf_with_parts_that_do_not_fit_is_refused():
    with pytest.raises(refsynth.RefsynthError, match="a CRF with 1 features"):
        CrfPredictor(LABELS, ("bias",), LinearHead(np.zeros((1, 5)), np.zeros(5)), np.zeros((4, 4)))


def test_a_fitted_crf_is_read_back_and_not_fitted_again(tmp_path, monkeypatch):
    rows = list(itertools.starmap(example, enumerate(texts(30, long=True))))
    fitter, context = Fitter.of({"crf": CrfLearner(LABELS)}, rows, seed=1), SimpleNamespace(labels=LABELS, encoder=None)
    made = fitter.fit(Candidate("crf", False))
    write_fits({Candidate("crf", False): made}, tmp_path, context, seed=1, learners=())
    monkeypatch.setattr(CrfLearner, "fit", None)
    (read,) = read_fits(tmp_path, fitter).predictors(context).values()
    for one, other in zip(read.logits([row.text for row in rows]), made.logits([row.text for row in rows]), strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_a_tag_that_no_row_has_is_never_said():
    rows = [row for row in itertools.starmap(example, enumerate(texts(30, long=True))) if "place" not in row.label]
    model = CrfLearner(LABELS).fit(rows, (), seed=0)
    for one in SPANS.probabilities(model.logits([row.text for row in rows])):
        assert one[:, [2, 4]].max() < 1e-6


def test_words_are_aligned_in_both_tokenizers(tiny_folder):
    encoder = TransformerEncoder(tiny_folder, max_tokens=12)
    quick = TextTokenizer(tiny_folder / "tokenizer.json", max_tokens=12)
    some = ["tree's rat", "a b c d e f g h i j k l m n o p", "", "x", "\u0301 a"]
    for one, other in zip(encoder.words(some), quick.words(some), strict=True):
        assert one == other
    long = encoder.words(some)[1]
    assert (long.n, len(long.words)) == (16, 10)  # two places are those of the special tokens
    states = encoder.states(encoder.words(some))
    assert [len(one) for one in states] == [len(one.words) for one in encoder.words(some)]
    alone = encoder.states(encoder.words(some[:1]))[0]
    np.testing.assert_allclose(states[0], alone, atol=1e-5)  # whatever shares the batch


def test_full_fine_tuning_learns_words(tiny_folder):
    rows = list(itertools.starmap(example, enumerate(texts(24, long=True))))
    encoder = TransformerEncoder(tiny_folder, max_tokens=24)
    learner = FinetuneLearner(LABELS, encoder, recipe=TrainingRecipe(epochs=25, learning_rate=2e-3), link="tags")
    fitted = learner.fit(rows, (), seed=0)
    said = SPANS.decide(SPANS.probabilities(fitted.logits([row.text for row in rows])))
    truth = SPANS.truth([row.label for row in rows], LABELS)
    assert SPANS.figures(truth, said, 2)[0].value > 0.8
    again = learner.fit(rows, rows[:8], seed=0).logits(["ann sat"])
    np.testing.assert_array_equal(again[0].shape, (2, 5))


# Drafts


def test_in_a_fold_without_drafts_a_candidate_is_as_without_them():
    plain, mixed = Candidate("crf", False), Candidate("crf", True)
    one, two = np.array(["a", "b"], object), np.array(["c", "d"], object)
    first, second = np.array([0, 1]), np.array([2, 3])
    whole = _whole([_FoldValues(0, first, {plain: one}), _FoldValues(0, second, {plain: two, mixed: one})], (1, 4))
    assert whole[plain].tolist() == [["a", "b", "c", "d"]]
    assert whole[mixed].tolist() == [["a", "b", "a", "b"]]


def test_prompts_show_marks_and_never_half_a_mark():
    long = example(0, " ".join(["word"] * 28) + " [Ann Lee](person) [Bo](person) sat " + "on " * 40)
    (shown,) = shown_rows([long])
    assert shown.label == "person"
    assert len(shown.text.split()) <= 30
    assert shown.text.endswith("[Ann Lee](person)")
    assert [row.text for row in shown_rows([example(1, "[Ann](person) [1]")])] == [r"[Ann](person) \[1\]"]
    (chinese,) = shown_rows([example(2, "在[北京](place)" * 60)])
    assert len(chinese.text) <= 240
    assert read_marks(chinese.text).places
    assert with_marks(example(3, "a [b](person)")).text == "a [b](person)"


def test_drafts_whose_marks_do_not_parse_are_counted():
    given_ = ["[Ann](Person) sat", "[Ann](dog) sat", "Ann sat", "[Ann] sat [Bo](person)", "[Ann](person sat", "[ann](place)s x"]
    rows, rejected = without_marks([Example(str(i), text, "person") for i, text in enumerate(given_)], LABELS)
    assert rejected == {UNKNOWN: 1, UNMARKED: 1, BROKEN: 2}
    assert [(row.id, row.text, row.label) for row in rows] == [("0", "Ann sat", "0-1:person"), ("5", "anns x", "0-1:place")]


def test_drafts_are_asked_of_the_sets_that_occur():
    task = Task.of(RunConfig.parse(tree(synthesis={"drafts": 20})))
    rows = [example(i, text) for i, text in enumerate(["[a](place) [b](person)", "[b](person) [a](place)", "none", "[a](place)"])]
    asked = demand_of(task, Rows(tuple(rows), np.zeros(4), "en", {}, SPANS, np.arange(4)))
    assert asked.focus.need == {"person + place": 2.0, "place": 1.0}
    assert asked.meanings["place"] == "[...](place) marks places"
    assert {row.label for row in shown_rows(rows)} == {"person + place", "place", "(none)"}


# A whole run


def config_of(folder, **changes):
    for name, n, seed in (("train", 40, 0), ("test", 24, 1)):
        write(folder / f"{name}.jsonl", [{"text": text} for text in texts(n, seed)])
    return tree(
        language="en",
        data={"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")},
        reference="echo",
        gate={"folds": 2},
        **changes,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_cache):
    folder = tmp_path_factory.mktemp("spans")
    config = config_of(
        folder, synthesis={"drafts": 24, "per_prompt": 4}, learners=["finetune"], training={"epochs": 10, "learning_rate": 3e-3}
    )
    return run(Task.of(RunConfig.parse(config)), folder / "out", store=ModelStore(tiny_cache))


@pytest.fixture(scope="module")
def finished_crf(tmp_path_factory, tiny_cache):
    folder = tmp_path_factory.mktemp("crf")
    config = config_of(folder, synthesis={"drafts": 0}, learners=["crf"])
    return run(Task.of(RunConfig.parse(config)), folder / "out", store=ModelStore(tiny_cache))


@pytest.fixture(params=["tagger", "crf"])
def either(request):
    done = request.getfixturevalue("finished" if request.param == "tagger" else "finished_crf")
    assert refsynth.load(done.bundle).manifest.last.kind == request.param
    return done


def test_a_run_ends_with_a_bundle_that_finds_entities(either):
    model, test = refsynth.load(either.bundle), either.evidence.test
    rows = [example(i, text) for i, text in enumerate(texts(24, 1))]
    predicted = model.predict([row.text for row in rows])
    assert [SPANS.shown(answer, LABELS) for answer in test.predicted["shipped"]] == [one.label for one in predicted]
    assert SPANS.figures(test.truth, test.predicted["shipped"], 2)[0].value > 0.6
    for row, one in zip(rows, predicted, strict=True):
        assert all(one.probabilities[entity.label] >= entity.confidence - 1e-9 for entity in one.entities)
        assert one.abstain == (one.probability < model.manifest.calibration.threshold)
        assert all(0 < entity.confidence <= 1 + 1e-9 for entity in one.entities)
        found = [MarkedPlace(entity.start, entity.end, entity.label) for entity in one.entities]
        assert join_spans(spans_in(row.text, found).spans) == one.label
    assert "cross-validated span F1" in model.manifest.metrics
    card = (either.bundle / "README.md").read_text("utf-8")
    assert "token-classification" in card
    assert "Finder of entities in texts, with 2 labels" in card


def test_places_are_those_of_the_text_as_it_was_given(either):
    model = refsynth.load(either.bundle)
    plain, spaced = "bo sat in rome 5", "bo\x00  sat\tin\u200b  rome 5"
    (one, other) = model.predict([plain, spaced])
    assert one.entities
    cut = [[clean(text[entity.start : entity.end]) for entity in said.entities] for text, said in ((plain, one), (spaced, other))]
    assert cut[0] == cut[1]
    with pytest.raises(InputError, match="empty text"):
        model.predict([""])


def test_words_beyond_one_window_are_read(finished):
    model, text = refsynth.load(finished.bundle), "a " * 200 + "ann lee sat in oslo"
    assert not model.predict([text])[0].truncated
    assert read_of(model.logits([text])[0]).all()


def test_an_altered_bundle_is_refused(finished_crf, tmp_path):
    import shutil

    from refsynth.bundle.manifest import FileEntry
    from refsynth.core.files import write_json
    from refsynth.core.hashes import file_digest

    def altered(name, data):
        folder = tmp_path / name
        shutil.copytree(finished_crf.bundle, folder)
        (folder / "features.json").write_bytes(data)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        entry = FileEntry(sha256=file_digest(folder / "features.json"), size=len(data))
        manifest["files"]["features.json"] = entry.model_dump()
        write_json(folder / "manifest.json", manifest)
        return folder

    terms = json.loads((finished_crf.bundle / "features.json").read_bytes())["terms"]
    for name, data, message in (
        ("fewer", json.dumps({"terms": terms[:-1]}).encode(), "a CRF with"),
        ("garbage", b"[1", "features.json"),
        ("numbers", b'{"terms": [1]}', "features.json"),
        ("others", json.dumps({"terms": terms[::-1]}).encode(), "golden outputs"),
    ):
        with pytest.raises(BundleError, match=message):
            refsynth.load(altered(name, data))
    manifest = refsynth.load(finished_crf.bundle).manifest.model_dump(mode="json")
    other = [{**manifest["tiers"][0], "kind": "tfidf", "files": sorted(refsynth.bundle.TIERS["tfidf"].names)}]
    for changes in ({"task": "multilabel"}, {"tiers": other}, {"labels": []}, {"tiers": []}):
        with pytest.raises(ValueError, match=r"fit task|at least 1"):
            Manifest.model_validate_json(json.dumps(manifest | changes))


def test_drafts_are_screened_and_the_gate_says_what_they_bring(finished):
    learned = finished.evidence.learned
    assert learned.written.drafts
    assert sum(learned.written.rejected.values()) + len(learned.written.drafts) == learned.written.asked
    texts_ = {row.text for row in learned.rows.examples}
    for draft in learned.written.drafts:
        assert draft.label != "(none)"
        assert "](" not in draft.text
        assert draft.provenance.shown
    assert not texts_ & {draft.example.text for draft in learned.screened if draft.dropped is None}
    assert {str(name) for name in learned.held.logits} >= {"finetune"}
    int8 = learned.held.as_shipped(Candidate("finetune", False))
    exact = learned.held.logits[Candidate("finetune", False)]
    assert [one.shape for one in int8[0]] == [one.shape for one in exact[0]]
    assert any((one != other).any() for one, other in zip(int8[0], exact[0], strict=True))  # what it is calibrated on
    assert np.mean(SPANS.decide(SPANS.probabilities(int8[0])) == SPANS.decide(SPANS.probabilities(exact[0]))) > 0.8
    judged = [draft for draft in learned.final.drafts if "agreement" in draft.scores]
    assert all(0 <= draft.scores["agreement"] <= 1 for draft in judged)


def test_the_report_says_what_is_measured(either):
    tree_ = json.loads(either.paths.json.read_text("utf-8"))
    first, *_, shipped = tree_["results"]["systems"]
    assert first["name"] == "all O"
    assert first["span_f1"]["value"] == 0
    for field in ("span_f1", "precision", "recall", "macro_f1", "exact_match"):
        assert 0 <= shipped[field]["value"] <= 1
    assert shipped["accuracy"] is None
    assert "span F1 is" in tree_["verdict"]
    assert tree_["classes"]["confusion"] == []
    for text in (either.paths.html.read_text("utf-8"), either.paths.markdown.read_text("utf-8")):
        assert "span F1" in text
        assert "predicted spans" in text


def test_predict_and_evaluate_speak_of_entities(either, tmp_path):
    rows = [{"text": "bo sat in rome 5", "id": "a"}, {"text": ""}, {"tokens": ["bo", "sat"]}, {"text": "x [y](z"}]
    out = CliRunner().invoke(app, ["predict", str(either.bundle), str(write(tmp_path / "rows.jsonl", rows))])
    assert out.exit_code == 0, out.output
    records = [json.loads(line) for line in out.stdout.splitlines()]
    assert records[1] == {"row": 2, "error": "empty text"}
    assert set(records[0]) == {"row", "id", "entities", "abstain", "tier"}
    for entity in records[0]["entities"]:
        assert rows[0]["text"][entity["start"] : entity["end"]] == entity["text"]
    test = either.evidence.task.test
    figures = CliRunner().invoke(app, ["evaluate", str(either.bundle), str(test), "--json"])
    measured = json.loads(figures.stdout)
    shipped = either.report.results.systems[-1]
    assert measured["span_f1"]["value"] == pytest.approx(shipped.span_f1.value)
    assert measured["exact_match"]["value"] == pytest.approx(shipped.exact_match.value)
    said = CliRunner().invoke(app, ["evaluate", str(either.bundle), str(test)])
    for line in ("span F1", "precision", "recall", "spans"):
        assert line in said.output
    explained = CliRunner().invoke(app, ["explain", str(either.bundle), "bo sat in rome", "--label", "place"])
    assert "rome" in explained.output.splitlines()[1]


def test_golden_texts_are_judged_by_what_is_found(either):
    loaded = LoadedBundle.open(either.bundle, threads=1)
    for index, (text, one) in enumerate(zip(loaded.golden.texts, loaded.model.predict(loaded.golden.texts), strict=True)):
        assert loaded.agrees(index, one), text
        wrong = replace(one, certainty=1 - one.certainty, label="0-1:place")
        assert not loaded.agrees(index, wrong) or 0.2 < one.certainty < 0.8


@pytest.fixture(scope="module")
def server(finished_crf):
    with running(finished_crf.bundle, guards=interfaces.Guards(recorder=Memory())) as started:
        yield started


def test_the_server_replies_with_entities(server):
    texts_ = ["bo sat in rome 5", "no one", "我"]
    said = server.service.engine.current.model.predict(texts_)
    shown = post(server, "/v1/predict", {"texts": texts_}).json()["predictions"]
    assert shown[0]["entities"]
    for one, expected in zip(shown, said, strict=True):
        assert "label" not in one
        assert [(part["start"], part["end"], part["label"]) for part in one["entities"]] == [
            part[:3] for part in expected.entities
        ]
        assert one["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert one["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-6)
    with refsynth.Client(server.url) as client:
        assert [[part[:3] for part in one.entities] for one in client.predict(texts_).predictions] == [
            [part[:3] for part in one.entities] for one in said
        ]
    for row, expected in zip(server.service.guards.recorder.served[-3:], said, strict=True):
        assert row.label == expected.label


def test_the_server_says_why_a_label_is_in_a_text(server):
    said = post(server, "/v1/explain", {"text": "bo sat in rome 5", "label": "place"}).json()
    assert (said["label"], said["method"]) == ("place", "occlusion")
    assert max(said["parts"], key=lambda part: part["value"])["text"] == "rome"
    shown = post(server, "/v1/predict", {"texts": "bo sat in rome 5"}).json()["predictions"][0]
    assert said["probability"] == shown["probabilities"]["place"] > 0.5
    scores = post(server, "/predict", {"inputs": "bo sat in rome 5"}).json()
    assert {one["label"]: one["score"] for one in scores} == shown["probabilities"]
    assert post(server, "/v1/explain", {"text": "bo sat in rome 5"}).json()["label"] == scores[0]["label"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "person"}, "marked: expected the text"),
        ({"marked": "bo", "labels": []}, "neither of the other two"),
        ({"marked": "[bo](beast)"}, "no such label"),
        ({"marked": "[bo](person"}, "no label, or no closing"),
    ],
)
def test_wrong_feedback_is_refused(server, given, message):
    answer = post(server, "/v1/feedback", {"request_id": "r", **given})
    assert problem(answer) == (422, "invalid")
    assert message in answer.text


def test_feedback_becomes_rows_to_train_on(server, tmp_path):
    texts_ = ["bo sat in rome 5", "no one [5]", "ann@example.org met bo"]
    kept = server.service.guards.recorder
    with refsynth.Client(server.url) as client:
        name = client.predict(texts_).request_id
        for row, marked in enumerate(("[bo](person) sat in [rome](place) 5", "no one [5]", "ann@example.org met [bo](person)")):
            client.feedback(name, row=row, marked=marked)
    with closing(
        PredictionRecord.open(str(tmp_path / "r.sqlite"), redact=lambda text: text.replace("ann@example.org", "[EMAIL]"))
    ) as record:
        record.add_predictions(
            Predicted(name, one.row, one.label, one.probability, one.abstain, one.version, one.tier, text=texts_[one.row])
            for one in kept.served
            if one.request_id == name
        )
        record.add_feedback([Feedback(*place, label) for place, label in kept.said.items() if place[0] == name])
        path = tmp_path / "feedback.parquet"
        assert export(record, path) == (2, 1)
    loaded = read_examples(path, labels=LABELS, columns=Columns(), spans="marked", least_labels=1)
    assert [(row.text, row.label) for row in loaded.examples] == [
        ("bo sat in rome 5", "0-1:person 3-4:place"),
        ("no one [5]", "(none)"),
    ]


def test_the_console_takes_marks_as_feedback(finished_crf, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    prepare({"record": str(tmp_path / "record.sqlite")})
    guards = compose({"record": str(tmp_path / "record.sqlite"), "keep_texts": True}, tmp_path)
    with running(finished_crf.bundle, guards=guards) as server, sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.url)
        page.fill("#text", "bo sat in rome [5]")
        page.click("#why")
        page.wait_for_selector("#parts .bar")
        page.wait_for_selector("#right-marks", state="visible")
        assert not page.locator("#right").is_visible()
        shown = page.input_value("#right-marks")
        assert read_marks(shown).text == "bo sat in rome [5]"
        assert "[rome](place)" in shown
        page.fill("#right-marks", shown.replace("[rome](place)", "rome"))
        page.click("#send")
        sync_api.expect(page.locator("#sent")).to_have_text("stored")
        sync_api.expect(page.locator("#given")).to_contain_text("instead of")
        browser.close()


def test_the_parts_that_are_refused_say_what_to_do(finished_crf, tmp_path, tiny_cache, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    ended, pool = str(finished_crf.evidence.folder.path), tmp_path / "rows.jsonl"
    write(pool, [{"text": "ann sat"}])
    for asked, remedy in (
        (["add", str(pool), "--run", ended], 'data.more in task.yaml: {"text": "[Ann Lee](person)'),
        (["next", str(pool), "--run", ended], 'data.more in task.yaml: {"text": "[Ann Lee](person)'),
        (["worth", ended], "compare runs, one with half of the rows"),
    ):
        refused = CliRunner().invoke(app, ["label", *asked]).exception
        assert isinstance(refused, InputError)
        assert remedy in str(refused)


@pytest.mark.parametrize(("name", "options"), [(name, ["--words"]) for name in ("marks.csv", "marks.jsonl", "places.jsonl")] + [
    ("tokens.jsonl", []), ("rows.conll", [])])  # fmt: skip
def test_init_notices_words(tmp_path, name, options):
    path = write(tmp_path / name, FORMS[name])
    said = CliRunner().invoke(app, ["init", str(tmp_path / "task"), "--from", str(path), *options])
    assert said.exit_code == 0, said.output
    config = RunConfig.load(tmp_path / "task" / "task.yaml")
    assert (config.task, set(config.labels), config.learners) == ("tokens", set(LABELS), TASK_KINDS["tokens"].learners)
    loaded = read_examples(path, labels=LABELS, columns=config.data.columns, spans="marked", least_labels=1)
    assert [row.label for row in loaded.examples] == ["0-2:person 5-6:place", "(none)"]


def test_init_says_what_it_misses(tmp_path):
    path = write(tmp_path / "rows.csv", ["text", "no marks"])
    none = CliRunner().invoke(app, ["init", str(tmp_path / "a"), "--from", str(path), "--words"])
    assert "no labels of words in column 'text'" in str(none.exception)
    for options in (["--labels", "a,b"], ["--from", str(path), "--pair-column", "b"]):
        wrong = CliRunner().invoke(app, ["init", str(tmp_path / "b"), "--words", *options])
        assert isinstance(wrong.exception, InputError)
