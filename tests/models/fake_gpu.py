"""Training on a GPU: no tensor stays on another device than the weights.

There is no GPU here. Torch's fake tensors have a device and no values, and refuse to be mixed with those of another one, which is
what has to hold. That figures are right is what the other tests show, on the CPU, by the same code. `test_device` runs this
file in a process of its own: torch, once it knows of another device, takes it for what there is.
"""

import copy

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from refsynth.compress.shape import drop_heads, narrow
from refsynth.core.spans import Span, join_spans
from refsynth.core.types import Example, Prompt
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.distill import Transfer, distill
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.reference.folder import FolderGenerator
from refsynth.models.tagger import TagPredictor
from refsynth.synthesis.reinforcement.policy import Policy

GPU = "gpu"
_setup_privateuseone_for_python_backend(GPU)

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # deepcopy asks whose memory it is

LABELS = ("a", "b")
TEXTS = ("it is late", "the file", "late again", "a file there")
ROWS = [Example(str(row), text, LABELS[row % 2]) for row, text in enumerate(TEXTS)]
SPANS = [Example("0", "it is late", join_spans([Span(0, 1, "a")])), Example("1", "the file", join_spans([Span(1, 2, "b")]))]
CHANGES = (Robust(mixup=0.2), Robust(rdrop=1.0), Robust(adversarial=0.1), Robust(smoothing=0.1))


def on_gpu(module):
    """Replace the tensors of a module by fake ones on a GPU."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(torch.empty(value.shape, device=GPU), value.requires_grad)
        for name, value in part._buffers.items():
            part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=GPU)
    return module


def zeros(values):
    """Stand for the values of a fake tensor."""
    assert isinstance(values, FakeTensor)
    return np.zeros(tuple(values.shape), np.float32)


def copied(values, memo):
    """Return a copy of a fake tensor of the same mode."""
    fresh = values.detach().clone()
    return torch.nn.Parameter(fresh, values.requires_grad) if isinstance(values, torch.nn.Parameter) else fresh


@pytest.fixture(autouse=True)
def tensors_of_lists(monkeypatch):
    """Have `torch.tensor` make a tensor of a list on the processor first: a fake device makes none."""
    tensor = torch.tensor

    def made(data, *, device=None, **options):
        empty = isinstance(data, list) and not data
        return torch.empty(0, device=device, **options) if empty else tensor(data, **options).to(device or "cpu")

    monkeypatch.setattr(torch, "tensor", made)


@pytest.fixture
def fake(tiny_folder, monkeypatch):
    """An encoder whose weights are on a GPU that is not there."""

    for module in ("models.network", "learning.tuning.finetune", "learning.tuning.distill"):
        monkeypatch.setattr(f"refsynth.{module}.array_of", zeros)
    monkeypatch.setattr("refsynth.learning.tuning.schedule.has_bfloat16", lambda device: False)
    monkeypatch.setattr("weakref.getweakrefs", lambda _: [])  # the mode has some, and peft could move no module
    monkeypatch.setattr(torch.distributions.Dirichlet, "_validate_args", False)  # it asks for values
    monkeypatch.setattr(FakeTensor, "__deepcopy__", copied, raising=False)
    encoder = TransformerEncoder(tiny_folder)
    with FakeTensorMode(shape_env=ShapeEnv()):  # it stands for sizes that depend on values
        yield on_gpu(encoder)


def test_an_encoder_computes_where_its_weights_are(fake):
    assert fake.device.type == GPU
    rows = fake.tokenize(["late", "the file is there"])
    assert fake.embed(rows).device.type == GPU
    assert fake.encode(["late"]).shape == (1, fake.dimension)
    assert fake.word_states(fake.words(["the file"])).device.type == GPU


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"adalora"}))  # of which peft asks for values
def test_each_method_trains_there(fake, method):
    recipe = TrainingRecipe(epochs=1, batch_size=2, learning_rate=1e-3)
    model = FinetuneLearner(LABELS, fake, method=method, recipe=recipe).fit(ROWS, [], seed=0)
    assert model.encoder.device.type == GPU


@pytest.mark.parametrize("robust", CHANGES, ids=str)
def test_each_change_to_the_loss_works_there(fake, robust):
    recipe = TrainingRecipe(epochs=1, batch_size=2, averaging="ema")
    FinetuneLearner(LABELS, fake, recipe=recipe, robust=robust).fit(ROWS, [], seed=0)


def test_words_are_labeled_there(fake):
    recipe = TrainingRecipe(epochs=1, batch_size=2)
    assert FinetuneLearner(LABELS, fake, recipe=recipe, link="tags").fit(SPANS, [], seed=0).encoder.device.type == GPU


def test_pairs_of_rows_are_drawn_together_there(fake):
    learner = ContrastiveLearner(LABELS, fake, {"a": "one", "b": "two"}, steps=1, batch=4)
    learner._tune(ROWS * 9, seed=0)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_student_learns_there(fake, link):
    teacher = EncoderPredictor(LABELS, fake, LinearHead(np.ones((fake.dimension, 2)), np.zeros(2)))
    transfer, matched = Transfer(steps=1), range(fake.transformer.config.num_hidden_layers)
    student = copy.deepcopy(fake)
    made = distill([teacher], student, [row.text for row in ROWS], matched=list(matched), seed=0, transfer=transfer, link=link)
    assert made.encoder.device.type == GPU


def test_a_student_of_words_learns_there(fake):
    teacher = TagPredictor(LABELS, fake, LinearHead(np.ones((fake.dimension, 5)), np.zeros(5)))
    matched = list(range(fake.transformer.config.num_hidden_layers))
    distill([teacher], copy.deepcopy(fake), ["late again"], matched=matched, seed=0, transfer=Transfer(steps=1))


def test_parts_are_pruned_there(fake):
    def losses(encoder):
        yield encoder.embed(encoder.tokenize(["late", "a file"])).sum()

    config = fake.transformer.config
    assert narrow(fake, config.intermediate_size // 2, losses).device.type == GPU
    assert drop_heads(fake, config.num_hidden_layers, losses).device.type == GPU


def test_a_policy_learns_there(tiny_causal, monkeypatch):
    monkeypatch.setattr("refsynth.synthesis.reinforcement.policy.array_of", zeros)
    monkeypatch.setattr("refsynth.synthesis.reinforcement.policy.has_bfloat16", lambda device: False)
    policy = Policy(tiny_causal, kl=0.1)
    rollouts = [policy.rollout("late", text) for text in (" again", " a file")]
    with FakeTensorMode(shape_env=ShapeEnv()):
        on_gpu(policy._model)
        policy._device = policy._model.device
        policy._weights = {name: p for name, p in policy._model.named_parameters() if p.requires_grad}
        policy._optimiser = torch.optim.AdamW(policy._weights.values())
        logs, held = policy._logs(rollouts)
        assert logs.device.type == held.device.type == GPU
        policy.log_likelihoods(rollouts)
        policy._optimiser.zero_grad()
        with pytest.raises(Exception, match=r"data|_local_scalar_dense|Symbol"):  # only the sum that is told has to be a value
            policy.update(rollouts, np.ones(2))


def test_a_reference_scores_there(tiny_causal, monkeypatch):
    monkeypatch.setattr("refsynth.models.reference.folder.array_of", zeros)
    monkeypatch.setattr(FakeTensor, "__deepcopy__", copied, raising=False)
    generator = FolderGenerator(tiny_causal)
    with FakeTensorMode(shape_env=ShapeEnv()):
        on_gpu(generator._model)
        generator._device = generator._model.device
        assert generator.score([Prompt("-", "late")] * 2, [" again", " a file"]).shape == (2,)
