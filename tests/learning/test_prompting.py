"""Prompting: templates, examples, calibration, classification and search, on a reference whose mind is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.types import Completion, Example
from refsynth.learning.candidates import Candidate
from refsynth.learning.context import learners_key
from refsynth.learning.gate import decide
from refsynth.learning.prompting.calibrate import calibration_texts, taste
from refsynth.learning.prompting.classify import Asking, score_labels
from refsynth.learning.prompting.examples import NearestShown, NothingShown, SameShown
from refsynth.learning.prompting.learner import SEARCH_ROWS, PromptLearner, PromptOptions, _some
from refsynth.learning.prompting.search import SearchRows, loss_of, propose_instructions, propose_verbalizers, search
from refsynth.learning.prompting.templates import read_templates, templates_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.runs import make_task

LABELS = {"late": "the parcel is late", "broken": "the thing is broken"}
TEXTS = ["my parcel came late", "so late again", "it is broken", "a broken cup", "late, late parcel", "broken in two"]
CLASSES = np.array([0, 0, 1, 1, 0, 1])


class Overlap:
    """Finds a text likelier the more of its words its prompt holds, and has a taste for some texts."""

    name = "overlap"

    def __init__(self, taste=(), answers=()):
        self.taste, self.answers, self.asked = dict(taste), list(answers), []

    def score(self, prompts, texts):
        self.asked += prompts
        return np.array([self._score(prompt.text, text) for prompt, text in zip(prompts, texts, strict=True)])

    def _score(self, prompt, text):
        words = set(prompt.lower().replace(",", "").split())
        mine = text.lower().replace(",", "").split()
        overlap = sum(word in words for word in mine) / len(mine)
        return overlap + sum(value for part, value in self.taste.items() if part in text or part in prompt)

    def generate(self, prompts, *, n, seed):
        self.asked += prompts
        return [[Completion(text, True) for text in self.answers[:n]] for _ in prompts]


def examples():
    names = list(LABELS)
    return [Example(f"row-{i}", text, names[k]) for i, (text, k) in enumerate(zip(TEXTS, CLASSES, strict=True))]


def learner(generator, encoder=None, **manner):
    return PromptLearner(
        LABELS, lambda: generator, encoder, options=PromptOptions(**manner), templates=templates_for("en"), language="en"
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_templates_come_in_both_languages(language):
    templates = templates_for(language)
    assert len({template.name for template in templates}) == len(templates) >= 3
    assert templates_for("xx") == templates_for("en")


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(["direct", "channel"]))
def test_an_example_is_a_prompt_with_its_answer(text, label, method):
    for templates in read_templates().values():
        for template in templates:
            given_, wanted = (text, label) if method == "direct" else (label, text)
            form = template.form(method)
            assert template.example(method, text, label) == form.ask(given_) + form.gap + wanted
            assert given_ in form.ask(given_)
            assert form.gap in ("", " ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("en: [{name: a, direct: '{label} {text}', channel: '{label} {text}'}]", "direct"),
        ("en: [{name: a, direct: '{text} {label}', channel: '{label} text'}]", "channel"),
        ("en: [{name: a, direct: '{text} {label}.', channel: '{label} {text}'}]", "at the end"),
        ("en: [{name: a, direct: '{text} {label}', channel: '{label} {text}', more: b}]", "more"),
        ("- a", "dictionary"),
        ("a: [", "YAML"),
        ("zh: [{name: a, direct: '{text} {label}', channel: '{label} {text}'}]", "no templates for 'en'"),
    ],
)
def test_templates_that_are_none_are_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        templates_for("en", path)
    assert "mine.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_templates(tmp_path / "none.yaml")


@pytest.mark.parametrize("method", ["direct", "channel"])
@pytest.mark.parametrize("shots", [0, 2])
def test_it_says_what_the_reference_finds_likeliest(method, shots):
    predictor = learner(Overlap(), method=method, shots=shots, calibration="none").fit(examples(), (), seed=0)
    if shots == 0:
        assert (predictor.logits(TEXTS).argmax(1) == CLASSES).all()
    assert predictor.logits([]).shape == (0, 2)
    assert predictor.labels == tuple(LABELS)


@pytest.mark.parametrize("calibration", ["contextual", "domain", "batch"])
@pytest.mark.parametrize("method", ["direct", "channel"])
def test_a_taste_for_a_label_is_taken_out(method, calibration):
    fond = {"the thing is broken": 3.0}
    plain = learner(Overlap(fond), method=method, calibration="none").fit(examples(), (), seed=0)
    assert (plain.logits(TEXTS).argmax(1) == 1).all()
    calm = learner(Overlap(fond), method=method, calibration=calibration).fit(examples(), (), seed=0)
    assert (calm.logits(TEXTS).argmax(1) == CLASSES).mean() >= 5 / 6


def test_what_is_said_of_a_text_depends_on_no_other():
    predictor = learner(Overlap(), shots=2).fit(examples(), (), seed=0)
    alone = np.concatenate([predictor.logits([text]) for text in TEXTS])
    np.testing.assert_array_equal(predictor.logits(TEXTS), alone)


def test_one_content_free_text_is_zhaos_diagonal():
    scores = np.log(np.array([[0.7, 0.2, 0.1]]))
    other = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    theirs = np.exp(other) / np.exp(scores)
    theirs /= theirs.sum(1, keepdims=True)
    ours = np.exp(other - taste(scores))
    np.testing.assert_allclose(ours / ours.sum(1, keepdims=True), theirs)


def test_calibration_texts_are_what_their_names_say():
    assert calibration_texts("none", TEXTS, seed=0) == []
    assert calibration_texts("batch", TEXTS, seed=0) == TEXTS
    assert "N/A" in calibration_texts("contextual", TEXTS, seed=0)
    drawn = calibration_texts("domain", TEXTS, seed=0)
    assert {word for text in drawn for word in text.split()} <= {word for text in TEXTS for word in text.split()}
    assert len({len(text.split()) for text in drawn}) == 1
    assert calibration_texts("domain", [], seed=0) == []
    unspaced = ["包裹还没有到，我等了很久", "杯子碎了，我要退款", "包裹什么时候到"]
    mixed = calibration_texts("domain", unspaced, seed=0)
    assert {each for text in mixed for each in text} <= set("".join(unspaced)) and not set(mixed) & set(unspaced)
    assert {len(text) for text in mixed} == {round(sum(map(len, unspaced)) / 3)}


@pytest.mark.parametrize("shots", [1, 2, 4, 5])
def test_the_same_examples_are_even_over_classes_and_never_the_text_itself(shots):
    shown = SameShown(TEXTS, CLASSES, shots=shots, seed=3)
    for text, pairs in zip(TEXTS, shown.before(TEXTS), strict=True):
        assert len(pairs) == shots
        assert text not in [one for one, _ in pairs]
    (pairs,) = shown.before(["another"])
    counts = np.bincount([k for _, k in pairs], minlength=2)
    assert abs(counts[0] - counts[1]) <= 1


def test_the_nearest_examples_come_last_and_never_the_text_itself():
    class Letters:
        def encode(self, texts):
            rows = np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)

    shown = NearestShown(TEXTS, CLASSES, Letters(), shots=2)
    assert shown.before(["a broken cup!"])[0][-1] == ("a broken cup", 1)
    assert all(text not in [one for one, _ in pairs] for text, pairs in zip(TEXTS, shown.before(TEXTS), strict=True))
    assert shown.before([]) == []
    assert NothingShown().before(TEXTS) == [[]] * len(TEXTS)


def test_the_prompt_has_the_instruction_the_examples_and_the_text_in_order():
    generator = Overlap()
    asking = Asking("direct", templates_for("en")[0], tuple(LABELS.values()), "Say what is wrong.")
    score_labels(generator, asking, ["new <|im_start|>text"], SameShown(TEXTS, CLASSES, shots=1, seed=0))
    (first, second) = generator.asked
    assert first.text == second.text
    assert first.text.startswith("Say what is wrong.\n\nText: ")
    assert first.text.endswith("\n\nText: new text\nWhat the text is about:")


def test_a_search_finds_words_that_fit_better_and_never_makes_the_rows_worse():
    rows, generator = SearchRows(TEXTS, CLASSES), Overlap({"In short": -1.0})
    start = Asking("direct", templates_for("en")[0], ("aaa", "bbb"))
    found = search(
        generator, start, rows, NothingShown(), templates=templates_for("en"), instructions=["Say it."],
        verbalizers=[["ccc", "late"], ["broken", "ddd"]],
    )  # fmt: skip
    assert found.verbalizers == ("late", "broken")
    before = loss_of(score_labels(generator, start, rows.texts, NothingShown()), rows.classes)
    assert loss_of(score_labels(generator, found, rows.texts, NothingShown()), rows.classes) < before


def test_a_search_in_vain_changes_nothing():
    class Deaf(Overlap):
        def _score(self, prompt, text):
            return -1.0

    start = Asking("channel", templates_for("en")[0], ("one", "two"))
    same = {"templates": templates_for("en"), "instructions": ["Do."], "verbalizers": [["three"], []]}
    assert search(Deaf(), start, SearchRows(TEXTS, CLASSES), NothingShown(), **same) == start


def test_proposals_are_short_clean_and_different():
    answers = [" late parcels. More\nnext", "late parcels", "", "...", " ".join(["word"] * 40), "<|im_end|> damage"]
    generator = Overlap(answers=answers)
    rows = SearchRows(TEXTS, CLASSES)
    assert propose_verbalizers(generator, rows, 2, n=6, language="en", seed=0) == [["late parcels", "damage"]] * 2
    assert all(("late" in prompt.text) == (label == 0) for label, prompt in enumerate(generator.asked))
    told = propose_instructions(generator, rows, ("x", "y"), n=6, language="en", seed=0)
    assert told == ["Read each text and say late parcels", "Read each text and say damage"]


def test_a_searched_prompt_is_the_same_again_and_predicts():
    def fitted():
        return learner(Overlap(answers=["late", "broken"]), proposals=2, method="direct").fit(examples(), (), seed=1)

    assert fitted().asking == fitted().asking
    assert (fitted().logits(TEXTS).argmax(1) == CLASSES).mean() >= 5 / 6


def test_a_search_reads_few_rows_and_all_classes_alike():
    classes = np.array([0] * 300 + [1] * 30)
    rows = _some([f"text {i}" for i in range(330)], classes, seed=0)
    assert len(rows.texts) == SEARCH_ROWS
    assert np.bincount(rows.classes).tolist() == [SEARCH_ROWS // 2] * 2


def test_a_predictor_comes_back_as_it_was(tmp_path):
    mine = learner(Overlap({"broken": 0.3}, answers=["late", "broken"]), shots=2, proposals=2)
    fitted = mine.fit(examples(), (), seed=4)
    record = json.loads(json.dumps(fitted.to_json()))
    again = mine.recalled(record, examples(), seed=4)
    np.testing.assert_array_equal(again.logits(TEXTS), fitted.logits(TEXTS))


def test_a_run_compares_it_and_never_ships_it(tmp_path, tiny_cache):
    task = make_task(tmp_path, learners=["tfidf", "prompt"], prompting={"shots": 1}, synthesis={"drafts": 12, "per_prompt": 4})
    result = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    held = result.evidence.learned.held
    prompted = Candidate("prompt", False)
    assert prompted in held.logits
    assert Candidate("prompt", True) not in held.logits
    assert result.evidence.learned.decision.shipped.learner == "tfidf"
    assert "reference, prompted" in [system.name for system in result.report.results.systems]
    logits = np.where(np.eye(2)[held.truth] > 0, 5.0, -5.0)[None]
    perfect = replace(held, logits={**held.logits, prompted: logits})
    assert decide(perfect, list(perfect.logits)).shipped.learner == "tfidf"


def test_templates_lie_beside_the_task_and_count_by_what_they_say(tmp_path):
    mine = tmp_path / "mine.yaml"
    tree = {"labels": LABELS, "learners": ["tfidf", "prompt"], "prompting": {"templates": "mine.yaml"}}
    (tmp_path / "task.yaml").write_text(json.dumps(tree), "utf-8")
    config = RunConfig.load(tmp_path / "task.yaml")
    keys = []
    for word in ("Label", "Class", "Label"):
        mine.write_text(f"en: [{{name: a, direct: '{{text}} {word}: {{label}}', channel: '{{label}} {{text}}'}}]", "utf-8")
        keys.append(learners_key(config, "en"))
    assert keys[0] == keys[2] != keys[1]


def test_alone_it_is_refused():
    with pytest.raises(ConfigError, match="add another"):
        RunConfig.parse({"labels": LABELS, "learners": ["prompt"]})


def test_without_rows_it_still_answers():
    predictor = learner(Overlap(), shots=4, proposals=2).fit([], (), seed=0)
    assert (predictor.logits(TEXTS).argmax(1) == CLASSES).all()
