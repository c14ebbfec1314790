"""The trainer: what counts how much, the same gradient however it is computed, and the same end after a kill."""

import json
import os
import signal
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refsynth.bundle.model import load
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.files import write_jsonl
from refsynth.core.labelset import join_labels
from refsynth.core.task import Task
from refsynth.core.types import Example, Provenance
from refsynth.learning.candidates import Fitter, fit_candidates, set_aside
from refsynth.learning.context import make_context
from refsynth.learning.makers import make_learner
from refsynth.learning.tuning.batches import bucketed
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import Size
from refsynth.learning.tuning.objective import Objective, Robust
from refsynth.learning.tuning.schedule import Tuner
from refsynth.learning.tuning.trainer import Trainer, TrainingRecipe
from refsynth.learning.tuning.validation import faults_of
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support.learners import LABELS, TRAIN
from tests.support.tiny_encoder import MAX_TOKENS

ORIGIN = Provenance("p", (), 0, "echo")
EXACT = {"bfloat16": False}


@pytest.fixture
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS).eval()


@given(st.lists(st.integers(1, 128), min_size=1, max_size=300), st.integers(1, 20), st.integers(0, 9))
def test_bucketed_batches_hold_every_row_once(lengths, size, seed):
    batches = bucketed(lengths, size=size, seed=seed)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size)


def test_bucketed_batches_pad_little_and_change_with_the_seed():
    lengths = np.random.default_rng(0).integers(4, 128, 640)

    def padded(batches):
        return sum(len(batch) * max(lengths[batch]) for batch in batches)

    batches = bucketed(lengths, size=16, seed=0)
    plain = np.split(np.random.default_rng(1).permutation(640), 40)
    assert padded(batches) / lengths.sum() < 1.1 < 1.5 < padded(plain) / lengths.sum()
    assert not np.array_equal(np.concatenate(batches), np.concatenate(bucketed(lengths, size=16, seed=1)))


def gradient(encoder, examples, *, passes=1, share=None, **options):
    """Return the gradient of one step over all examples, at a head that is not zero."""
    torch.manual_seed(0)
    head = torch.nn.Linear(encoder.dimension, len(LABELS))
    encoder.zero_grad()
    objective = Objective(encoder, head, examples, LABELS, **options)
    rows = np.arange(len(examples))
    for loss in objective.passes(rows[share or slice(None)], passes=passes, of=len(rows)):
        loss().backward()
    return torch.cat([p.grad.flatten() for module in (encoder, head) for p in module.parameters() if p.grad is not None])


def test_a_weight_is_as_many_rows(encoder):
    """Of drafts, whose weights count: the sum of losses over rows, of which one is there twice."""
    once = [replace(row, provenance=ORIGIN) for row in TRAIN[:3]]
    weighed, repeated = [replace(once[0], weight=2.0), *once[1:]], [once[0], *once]
    torch.testing.assert_close(gradient(encoder, weighed), gradient(encoder, repeated), rtol=1e-4, atol=1e-5)


def test_soft_targets_are_the_mean_of_the_losses_of_the_classes(encoder):
    soft = [replace(TRAIN[0], targets=(0.7, 0.3, 0.0))]
    hard = [gradient(encoder, [replace(TRAIN[0], label=label)]) for label in LABELS[:2]]
    torch.testing.assert_close(gradient(encoder, soft), 0.7 * hard[0] + 0.3 * hard[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("passes", [2, 3, 8, 50])
def test_passes_add_up_to_the_step(passes, encoder):
    torch.testing.assert_close(gradient(encoder, TRAIN, passes=passes), gradient(encoder, TRAIN), rtol=1e-4, atol=1e-5)


def test_the_shares_of_a_crew_add_up_to_the_step(encoder):
    shares = [gradient(encoder, TRAIN, share=slice(rank, None, 3)) for rank in range(3)]
    torch.testing.assert_close(sum(shares), gradient(encoder, TRAIN), rtol=1e-4, atol=1e-5)


def test_activations_computed_again_give_the_same_model(encoder):
    recipe = TrainingRecipe(epochs=2, batch_size=4, **EXACT)
    kept, again = (
        FinetuneLearner(LABELS, encoder, recipe=recipe, dropout=0.1, checkpointing=checkpointing).fit(TRAIN, (), seed=1)
        for checkpointing in (False, True)
    )
    texts = [row.text for row in TRAIN]
    np.testing.assert_allclose(again.logits(texts), kept.logits(texts), atol=1e-4)


@pytest.mark.parametrize(("rows", "epochs"), [(0, 20), (1500, 20), (3000, 10), (9000, 3), (10**6, 3)])
def test_of_many_rows_each_is_read_less_often(rows, epochs):
    assert TrainingRecipe().epochs_of(rows) == epochs
    assert TrainingRecipe(epochs=7).epochs_of(rows) == 7


def test_the_rate_rises_and_falls():
    module = torch.nn.Linear(2, 2)
    tuner = Tuner([module], rate=1.0, steps=10, warmup=0.2, bfloat16=False)
    rates = []
    for _ in range(10):
        tuner.step(lambda: module(torch.ones(1, 2)).sum())
        rates.append(tuner._optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


class Parabola:
    """The loss (w - 3)^2 / 2, whose course under any schedule can be told."""

    lengths = (1, 1)

    def __init__(self, module):
        self.module = module

    def passes(self, rows, *, passes, of):
        del rows, passes, of
        yield lambda: (self.module.weight - 3).pow(2).sum() / 2


def course(averaging):
    """Return the weights after each of 8 steps, one an epoch, and those that training ends with."""
    module, seen = torch.nn.Linear(1, 1, bias=False), []
    torch.nn.init.zeros_(module.weight)

    def look():
        seen.append(module.weight.detach().clone())
        return (-float(len(seen)),)

    recipe = TrainingRecipe(epochs=8, batch_size=2, learning_rate=0.1, averaging=averaging, **EXACT)
    Trainer(module, torch.nn.Identity(), recipe, seed=0).fit(Parabola(module), look)
    return seen, module.weight.detach()


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_the_average_is_that_of_the_weights(averaging):
    """By hand: decays (1 + t) / (10 + t), or the mean of the last quarter."""
    weights, last = course("none")
    torch.testing.assert_close(last, weights[-1])
    expected = torch.stack(weights[5:]).mean(0)
    if averaging == "ema":
        expected = weights[0]
        for t, weight in enumerate(weights[1:], start=1):
            keep = (1 + t) / (10 + t)
            expected = keep * expected + (1 - keep) * weight
    torch.testing.assert_close(course(averaging)[1], expected)


def test_training_does_not_stop_before_there_is_an_average():
    """By hand: the best single epoch is the first, the average begins after six of eight and is kept however it looks."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    plain, calls = course("none")[0], []

    def told():
        calls.append(module.weight.detach().clone())
        return (float(len(calls)),)  # worse and worse

    recipe = TrainingRecipe(epochs=8, batch_size=2, learning_rate=0.1, patience=2, averaging="swa", **EXACT)
    Trainer(module, torch.nn.Identity(), recipe, seed=0).fit(Parabola(module), told)
    torch.testing.assert_close(module.weight.detach(), plain[5])
    assert len(calls) == 8


def test_training_stops_early_and_keeps_the_best(encoder):
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    losses, seen = iter([5.0, 4.0, 6.0, 7.0, 1.0]), []

    def told():
        seen.append(module.weight.detach().clone())
        return (next(losses),)

    Trainer(
        module, torch.nn.Identity(), TrainingRecipe(epochs=9, batch_size=2, learning_rate=0.1, patience=2, **EXACT), seed=0
    ).fit(Parabola(module), told)
    assert len(seen) == 4
    torch.testing.assert_close(module.weight.detach(), seen[1])


class Says:
    """A predictor that says what it is given."""

    def __init__(self, labels, logits):
        self.labels, self._logits = labels, logits

    def logits(self, texts):
        assert len(texts) == len(self._logits)
        return self._logits


def test_faults_are_errors_and_the_loss_of_a_decision():
    """By hand, for each kind of task: logits of 0 say nothing, those of 50 are certain."""
    rows = [Example(f"r{i}", "x y", label) for i, label in enumerate("aabb")]
    found = faults_of(Says(("a", "b"), np.array([[50.0, 0], [0, 0], [50, 0], [0, 50]])), rows, link="softmax")
    assert found == pytest.approx((1 / 4, (np.log(2) + 27.631021) / 4), abs=1e-6)  # what is all but impossible counts 1e-12
    rows = [Example("r0", "x", "a"), Example("r1", "x", join_labels(["a", "b"], ["a", "b"]))]
    found = faults_of(Says(("a", "b"), np.array([[50.0, -50], [50, 0]])), rows, link="sigmoid")
    assert found == pytest.approx((0.0, np.log(2) / 4))
    logits = np.empty(2, object)
    logits[:] = [np.array([[0.0, 50, 0], [50, 0, 0]]), np.array([[50.0, 0, 0], [0, 50, 0]])]
    rows = [Example("r0", "x y", "0-1:a"), Example("r1", "x y", "0-1:a")]
    errors, loss = faults_of(Says(("a",), logits), rows, link="tags")
    assert (errors, loss) == pytest.approx((1 / 2, 2 * 27.631021 / 4), abs=1e-6)  # one of two spans is at another word


def test_of_epochs_that_err_alike_the_one_with_the_lower_loss_is_kept():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    faults, seen = iter([(0.2, 0.5), (0.1, 0.9), (0.1, 0.8), (0.3, 0.1), (0.1, 0.8)]), []

    def told():
        seen.append(module.weight.detach().clone())
        return next(faults)

    Trainer(
        module, torch.nn.Identity(), TrainingRecipe(epochs=9, batch_size=2, learning_rate=0.1, patience=2, **EXACT), seed=0
    ).fit(Parabola(module), told)
    assert len(seen) == 5
    torch.testing.assert_close(module.weight.detach(), seen[2])


def fit_long(encoder, method, checkpoints):
    """Fit with everything that has a state: order, dropout, mixup, moments, averages, ranks, early stopping."""
    rows = [
        Example(f"row-{i}", f"the {word} text {i}", label) for i in range(12) for label, word in (("a", "red"), ("b", "blue"))
    ]
    learner = FinetuneLearner(
        ("a", "b"),
        encoder,
        method=method,
        recipe=TrainingRecipe(epochs=6, batch_size=4, learning_rate=1e-3, averaging="ema", bfloat16=False),
        size=Size(rank=2),
        robust=Robust(mixup=0.2, adversarial=0.1),
        checkpoints=checkpoints,
        every=0.0,
    )
    return learner.fit(rows[:16], rows[16:], seed=3).logits([row.text for row in rows])


@pytest.mark.parametrize("method", ["finetune", "adalora"])
def test_a_killed_fit_goes_on_and_ends_the_same(method, encoder, tmp_path, monkeypatch, request):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a child that is forked from a process with a pool of threads may not use the pool
    request.addfinalizer(partial(torch.set_num_threads, threads))
    whole = fit_long(encoder, method, None)
    plain, deadly = Trainer._save, 13  # of 24 steps, in the middle of an epoch

    def save(self, path, tuner):
        plain(self, path, tuner)
        if tuner.taken == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Trainer, "_save", save)
    child = get_context("fork").Process(target=fit_long, args=(encoder, method, tmp_path))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    steps = []
    monkeypatch.setattr(Trainer, "_save", lambda self, path, tuner: steps.append(tuner.taken))
    np.testing.assert_array_equal(fit_long(encoder, method, tmp_path), whole)
    assert steps[0] == deadly + 1
    assert list(tmp_path.iterdir()) == []


def test_rows_that_tell_when_to_stop_are_a_fold_of_their_own():
    rows = [Example(f"row-{i}", f"text number {i} of {i * 7919}", "ab"[i % 2]) for i in range(100)]
    train, told = set_aside(rows, 0.15, seed=0)
    assert len(told) == pytest.approx(15, abs=3)
    assert {row.label for row in told} == {"a", "b"}
    assert sorted(row.id for row in (*train, *told)) == sorted(row.id for row in rows)
    assert set_aside(rows[:40], 0.15, seed=0) == (rows[:40], [])
    rare = [Example(f"rare-{i}", f"an unusual thing {i} of which there are few", "rare") for i in range(2)]
    for seed in range(5):
        train, told = set_aside([*rare, *rows], 0.15, seed=seed)
        assert sum(row.label == "rare" for row in train) == 2 and len(told) >= 12
    assert set_aside(rows, 0.0, seed=0) == (rows, [])


def test_near_duplicates_stay_on_one_side():
    text = "the quick brown fox jumps over the lazy dog and then it sleeps for a very long while number"
    rows = [Example(f"row-{i}", f"{text} {i // 50}" if i < 60 else f"another {i * 7919}", "ab"[i % 2]) for i in range(120)]
    train, told = set_aside(rows, 0.2, seed=0)
    assert told
    assert not {row.text for row in train} & {row.text for row in told}


class Recorder:
    """A learner that notes what it was given."""

    def __init__(self):
        self.calls = []

    def fit(self, train, dev, *, seed):
        self.calls.append(({row.id for row in train}, {row.id for row in dev}))
        return self

    labels = ("a", "b")

    def logits(self, texts):
        return np.zeros((len(texts), 2))


def test_what_has_seen_a_row_that_tells_when_to_stop_does_not_train():
    from refsynth.core.types import Draft

    rows = [Example(f"row-{i}", f"text number {i} of {i * 7919}", "ab"[i % 2]) for i in range(100)]
    drafts = [Draft(Example(f"draft-{i}", f"draft {i}", "a", Provenance("p", (f"row-{i}",), 0, "echo"))) for i in range(100)]
    learners = {"lora": Recorder(), "tfidf": Recorder()}
    fit_candidates(Fitter.of(learners, rows, seed=0, share=0.15), drafts, lambda judge, real, found: list(found))
    for train, dev in learners["lora"].calls:
        assert dev and not dev & train
        assert not {f"draft-{each.removeprefix('row-')}" for each in dev} & train
    assert len(learners["lora"].calls[1][0]) == 2 * len(learners["lora"].calls[0][0])
    assert [len(dev) for _, dev in learners["tfidf"].calls] == [0, 0]
    assert len(learners["tfidf"].calls[1][0]) == 200


def test_what_was_rewarded_by_rows_or_labeled_by_a_model_of_them_trains_beside_those_that_tell_when_to_stop():
    from refsynth.core.types import Draft
    from refsynth.learning.selftrain import PROMPT

    rows = [Example(f"row-{i}", f"text number {i} of {i * 7919}", "ab"[i % 2]) for i in range(100)]
    all_rows = tuple(row.id for row in rows)
    rewarded = Provenance("p", ("row-1",), 0, "echo", rewarded_by=all_rows)
    drafts = [Draft(Example(f"draft-{i}", f"draft {i}", "a", rewarded)) for i in range(9)]
    drafts += [Draft(Example("pool-1", "from the pool", "a", Provenance(PROMPT, all_rows, 0, PROMPT)))]
    for seed in range(5):
        learner = Recorder()
        fit_candidates(Fitter.of({"lora": learner}, rows, seed=seed, share=0.15), drafts, lambda judge, real, found: list(found))
        (alone, told), (train, _) = learner.calls
        assert len(train - alone) == (1 if "row-1" in told else 10)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": 0}, "training.epochs"),
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"precision": "float16"}, "training.precision"),
        ({"rdrop": 1, "mixup": 1}, "use one of them"),
        ({"rdrop": 1, "dropout": 0}, "rdrop needs dropout"),
        ({"averaging": "mean"}, "training.averaging"),
    ],
)
def test_wrong_settings_are_named(training, message):
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"labels": ["a", "b"], "training": training})
    assert message in str(caught.value)


def test_layers_with_a_prefix_are_not_computed_again():
    with pytest.raises(ConfigError, match="prefix_tuning"):
        RunConfig.parse(
            {"labels": ["a", "b"], "training": {"gradient_checkpointing": True}, "learners": ["frozen", "prefix_tuning"]}
        )


def test_bfloat16_is_refused_where_it_is_slow(tiny_folder, monkeypatch):
    monkeypatch.setattr("refsynth.learning.context.has_bfloat16", lambda device: False)
    task = Task.of(RunConfig.parse({"labels": ["a", "b"], "training": {"precision": "bfloat16"}}))
    with pytest.raises(ConfigError, match="bfloat16"):
        make_context(task, "en", tiny_folder, max_tokens=24)


def test_every_setting_reaches_the_learner(tiny_folder):
    """Each key of `training` changes what the learner is known by, but `validation` and what the encoder reads of a text."""
    from refsynth.core.sections import TrainingConfig
    from refsynth.learning.context import LEARNERS

    changed = {
        "epochs": 2, "batch_size": 3, "learning_rate": 0.5, "warmup_ratio": 0.3, "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True, "precision": "float32", "patience": 7, "rank": 3, "virtual_tokens": 5, "bottleneck": 6,
        "dropout": 0.4, "weight_decay": 0.7, "label_smoothing": 0.2, "mixup": 0.3, "adversarial": 0.6, "rdrop": 0.8,
        "averaging": "swa",
    }  # fmt: skip
    assert changed.keys() == TrainingConfig.model_fields.keys() - {"validation", "max_tokens", "windows"}
    usual = known(tiny_folder, {})
    assert all(known(tiny_folder, {key: value}) != usual for key, value in changed.items())
    assert LEARNERS["lora"] is not None


def known(folder, training):

    task = Task.of(RunConfig.parse({"labels": ["a", "b"], "training": training}))
    return json.dumps(make_learner("lora", make_context(task, "en", folder, max_tokens=24))._key, default=str)


def test_a_run_ships_what_was_fine_tuned(tmp_path, tiny_cache):
    """From task.yaml to a bundle and a report, with a method that is merged and one that is not; and nothing left behind."""
    words = {"late": ["late", "order", "where"], "broken": ["broken", "pieces", "crack"]}
    rng = np.random.default_rng(0)
    rows = [
        {"text": " ".join(rng.choice(words[label], 3)) + f" {rng.integers(10**6)}", "label": label}
        for label in words
        for _ in range(24)
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    tree = {
        "language": "en",
        "labels": list(words),
        "data": {"train": str(tmp_path / "train.jsonl")},
        "synthesis": {"drafts": 0},
        "learners": ["lora", "houlsby"],
        "training": {"epochs": 3, "validation": 0.35, "label_smoothing": 0.1, "averaging": "ema"},
        "gate": {"folds": 2},
    }
    result = run(Task.of(RunConfig.parse(tree)), tmp_path / "out", store=ModelStore(tiny_cache))
    assert result.evidence.learned.decision.shipped.learner in ("lora", "houlsby")
    assert "LoRA" in result.paths.markdown.read_text("utf-8")
    predictions = load(result.bundle).predict(["the order is late", "broken in pieces"])
    assert {prediction.label for prediction in predictions} <= words.keys()
    assert not list((tmp_path / "out" / "checkpoints").glob("*"))
