"""Ensembles: what they say against closed forms; fit, save, load and the same answers; a run that ships one model of them."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

import refsynth
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError
from refsynth.core.learners import LEARNERS
from refsynth.core.task import Task
from refsynth.core.types import Example, Provenance
from refsynth.learning import ensemble
from refsynth.learning.candidates import Candidate
from refsynth.learning.context import make_context
from refsynth.learning.ensemble import EnsembleLearner, RememberedLearner, joined, stack_weights
from refsynth.learning.head import NEVER
from refsynth.learning.makers import make_learners
from refsynth.learning.parts import fair_parts
from refsynth.learning.tuning.soup import SoupLearner, mixed
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.runs import make_task
from tests.support.tiny_encoder import MAX_TOKENS

LABELS = ("late", "broken", "other")
TEXTS = {
    "late": ["where is my order", "my order is late", "no sign of my order yet", "is my order on its way"],
    "broken": ["the lamp is broken", "a broken mug came", "it arrived in pieces", "the shade has a crack"],
}
TRAIN = [Example(f"row-{i}-{label}", text, label) for label, texts in TEXTS.items() for i, text in enumerate(texts)]
DEV = [Example("dev-1", "order late", "late"), Example("dev-2", "broken in pieces", "broken")]
ASKED = [example.text for example in TRAIN] + ["", "?" * 500, "全く別の"]
NAMES = ("soup", "average", "stacking", "distilled")

values = st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def context(tiny_folder):
    tree = {
        "labels": list(LABELS),
        "learners": ["tfidf", "frozen", *NAMES],
        "training": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
        "ensemble": {"folds": 2, "seeds": 2},
    }
    return make_context(Task.of(RunConfig.parse(tree)), "en", tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def fitted(context):
    learners = make_learners(context, ["tfidf", "frozen", *NAMES])
    return {name: learners[name].fit(TRAIN, DEV, seed=0) for name in NAMES}


@given(values)
def test_an_average_is_the_mean_of_probabilities(said):
    said = np.array(said)[:, None]
    np.testing.assert_allclose(softmax(joined(said, "softmax", None), -1), softmax(said, -1).mean(0), atol=1e-9)
    np.testing.assert_allclose(expit(joined(said, "sigmoid", None)), expit(said).mean(0), atol=1e-9)


def test_a_stack_is_a_product_of_probabilities_with_exponents():
    said = np.array([[[1.0, 0.0, -1.0]], [[0.0, 2.0, 0.0]]])
    shares = softmax(said, -1)
    product = shares[0] ** 0.3 * shares[1] ** 2.0
    np.testing.assert_allclose(
        softmax(joined(said, "softmax", np.array([0.3, 2.0])), -1), product / product.sum(-1, keepdims=True)
    )


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_stack_finds_the_weights_that_made_the_truth(link):
    """Answers drawn from 0.7 x the first member's logits, nothing of the second's: an independent maximum of the likelihood."""
    rng = np.random.default_rng(0)
    said = rng.normal(size=(2, 20_000, 3))
    made = 0.7 * said[0]
    if link == "softmax":
        targets = np.eye(3)[[rng.choice(3, p=row) for row in softmax(made, -1)]]
    else:
        targets = (rng.random(made.shape) < expit(made)).astype(float)
    np.testing.assert_allclose(stack_weights(said, targets, link), [0.7, 0.0], atol=0.04)


def test_weights_stay_finite_where_all_are_always_right():
    said = 8.0 * np.stack([np.eye(2), np.eye(2)])
    assert stack_weights(said, np.eye(2), "softmax").max() <= ensemble.MOST_WEIGHT


class Tells:
    """A learner that remembers what it was fitted to, and knows the label of just these rows."""

    def __init__(self):
        self.asked = []

    def fit(self, train, dev, *, seed):
        self.asked.append(({row.id for row in train}, {row.id for row in dev}, seed))
        known = {row.text: LABELS.index(row.label) for row in train}
        return Knows(known)


class Knows:
    labels = LABELS

    def __init__(self, known):
        self._known = known

    def logits(self, texts):
        return np.array([9.0 * np.eye(3)[self._known[text]] if text in self._known else np.zeros(3) for text in texts])


def test_a_stack_asks_about_rows_that_nobody_was_fitted_to_nor_any_draft_that_saw_them():
    """A member that learns rows by heart says nothing of them held out, and its weight cannot tell."""
    draft = Example("draft-1", "some other order", "late", Provenance("p", ("row-0-late",), 0, "r"))
    first, second = Tells(), Tells()
    learner = EnsembleLearner(
        LABELS, {"tfidf": RememberedLearner(first), "lora": RememberedLearner(second)}, rule="stacking", folds=2
    )
    learner.fit([*TRAIN, draft], DEV, seed=0)
    whole, *folds = first.asked
    assert whole[0] == {row.id for row in (*TRAIN, draft, *DEV)}
    rows = {row.id for row in TRAIN}
    assert len(folds) == 2
    held = [rows - told for told, _, _ in folds]
    assert set.union(*held) == rows and not set.intersection(*held)
    for told, _, _ in folds:
        assert ("draft-1" in told) == ("row-0-late" in told)
    assert all(dev == {row.id for row in DEV} and not dev & told for told, dev, _ in second.asked)  # lora is told when to stop


def test_a_member_is_not_fitted_twice_for_the_same():
    member = Tells()
    remembered = RememberedLearner(member)
    assert remembered.fit(TRAIN, (), seed=0) is remembered.fit(TRAIN, (), seed=0)
    remembered.fit(TRAIN, (), seed=1)
    assert len(member.asked) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_same_fit_gives_the_same(name, fitted, context):
    again = make_learners(context, ["tfidf", "frozen", *NAMES])[name].fit(TRAIN, DEV, seed=0)
    np.testing.assert_allclose(again.logits(ASKED), fitted[name].logits(ASKED), atol=1e-6)


def test_the_student_says_what_its_teachers_say(context, fitted, monkeypatch):
    """More than the member that it began as does."""
    monkeypatch.setattr(ensemble, "TRANSFER", ensemble.TRANSFER._replace(steps=150, rate=3e-3))
    teacher = fitted["average"]
    student = make_learners(context, ["tfidf", "frozen", *NAMES])["distilled"].fit(TRAIN, DEV, seed=0)
    texts = [row.text for row in TRAIN]
    goal = softmax(teacher.logits(texts), -1)
    first = teacher.members["soup"]
    apart = [np.abs(softmax(model.logits(texts), -1) - goal).mean() for model in (student, first)]
    assert apart[0] < apart[1] / 2


def models_of(encoder, count):
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        own = copy.deepcopy(encoder)
        with torch.no_grad():
            for parameter in own.parameters():
                parameter.add_(0.01 * number)
        made.append(EncoderPredictor(LABELS, own, LinearHead(rng.normal(size=(own.dimension, 3)), rng.normal(size=3))))
    return made


def test_a_soup_is_the_mean_of_all_weights(context):
    models = models_of(context.encoder, 3)
    soup = mixed(models)
    for name, value in soup.encoder.state_dict().items():
        parts = [model.encoder.state_dict()[name].double() for model in models]
        torch.testing.assert_close(value.double(), torch.stack(parts).mean(0), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(soup.head.weights, np.mean([model.head.weights for model in models], axis=0))
    np.testing.assert_allclose(soup.head.bias, np.mean([model.head.bias for model in models], axis=0))


class Makes:
    def __init__(self, models):
        self._models = list(models)

    def fit(self, train, dev, *, seed):
        return self._models.pop(0)


def head_for(encoder, sign):
    """A head that is sure of the right label of the rows set aside, or with a sign of -1 of the wrong one."""
    right, wrong = encoder.encode([DEV[0].text])[0], encoder.encode([DEV[1].text])[0]
    weights = np.zeros((encoder.dimension, 3))
    weights[:, 0], weights[:, 1] = sign * 40 * (right - wrong), sign * 40 * (wrong - right)
    return LinearHead(weights, np.zeros(3))


@pytest.mark.parametrize(("greedy", "dev", "taken"), [(True, DEV, [1.0]), (False, DEV, [1.0, -0.5]), (True, (), [1.0, -0.5])])
def test_a_greedy_soup_leaves_out_what_makes_it_worse(context, greedy, dev, taken):
    models = [EncoderPredictor(LABELS, context.encoder, head_for(context.encoder, sign)) for sign in (-0.5, 1.0)]
    soup = SoupLearner(Makes(models), seeds=2, greedy=greedy).fit(TRAIN, dev, seed=0)
    np.testing.assert_allclose(soup.head.weights, head_for(context.encoder, float(np.mean(taken))).weights, atol=1e-9)


def test_a_soup_needs_models_of_weights():
    with pytest.raises(InputError, match="a soup of Knows"):
        SoupLearner(Makes([Knows({})] * 2), seeds=2).fit(TRAIN, (), seed=0)


def test_one_learner_is_no_ensemble():
    with pytest.raises(InputError, match="at least two"):
        EnsembleLearner(LABELS, {"tfidf": RememberedLearner(Tells())}, rule="average")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"learners": ["average", "frozen"]}, "average joins the other learners, and needs two"),
        ({"learners": ["stacking", "prompt", "tfidf"]}, "stacking joins"),
        ({"learners": ["distilled", "tfidf", "houlsby"]}, "distilled starts from the encoder of another"),
        ({"learners": ["average", "tfidf", "frozen"], "ensemble": {"soups": "greedy"}}, "did you mean 'soup'"),
        ({"learners": ["soup"], "ensemble": {"seeds": 1}}, "ensemble.seeds"),
        (
            {"task": "multilabel", "data": {"train": "a.csv"}, "learners": ["distilled", "tfidf", "frozen"]},
            "distilled learns one label",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        RunConfig.parse({"labels": ["a", "b"], **tree})


def test_a_run_compares_ensembles_and_ships_one_model(tmp_path, tiny_cache, monkeypatch):
    monkeypatch.setattr(ensemble, "TRANSFER", ensemble.TRANSFER._replace(steps=5))
    task = make_task(
        tmp_path / "data",
        learners=["tfidf", "frozen", "average", "stacking", "distilled"],
        ensemble={"folds": 2, "teacher": "stacking"},
    )
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    candidates = done.evidence.learned.held.logits
    assert {candidate.learner for candidate in candidates} == set(task.config.learners)
    assert Candidate("average", True) in candidates
    assert done.evidence.learned.final.candidates == (done.evidence.learned.decision.shipped,)
    assert LEARNERS[done.evidence.learned.decision.shipped.learner].ships
    assert {"average of all learners", "stack of all learners"} <= {system.name for system in done.report.results.systems}
    assert refsynth.load(done.bundle).predict(["my parcel is late"])


def test_an_ensemble_of_label_sets(tmp_path, tiny_folder):
    tree = {
        "task": "multilabel",
        "labels": list(LABELS),
        "data": {"train": "rows.jsonl"},
        "learners": ["tfidf", "frozen", "average", "stacking", "soup"],
        "training": {"epochs": 1},
        "ensemble": {"folds": 2, "seeds": 2},
    }
    context = make_context(Task.of(RunConfig.parse(tree)), "en", tiny_folder, max_tokens=MAX_TOKENS)
    rows = [*TRAIN, Example("both", "my broken order is late", "late + broken"), Example("none", "thank you", "(none)")]
    for name, learner in make_learners(context, ["tfidf", "frozen", "average", "stacking", "soup"]).items():
        said = learner.fit(rows, (), seed=0).logits(["late and broken"])
        assert said.shape == (1, 3) and np.isfinite(said).all(), name


class Noted:
    """Says what it is given for each text, but of a class that its rows lack the least there is, whatever the text."""

    def __init__(self, said):
        self._said = said

    def fit(self, train, dev, *, seed):
        met = {row.label for row in train}
        never = np.array([0.0 if label in met else NEVER for label in LABELS])
        said = self._said
        return SimpleNamespace(logits=lambda texts: np.array([said[text] + never for text in texts]))


def test_a_row_whose_label_no_other_row_has_does_not_weigh_the_members():
    rng = np.random.default_rng(3)
    rows = [Example(f"row-{i}", f"{LABELS[i % 2]} {rng.integers(10**9)}", LABELS[i % 2]) for i in range(24)]
    sharp = {row.text: 3.0 * (np.array(LABELS) == row.label) + rng.normal(size=3) for row in rows}
    vague = {text: rng.normal(size=3) for text in sharp}
    alone = Example("row-24", "something else altogether", "other")
    for said in (sharp, vague):
        said[alone.text] = np.array([1.0, 0.0, 0.0])

    def weights(train):
        members = {"tfidf": RememberedLearner(Noted(sharp)), "lora": RememberedLearner(Noted(vague))}
        return EnsembleLearner(LABELS, members, rule="stacking", folds=3).fit(train, (), seed=0).weights

    # Not the same to the last digit: the row is in the training part of the other folds. Where it took part it was 0.2.
    assert weights(rows)[0] > 1
    assert weights([*rows, alone])[0] > 1


def test_a_stack_weighs_all_alike_where_no_row_can_tell_them_apart():
    """Each label has one row: where this is held out, nobody has met its label."""
    rows = [Example(f"row-{label}", f"{label} {label * 9}", label) for label in LABELS]
    said = {row.text: np.arange(3.0) for row in rows}
    members = {"tfidf": RememberedLearner(Noted(said)), "lora": RememberedLearner(Noted(said))}
    made = EnsembleLearner(LABELS, members, rule="stacking", folds=3).fit(rows, (), seed=0)
    np.testing.assert_array_equal(made.weights, [0.5, 0.5])


def test_rows_beside_which_one_label_is_left_tell_nothing():
    """A model of rows of one label says this label, whatever the text."""
    rows = [Example(f"row-{i}", f"text {i}", label) for i, label in enumerate(["late", "late", "late", "broken"])]
    found = fair_parts(rows, np.array([0, 0, 1, 1]), LABELS, link="softmax")
    assert [(part.fold, places.tolist()) for part, places in found] == [(0, [0, 1])]
