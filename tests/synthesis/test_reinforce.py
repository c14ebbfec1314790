"""Reinforcement on a model small enough to see what it learns."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.types import Completion, Prompt
from refsynth.synthesis.reinforcement.reward import CLIP, FAULT, Scale, advantages, most_varied, raft, rewards, rloo

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from refsynth.synthesis.reinforcement.figures import Measured  # noqa: E402
from refsynth.synthesis.reinforcement.loop import _fresh, reinforce  # noqa: E402
from refsynth.synthesis.reinforcement.policy import Policy, Rollout, _steps  # noqa: E402

V = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random two-layer Llama over 16 words, its input and output embeddings tied."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = tmp_path_factory.mktemp("causal")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(V)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


ROLLOUTS = [Rollout((1, 2, 3), (4, 5)), Rollout((1, 2, 3), (6, 7, 8)), Rollout((9,), (4,)), Rollout((9,), (10, 11, 12, 13))]


def plain(folder, rollout):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[*rollout.prompt, *rollout.text]])
    logs = model(ids).logits[0].detach().log_softmax(-1)
    start = len(rollout.prompt)
    return sum(float(logs[start + i - 1, token]) for i, token in enumerate(rollout.text))


def test_the_likelihood_is_that_of_a_plain_forward_pass(folder):
    np.testing.assert_allclose(Policy(folder).log_likelihoods(ROLLOUTS), [plain(folder, one) for one in ROLLOUTS], rtol=1e-4)


def test_what_is_rewarded_becomes_likelier_and_the_reference_holds_it_back(folder):
    """One token of 16 is rewarded; with a strong tie to the reference the policy goes less far."""
    reached = {}
    for kl in (0.0, 5.0):
        policy, rng = Policy(folder, learning_rate=1e-2, kl=kl), np.random.default_rng(0)
        prompt = Rollout((1, 2, 3), (5,))
        before = policy.log_likelihoods([prompt])[0]
        for _ in range(30):
            texts = rng.integers(0, V, 8)
            rollouts = [Rollout((1, 2, 3), (int(token),)) for token in texts]
            policy.update(rollouts, advantages((texts == 5).astype(float), np.zeros(8, int)))
        reached[kl] = policy.log_likelihoods([prompt])[0] - before
    assert reached[0.0] > 0.5
    assert reached[5.0] < 0.6 * reached[0.0]


def test_a_step_holds_whole_groups_of_siblings_and_every_text_is_in_one():
    rollouts = [Rollout((prompt,), (1, text)) for text in range(5) for prompt in range(4)]
    steps = list(_steps(rollouts, 8))
    assert sorted(row for step in steps for rows in step for row in rows) == list(range(20))
    prompts = [{rollouts[row].prompt for rows in step for row in rows} for step in steps]
    assert [len(each) for each in prompts] == [2, 2]
    assert not prompts[0] & prompts[1]


def test_smaller_steps_go_further(folder):
    values = np.array([1.0, -1.0, 1.0, -1.0])
    after = {}
    for batch in (2, 64):
        policy = Policy(folder, learning_rate=1e-2, kl=0.0, batch_size=batch)
        before = policy.log_likelihoods(ROLLOUTS)
        policy.update(ROLLOUTS, values)
        after[batch] = float(values @ (policy.log_likelihoods(ROLLOUTS) - before))
    assert after[2] > after[64] > 0


def test_no_advantage_no_change(folder):
    policy = Policy(folder, kl=0.1)  # its adapter begins at zero: it is the reference
    before = policy.log_likelihoods(ROLLOUTS)
    likelihood = policy.update(ROLLOUTS, np.zeros(4))
    assert policy.divergence(ROLLOUTS) == pytest.approx(0, abs=1e-6)
    assert likelihood == pytest.approx(before.sum() / 10, rel=1e-3)  # a step may be in bfloat16
    np.testing.assert_allclose(policy.log_likelihoods(ROLLOUTS), before, atol=1e-5)


def test_the_divergence_is_k3_of_the_policy_as_it_is(folder):
    """By Schulman (2020): the mean over tokens that the policy wrote of r - log r - 1, with r = reference / policy."""
    policy = Policy(folder, learning_rate=3e-2, kl=0.1)
    rollouts = [Rollout((1, 2, 3), (token,)) for token in (4, 5, 6)]  # of one token each: a sum is that of a token
    reference = policy.log_likelihoods(rollouts)
    for _ in range(4):
        policy.update(rollouts, np.ones(3))
    log_ratio = reference - policy.log_likelihoods(rollouts)
    k3 = np.exp(log_ratio) - log_ratio - 1
    other_way = np.exp(-log_ratio) + log_ratio - 1
    assert policy.divergence(rollouts) == pytest.approx(k3.mean(), rel=1e-3)
    assert abs(other_way.mean() / k3.mean() - 1) > 0.05  # the test can tell one direction from the other


def test_a_restored_policy_goes_on_as_the_one_that_was_saved(folder, tmp_path):
    values = np.array([1.0, -1.0, 0.5, -0.5])
    first = Policy(folder, learning_rate=1e-2)
    first.update(ROLLOUTS, values)
    first.save(tmp_path)
    second = Policy(folder, learning_rate=1e-2, seed=7)
    second.restore(tmp_path)
    np.testing.assert_array_equal(second.log_likelihoods(ROLLOUTS), first.log_likelihoods(ROLLOUTS))
    for policy in (first, second):
        policy.update(ROLLOUTS, values)
    np.testing.assert_array_equal(second.log_likelihoods(ROLLOUTS), first.log_likelihoods(ROLLOUTS))


def test_the_exported_model_says_what_the_policy_says_and_the_policy_stays(folder, tmp_path):
    policy = Policy(folder, learning_rate=1e-2)
    policy.update(ROLLOUTS, np.array([1.0, -1.0, 0.5, -0.5]))
    said = policy.log_likelihoods(ROLLOUTS)
    policy.export(tmp_path)
    np.testing.assert_allclose([plain(tmp_path, one) for one in ROLLOUTS], said, atol=2e-2)  # half precision
    assert np.abs(said - [plain(folder, one) for one in ROLLOUTS]).max() > 2e-2
    np.testing.assert_allclose(policy.log_likelihoods(ROLLOUTS), said, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 2)), min_size=1, max_size=14))
def test_no_half_of_a_group_has_rewards_that_differ_more(pairs):
    rewards, groups = np.array([r for r, _ in pairs]), np.array([g for _, g in pairs])
    kept = most_varied(rewards, groups)
    assert sorted(set(kept)) == kept.tolist()
    for group in set(groups):
        mine = np.flatnonzero(groups == group)
        half = kept[groups[kept] == group]
        assert len(half) == (len(mine) if len(mine) < 3 else max(2, -(-len(mine) // 2)))
        most = max(rewards[list(some)].var() for some in itertools.combinations(mine, len(half)))
        assert rewards[half].var() == pytest.approx(most, rel=1e-9, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 3)), min_size=1, max_size=20))
def test_advantages_add_up_to_nothing_in_each_group(pairs):
    rewards, groups = np.array([r for r, _ in pairs]), np.array([g for _, g in pairs])
    result = advantages(rewards, groups)
    for group in set(groups):
        mine = groups == group
        assert abs(result[mine].sum()) < 1e-6
        if mine.sum() == 1:
            assert result[mine][0] == 0
        elif mine.sum() == 2:
            assert result[mine][0] == pytest.approx(rewards[mine][0] - rewards[mine][1])


def test_rewards_are_on_one_scale_clipped_and_faults_are_worst():
    gains = np.array([0.0, 1.0, 2.0, 300.0, np.nan, 5.0] + [1.0] * 10)
    faulty = np.arange(16) == 5
    scale = Scale.of(gains[:3], faulty[:3])
    said = rewards(gains, faulty, scale)
    assert (scale.mean, scale.spread) == (1.0, pytest.approx(0.8165, abs=1e-4))
    assert said[5] == FAULT == said.min()
    assert said[3] == CLIP == said.max()
    assert said[4] == said[1] == 0
    assert said[0] == pytest.approx(-said[2])
    assert Scale.of(np.full(3, np.nan), np.zeros(3, bool)) == (0, 1)
    assert Scale.of(np.full(3, 7.0), np.zeros(3, bool)) == (7, 1)


class Parrot:
    """Writes with an exported tiny model, one word a text."""

    name = "parrot"

    def __init__(self, folder):
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(self, prompts, *, n, seed):
        chance = self._model(torch.tensor([[1, 2, 3]])).logits[0, -1].detach().softmax(-1).double().numpy()
        rng = np.random.default_rng(seed)
        return [[Completion(f"w{rng.choice(V, p=chance / chance.sum())}", False) for _ in range(n)] for _ in prompts]


def likes_five(written):
    right = np.array([one.completion.text == "w5" for one in written], float)
    return Measured(right, np.array([one.completion.text == "w9" for one in written]), 1.0)


def learn(folder, out, *, turns, shuffled=False, rule=rloo, max_kl=5.0):
    policy = Policy(folder, learning_rate=1e-2, kl=0.0)
    ask = lambda turn: [Prompt("w1 w2 w3", "a")] * 4  # noqa: E731
    how = {"select": rule, "turns": turns, "max_kl": max_kl, "shuffled": shuffled}
    return policy, list(reinforce(policy, ask, Parrot, likes_five, out, group_size=8, seed=0, **how))


def test_the_best_of_each_group_is_imitated_unless_all_are_alike():
    rewards_ = np.array([0.0, 2.0, 1.0, 5.0, 5.0, -1.0, 3.0])
    found = raft(rewards_, np.array([0, 0, 0, 1, 1, 2, 2]))
    assert found.rows.tolist() == [1, 6]
    assert found.weights.tolist() == [1, 1]
    assert len(raft(np.ones(3), np.zeros(3, int)).rows) == 0


def test_a_turn_that_teaches_nothing_changes_nothing(folder):
    policy = Policy(folder)
    before = policy.log_likelihoods(ROLLOUTS)
    assert policy.update([], np.zeros(0)) == 0
    np.testing.assert_array_equal(policy.log_likelihoods(ROLLOUTS), before)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rloo, raft])
def test_the_loop_learns_what_is_rewarded_and_nothing_from_shuffled_rewards(folder, tmp_path, rule):
    wanted = Rollout((1, 2, 3), (5,))
    before = Policy(folder).log_likelihoods([wanted])[0]
    rise = {}
    for shuffled in (False, True):
        policy, figures = learn(folder, tmp_path / str(shuffled), turns=25, shuffled=shuffled, rule=rule)
        rise[shuffled] = policy.log_likelihoods([wanted])[0] - before
        assert all(0 <= one.kl < 5 for one in figures)
    assert rise[False] > 0.5
    assert rise[True] < 0.5 * rise[False]
    assert not (tmp_path / "False" / "export").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rloo, raft])
def test_a_policy_is_drawn_back_to_its_bound_and_learns_within_it(folder, tmp_path, rule):
    wanted = Rollout((1, 2, 3), (5,))
    before = Policy(folder).log_likelihoods([wanted])[0]
    _, free = learn(folder, tmp_path / "free", turns=25, rule=rule)
    policy, held = learn(folder, tmp_path / "held", turns=25, rule=rule, max_kl=0.02)
    assert max(one.kl for one in free) > 0.02
    assert 0.01 < held[-1].kl <= 0.02
    assert max(one.kl for one in held) <= 0.02
    assert policy.log_likelihoods([wanted])[0] > before


@given(share=st.floats(0, 1))
@settings(max_examples=10, deadline=None)
def test_what_is_kept_of_the_difference_is_its_share(folder, share):
    policy = Policy(folder, learning_rate=1e-2)
    policy.update(ROLLOUTS, np.array([1.0, -1.0, 0.5, -0.5]))
    weights = [module.get_delta_weight("default").detach().clone() for module in adapted(policy)]
    policy.draw_back(share)
    for module, weight in zip(adapted(policy), weights, strict=True):
        assert weight.abs().max() > 0
        torch.testing.assert_close(module.get_delta_weight("default"), share * weight)
    if not share:
        assert policy.divergence(ROLLOUTS) == pytest.approx(0, abs=1e-6)


def adapted(policy):
    return [module for module in policy._model.modules() if hasattr(module, "get_delta_weight")]


def test_a_turn_tells_how_far_it_went_by_texts_that_it_did_not_learn_from(folder, tmp_path):
    """A tie to the reference of no weight is measured too."""
    learned, measured = [], []

    class Watched(Policy):
        def update(self, rollouts, advantages):
            learned.append(rollouts)
            return super().update(rollouts, advantages)

        def divergence(self, rollouts):
            assert len(measured) == len(learned) - 1  # after what the turn has learned
            measured.append(rollouts)
            return super().divergence(rollouts)

    policy, written = Watched(folder, learning_rate=1e-2, kl=0.0), []

    def measure(texts):
        written.append([policy.rollout(one.prompt.text, one.completion.text) for one in texts])
        return likes_five(texts)

    ask = lambda turn: [Prompt("w1 w2 w3", "a")] * 4  # noqa: E731
    figures = list(reinforce(policy, ask, Parrot, measure, tmp_path, turns=3, group_size=8, max_kl=5.0, seed=0))
    for texts, some, others in zip(written, learned, measured, strict=True):
        assert len(some) == len(others) == 16
        assert Counter(some) + Counter(others) == Counter(texts)
    assert figures[-1].kl == Policy.divergence(policy, measured[-1]) > figures[0].kl > 0


@pytest.mark.parametrize(
    ("rows", "n", "fresh"),
    [
        ([0, 3], 4, [1, 2]),
        ([0, 1], 2, [0, 1]),
        ([], 3, [0, 1, 2]),
        ([*range(0, 64, 2)], 64, [*range(1, 64, 2)]),
        ([*range(0, 66, 2)], 66, [*range(1, 66, 4)]),
    ],
)
def test_texts_that_were_not_learnt_from(rows, n, fresh):
    assert _fresh(np.array(rows, int), n).tolist() == fresh


def test_a_loop_that_was_stopped_goes_on_to_the_same_end(folder, tmp_path):
    whole, figures = learn(folder, tmp_path / "whole", turns=4)
    learn(folder, tmp_path / "parts", turns=2)
    (tmp_path / "parts" / ".turn-2.partial").mkdir()  # as a killed one leaves it
    again, resumed = learn(folder, tmp_path / "parts", turns=4)
    assert [f.gain for f in resumed] == [f.gain for f in figures]
    np.testing.assert_array_equal(again.log_likelihoods(ROLLOUTS), whole.log_likelihoods(ROLLOUTS))
