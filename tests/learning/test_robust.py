"""Robust training against its formulas, computed another way."""

import os
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy as torch_cross_entropy

from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.objective import SCALE, Objective, Robust, cross_entropy, symmetric_divergence
from refsynth.learning.tuning.schedule import ProcessGroup
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from tests.support.learners import LABELS, TRAIN
from tests.support.tiny_encoder import MAX_TOKENS


@pytest.fixture
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS).eval()


@pytest.fixture
def head(encoder):
    torch.manual_seed(1)
    return torch.nn.Linear(encoder.dimension, len(LABELS))


def losses_of(encoder, head, rows, **options):
    """Return the values of the passes of one step over all rows, each differentiated before the next."""
    objective = Objective(encoder, head, rows, LABELS, **options)
    values = []
    for loss in objective.passes(np.arange(len(rows)), passes=1, of=len(rows)):
        value = loss()
        value.backward()
        values.append(float(value.detach()))
    return values


def features_of(encoder, rows):
    return SCALE * torch.cat([encoder.embed(encoder.tokenize([row.text])) for row in rows])


def truth_of(rows):
    return torch.tensor([LABELS.index(row.label) for row in rows])


def test_cross_entropy_with_probabilities_is_torchs():
    logits, targets = torch.randn(5, 3), torch.softmax(torch.randn(5, 3), -1)
    torch.testing.assert_close(cross_entropy(logits, targets), torch_cross_entropy(logits, targets, reduction="none"))


def test_smoothing_is_torchs(encoder, head):
    expected = torch_cross_entropy(head(features_of(encoder, TRAIN)), truth_of(TRAIN), label_smoothing=0.3)
    (value,) = losses_of(encoder, head, TRAIN, robust=Robust(smoothing=0.3))
    assert value == pytest.approx(float(expected.detach()), rel=1e-4)


def test_mixup_mixes_embeddings_and_targets_in_one_share(encoder, head, monkeypatch):
    share, order = 0.3, torch.tensor([3, 0, 5, 1, 7, 2, 4, 6])
    monkeypatch.setattr(torch.distributions.Dirichlet, "sample", lambda self: torch.tensor([share, 1 - share]))
    monkeypatch.setattr(torch, "randperm", lambda n: order)
    features, classes = features_of(encoder, TRAIN), torch.eye(3)[truth_of(TRAIN)]
    logits = head(share * features + (1 - share) * features[order])
    expected = -((share * classes + (1 - share) * classes[order]) * logits.log_softmax(-1)).sum(-1).mean()
    (value,) = losses_of(encoder, head, TRAIN, robust=Robust(mixup=0.4))
    assert value == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_share_of_a_mix_has_the_moments_of_its_beta(encoder):
    torch.manual_seed(0)
    drawn = torch.distributions.Dirichlet(torch.full((2,), 0.4)).sample((20_000,))[:, 0]
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.03)  # of Beta(a, a)


def test_the_adversarial_step_has_its_length_and_goes_up_the_gradient(encoder, head):
    """Against the same written out for one text at a time with `inputs_embeds`."""
    length = 0.05
    clean, pushed = losses_of(encoder, head, TRAIN, robust=Robust(adversarial=length))
    expected = []
    for row in TRAIN:
        ids = torch.tensor(encoder.tokenize([row.text]))
        words = encoder.transformer.get_input_embeddings()(ids).detach().requires_grad_()

        def loss(words, row=row):
            states = encoder.transformer(inputs_embeds=words).last_hidden_state.mean(1)
            return torch_cross_entropy(head(SCALE * torch.nn.functional.normalize(states, dim=-1)), truth_of([row]))

        (slope,) = torch.autograd.grad(loss(words), words)
        expected.append(float(loss(words + length * slope / slope.norm()).detach()))
    assert pushed == pytest.approx(np.mean(expected), rel=1e-3)
    assert pushed > clean


def test_an_adversary_reaches_frozen_embeddings(encoder, head):
    encoder.requires_grad_(False)
    clean, pushed = losses_of(encoder, head, TRAIN, robust=Robust(adversarial=0.05))
    assert pushed > clean


def test_the_divergence_is_that_of_torch():
    first, second = torch.randn(2, 6, 4).unbind()
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    both = [torch.nn.functional.kl_div(a, b, log_target=True, reduction="none").sum(-1) for a, b in ((p, q), (q, p))]
    torch.testing.assert_close(symmetric_divergence(first, second), (both[0] + both[1]) / 2)


def test_rdrop_adds_nothing_without_dropout_and_something_with_it(encoder, head):
    plain = losses_of(encoder, head, TRAIN)[0]
    assert losses_of(encoder, head, TRAIN, robust=Robust(rdrop=5.0))[0] == pytest.approx(plain, rel=1e-4)
    values = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        robust = Robust(rdrop=weight or 1e-9)
        values.append(losses_of(encoder, head, TRAIN, dropout=0.3, robust=robust)[0])
    assert values[1] > values[0]
    assert values[2] - values[0] == pytest.approx(3 * (values[1] - values[0]), rel=1e-3)  # linear in its weight


@pytest.mark.slow
def test_every_robust_option_still_learns(encoder):
    options = [Robust(smoothing=0.1), Robust(mixup=0.2), Robust(adversarial=0.1), Robust(rdrop=1.0, adversarial=0.1)]
    for robust in options:
        learner = FinetuneLearner(
            LABELS, encoder, method="lora", recipe=TrainingRecipe(epochs=6, batch_size=4, learning_rate=1e-3), robust=robust
        )
        said = learner.fit(TRAIN, (), seed=0).logits([row.text for row in TRAIN]).argmax(1)
        assert (said == truth_of(TRAIN).numpy()).mean() >= 0.75, robust


def fit_in_crew(encoder, out, rank, size, port):
    os.environ |= {
        "WORLD_SIZE": str(size), "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    torch.set_num_threads(1)  # a fork has none of the threads that its parent's pool counts on
    rows = [replace(row, weight=1.0 + number) for number, row in enumerate(TRAIN)]
    recipe = TrainingRecipe(epochs=3, batch_size=5, bfloat16=False)
    encoder.requires_grad_(True)
    fitted = FinetuneLearner(LABELS, encoder, method="lora", recipe=recipe, dropout=0.0).fit(rows, (), seed=0)
    np.save(out / f"{size}-{rank}.npy", fitted.logits([row.text for row in TRAIN]))
    if size > 1:
        torch.distributed.destroy_process_group()


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_crew_of_two_ends_with_the_weights_of_one(encoder, tmp_path):
    """As `accelerate launch --cpu --num_processes 2` starts them; batches of 5 and 3 do not divide evenly."""
    assert ProcessGroup.here(torch.device("cpu")) == ProcessGroup(1, 0)
    fork, port = get_context("fork"), free_port()
    pairs = [(rank, 2) for rank in range(2)] + [(0, 1)]
    children = [fork.Process(target=fit_in_crew, args=(encoder, tmp_path, rank, size, port)) for rank, size in pairs]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0, 0]
    one, *two = (np.load(tmp_path / name) for name in ("1-0.npy", "2-0.npy", "2-1.npy"))
    np.testing.assert_array_equal(two[0], two[1])
    np.testing.assert_allclose(two[0], one, atol=1e-4)
