"""The contract of every way to fine-tune: build, fit, save, load, export, and the same answers each time."""

import copy
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.model import load
from refsynth.bundle.packing import pack_graphs
from refsynth.bundle.store import Contents, TierContents, save
from refsynth.compress.export import export_encoder
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, ModelError
from refsynth.core.learners import LEARNERS, MethodName
from refsynth.core.task import Task
from refsynth.kinds.metrics import softmax
from refsynth.learning.context import make_context
from refsynth.learning.makers import make_learner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS, Size
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.adapted import PARTS, Bottleneck, PromptedTransformer, insert_bottlenecks
from refsynth.models.network import TransformerEncoder
from tests.support.learners import LABELS, TRAIN
from tests.support.processor import EXACT_SUMS
from tests.support.tiny_encoder import MAX_TOKENS

ASKED = [example.text for example in TRAIN] + ["", "?" * 500, "全く別の"]


@pytest.fixture(scope="module")
def encoder(tiny_folder):
    return TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def causal(tiny_causal):
    return TransformerEncoder(tiny_causal, max_tokens=MAX_TOKENS)


CASES = [*METHODS, "causal_lora"]


@pytest.fixture(scope="module")
def fitted(encoder, causal):
    """Each method's learner and predictor, trained once."""
    learner = FinetuneLearner(LABELS, causal, method="lora", recipe=TrainingRecipe(epochs=4, batch_size=4, learning_rate=1e-3))
    made = {"causal_lora": (learner, learner.fit(TRAIN, (), seed=0))}
    for name, method in METHODS.items():
        learner = FinetuneLearner(
            LABELS, encoder, method=name, recipe=TrainingRecipe(epochs=4, batch_size=4, learning_rate=method.rate)
        )
        made[name] = (learner, learner.fit(TRAIN, (), seed=0))
    return made


def test_the_tables_know_every_learner():
    assert {*MethodName.__args__} == METHODS.keys() == {name for name, spec in LEARNERS.items() if spec.searched}
    assert all(callable(resolve_name(spec.make)) for spec in LEARNERS.values())


@pytest.mark.parametrize("name", METHODS)
def test_it_moves_the_encoder_and_only_its_copy(name, fitted, encoder, tiny_folder):
    fresh = TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS).encode(ASKED)
    np.testing.assert_array_equal(encoder.encode(ASKED), fresh)
    moved = np.abs(fitted[name][1].encoder.encode(ASKED) - fresh).max()
    assert (moved == 0) == (name == "head")


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_an_int8_bundle(name, fitted, tmp_path):
    predictor = fitted[name][1]
    predictor.encoder.save(tmp_path / "source")
    export_encoder(predictor.encoder.transformer, tmp_path / "source" / "tokenizer.json", tmp_path / "onnx")
    packed = pack_graphs(tmp_path / "onnx", predictor.head, MAX_TOKENS)
    save(
        tmp_path / "bundle",
        Contents(
            labels=dict.fromkeys(LABELS, "what it means"),
            language="en",
            tiers=[TierContents(packed, predictor, Calibration())],
        ),
    )
    model = load(tmp_path / "bundle")  # which tests itself on its golden texts
    texts = ASKED[:8]
    if EXACT_SUMS:
        np.testing.assert_allclose(model.probabilities(texts), softmax(predictor.logits(texts)), atol=0.1)


@pytest.mark.parametrize("name", METHODS)
def test_few_weights_move_and_merged_models_have_the_encoders_shape(name, fitted, encoder):
    learner, predictor = fitted[name]
    shapes = {key: value.shape for key, value in encoder.transformer.state_dict().items()}
    same = {key: value.shape for key, value in predictor.encoder.transformer.state_dict().items()} == shapes
    assert same is METHODS[name].merges
    effort = learner.effort
    assert (effort.trainable == effort.parameters) is (name == "finetune")
    assert effort.trainable >= encoder.dimension * len(LABELS) + len(LABELS)


def test_the_reference_is_read_at_its_last_token(causal):
    """Padding must not be what is read; against each text alone."""
    texts = ["where is my order", "broken"]
    together = causal.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        states = causal.transformer(input_ids=torch.tensor(causal.tokenize([text]))).last_hidden_state[0, -1]
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(states, dim=-1).detach().numpy(), atol=1e-5)


def test_a_reference_that_is_elsewhere_cannot_be_trained():
    with pytest.raises(ConfigError, match="causal_lora trains the reference"):
        RunConfig.parse({"labels": ["a", "b"], "learners": ["causal_lora"], "reference": "echo"})


def test_causal_lora_trains_the_reference(tiny_folder, tiny_causal):
    task = Task.of(RunConfig.parse({"labels": list(LABELS), "learners": ["causal_lora"], "training": {"epochs": 1}}))
    context = make_context(task, "en", tiny_folder, max_tokens=MAX_TOKENS, causal=tiny_causal)
    assert context.encoder_hash != make_context(task, "en", tiny_folder, max_tokens=MAX_TOKENS).encoder_hash
    fitted = make_learner("causal_lora", context).fit(TRAIN, (), seed=0)
    assert fitted.encoder.transformer.config.model_type == "llama"
    with pytest.raises(ConfigError, match="causal_lora"):
        make_learner("causal_lora", make_context(task, "en", tiny_folder, max_tokens=MAX_TOKENS))


def test_a_method_that_is_not_one_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="learners"):
        RunConfig.parse({"labels": ["a", "b"], "learners": ["lora2"]})


def test_adalora_takes_its_ranks_away(encoder, monkeypatch):
    """After the step at which the budget is final, so many ranks are left as `rank` says; before the first none is gone."""
    from peft.tuners.adalora.model import AdaLoraModel

    told, left = [], []
    plain = AdaLoraModel.update_and_allocate

    def watched(model, step):
        plain(model, step)
        told.append(step)
        left.append(sum(int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name))

    monkeypatch.setattr(AdaLoraModel, "update_and_allocate", watched)
    recipe = TrainingRecipe(epochs=10, batch_size=4, learning_rate=1e-2)
    FinetuneLearner(LABELS, encoder, method="adalora", recipe=recipe, size=Size(rank=2)).fit(TRAIN, (), seed=0)
    steps, matrices = 20, 4
    assert told == list(range(steps))
    assert left[3] == 2 * 2 * matrices
    assert left[steps - 1] == 2 * matrices
    assert left[4] >= left[8] >= left[10]


def test_adapters_begin_as_the_identity_and_are_the_formula(encoder):
    transformer = copy.deepcopy(encoder.transformer).eval()
    ids = torch.tensor([[2, 9, 30, 3]])
    before = transformer(input_ids=ids).last_hidden_state
    insert_bottlenecks(transformer, 4)
    torch.testing.assert_close(transformer(input_ids=ids).last_hidden_state, before)
    adapter, x = Bottleneck(6, 3), torch.randn(2, 6)
    torch.nn.init.normal_(adapter.up.weight)
    expected = x + torch.nn.functional.gelu(x @ adapter.down.weight.T) @ adapter.up.weight.T
    torch.testing.assert_close(adapter(x), expected)


@pytest.mark.parametrize("name", ["prefix_tuning", "p_tuning", "prompt_tuning"])
def test_prompts_alone_say_what_peft_says(name, encoder):
    """The module that predicts, which needs no peft, against the one that was trained; with padding."""
    adapted = METHODS[name].adapt(copy.deepcopy(encoder.transformer), Size(prompt=3), 10)
    ids = torch.tensor([[2, 9, 30, 12, 3], [2, 11, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        theirs = adapted.transformer.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[:, -5:]
        ours = adapted.finish().eval()(input_ids=ids, attention_mask=mask).last_hidden_state
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1, :3], theirs[1, :3])


def test_parts_of_an_unknown_kind_are_refused(tiny_folder, tmp_path):
    from safetensors.torch import save_file

    TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS).save(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / PARTS, metadata={"kind": "magic"})
    with pytest.raises(ModelError, match="magic"):
        TransformerEncoder(tmp_path, max_tokens=MAX_TOKENS)


def test_prompts_cost_the_answer_no_token(encoder):
    wrapped = PromptedTransformer(copy.deepcopy(encoder.transformer), torch.zeros(4, encoder.dimension))
    out = wrapped(input_ids=torch.tensor([[2, 9, 3]]), attention_mask=torch.ones(1, 3, dtype=torch.long))
    assert out.last_hidden_state.shape == (1, 3, encoder.dimension)
