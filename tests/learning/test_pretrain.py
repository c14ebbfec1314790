"""Pretraining on unlabeled texts: against independent references, resumable, in time, gated, and never on test rows."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

import refsynth
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError, ModelError
from refsynth.core.files import read_json, read_jsonl
from refsynth.core.observe import Silent
from refsynth.core.run import RunFolder
from refsynth.data.text import NEAR, nearest_overlap
from refsynth.learning.tuning import pretrain
from refsynth.learning.tuning.pretrain import Held, TimeBudget, WordModel, fit_head, fit_words, pseudo_perplexity
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run, select_again
from refsynth.synthesis import pretraining as stage
from refsynth.synthesis.pretraining import LEAST_TEXTS, divide
from refsynth.synthesis.reinforcement import supervised as imitating
from refsynth.synthesis.reinforcement.policy import Policy
from refsynth.synthesis.reinforcement.supervised import train_on_texts
from tests.support.pools import NUMBERS, STATES, THINGS, pool_task
from tests.support.tiny_encoder import MAX_TOKENS

TEXTS = [f"{thing} {number} is {state}" for thing in THINGS for number in NUMBERS for state in STATES]


@pytest.fixture
def encoder(masking):
    return TransformerEncoder(masking, max_tokens=MAX_TOKENS)


def held_of(encoder):
    rows = encoder.tokenize(TEXTS)
    return rows[:20], Held(rows[20:23], rows[23:])


def test_the_head_is_berts(encoder):
    """Against transformers' own model with the same weights; tokens that are not asked about do not count."""
    model = WordModel(encoder, seed=0)
    torch.nn.init.normal_(model.head.bias)
    theirs = BertForMaskedLM(encoder.transformer.config)
    theirs.bert.load_state_dict(encoder.transformer.state_dict(), strict=False)
    part = theirs.cls.predictions
    part.transform.dense.load_state_dict(model.head.dense.state_dict())
    part.transform.LayerNorm.load_state_dict(model.head.norm.state_dict())
    part.bias.data.copy_(model.head.bias.data)
    theirs.tie_weights()
    theirs.eval(), model.eval()
    ids, mask = encoder.padded(encoder.tokenize(["the parcel is late", "broken"]))
    labels = torch.where(mask.bool() & (torch.arange(ids.shape[1]) % 2 == 1), ids, -100)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask, labels=labels).loss
        torch.testing.assert_close(model.loss(ids, mask, labels), expected, atol=1e-5, rtol=1e-5)


def test_pseudo_perplexity_masks_each_token_in_turn(encoder):
    """Against one pass per token, without padding."""
    model = WordModel(encoder, seed=0).eval()
    rows, tokenizer, losses = encoder.tokenize(["the parcel is late", "broken"]), encoder.tokenizer, []
    for row in rows:
        for place in range(1, len(row) - 1):
            ids = torch.tensor([row])
            ids[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                states = encoder.transformer(input_ids=ids).last_hidden_state[0, place]
                words = encoder.transformer.get_input_embeddings().weight
                losses.append(-float(torch.log_softmax(model.head(states[None], words)[0], -1)[row[place]]))
    assert pseudo_perplexity(model, rows) == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)


@pytest.mark.slow
def test_words_are_learnt_and_the_head_alone_leaves_the_encoder(encoder, masking, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 30)
    rows, held = held_of(encoder)
    model = WordModel(encoder, seed=0)
    fresh = pseudo_perplexity(model, held.measured)
    fit_head(model, rows, held, TimeBudget(1, tmp_path / "head"), seed=0)
    plain = TransformerEncoder(masking, max_tokens=MAX_TOKENS)
    np.testing.assert_array_equal(encoder.encode(TEXTS), plain.encode(TEXTS))
    before = pseudo_perplexity(model, held.measured)
    fit_words(model, rows, held, TimeBudget(1, tmp_path / "words"), seed=0)
    after = pseudo_perplexity(model, held.measured)
    assert after < before < fresh
    assert not np.allclose(encoder.encode(TEXTS), plain.encode(TEXTS))


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_weights(masking, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 4)
    budget = TimeBudget(1000, tmp_path / "words", every=0)

    def train(kill=None):
        encoder = TransformerEncoder(masking, max_tokens=MAX_TOKENS)
        rows, held = held_of(encoder)
        model = WordModel(encoder, seed=0)
        plain, steps = pretrain.MaskedLoss._share, []

        def share(self, part, *, of):
            steps.append(1)
            if kill and len(steps) > kill:
                raise Killed
            return plain(self, part, of=of)

        monkeypatch.setattr(pretrain.MaskedLoss, "_share", share)
        try:
            fit_words(model, rows, held, budget, seed=0)
        finally:
            monkeypatch.setattr(pretrain.MaskedLoss, "_share", plain)
        return encoder.encode(TEXTS), len(steps)

    whole, steps = train()
    with pytest.raises(Killed):
        train(kill=steps // 2)
    assert budget.checkpoint.exists()
    again, rest = train()
    assert rest < steps
    np.testing.assert_array_equal(again, whole)


@pytest.mark.slow
def test_it_ends_when_time_is_up(encoder, tmp_path, monkeypatch):
    """A clock on which every look takes 1 s: 60 s are used up long before the epochs are."""
    now = iter(range(10**9))
    monkeypatch.setattr("refsynth.learning.tuning.trainer.time.monotonic", lambda: float(next(now)))
    monkeypatch.setattr(pretrain, "EPOCHS", 100_000)
    rows, held = held_of(encoder)
    model, steps = WordModel(encoder, seed=0), []
    plain = pretrain.MaskedLoss._share
    monkeypatch.setattr(pretrain.MaskedLoss, "_share", lambda self, part, of: steps.append(1) or plain(self, part, of=of))
    fit_words(model, rows, held, TimeBudget(1 / (1 - pretrain.HEAD_SHARE), tmp_path / "words"), seed=0)
    assert 1 <= len(steps) <= 60


def test_learning_words_leaves_the_callers_generators_alone(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 1)
    rows, held = held_of(encoder)
    before = torch.get_rng_state()
    model = WordModel(encoder, seed=0)
    fit_head(model, rows, held, TimeBudget(1, tmp_path / "head"), seed=0)
    fit_words(model, rows, held, TimeBudget(1, tmp_path / "words"), seed=0)
    pseudo_perplexity(model, held.measured)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tokenizer_without_a_mask_is_refused(tiny_folder):
    with pytest.raises(ModelError, match="masked word"):
        WordModel(TransformerEncoder(tiny_folder, max_tokens=MAX_TOKENS), seed=0)


def test_what_is_measured_on_resembles_nothing_that_was_learnt():
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    texts = [" ".join("".join(rng.choice(letters, 6)) for _ in range(6)) for _ in range(100)]
    parts = divide([*texts, *(f"{text} x" for text in texts)], seed=0)
    assert parts is not None
    assert max(nearest_overlap([*parts.stopping, *parts.measured], parts.train)) < NEAR
    assert not {*parts.stopping} & {*parts.measured}
    assert divide(texts[: LEAST_TEXTS - 1], seed=0) is None


def test_a_policy_learns_to_write_like_the_texts(tiny_causal, tmp_path, monkeypatch):
    monkeypatch.setattr(imitating, "TURN", 9)

    def train(folder, keep=None):
        policy = Policy(tiny_causal, learning_rate=1e-2, kl=0.0, seed=0)
        turns = []
        for turn in train_on_texts(policy, "texts:\n-", TEXTS[:18], TEXTS[18:], folder, minutes=10, seed=0):
            turns.append(turn)
            if len(turns) == keep:
                return turns, policy
        return turns, policy

    turns, policy = train(tmp_path / "one")
    assert turns[0].texts == 0 and min(turn.loss for turn in turns) < turns[0].loss - 0.1
    train(tmp_path / "two", keep=2)
    again, resumed = train(tmp_path / "two")
    assert [turn.loss for turn in again] == [turn.loss for turn in turns]
    for name, weight in policy._weights.items():
        torch.testing.assert_close(resumed._weights[name], weight, atol=0, rtol=0)


def test_a_policy_stays_as_its_best_turn_left_it(tiny_causal, tmp_path, monkeypatch):
    """Losses that rise after the second turn: the third turn's weights are not kept."""
    monkeypatch.setattr(imitating, "TURN", 9)
    policy = Policy(tiny_causal, learning_rate=1e-2, kl=0.0, seed=0)
    losses = iter([9.0, 8.0, 8.5])
    monkeypatch.setattr(
        Policy, "log_likelihoods", lambda self, rollouts: -next(losses) * np.array([len(one.text) for one in rollouts])
    )
    seen = []
    for _ in train_on_texts(policy, "-", TEXTS[:18], TEXTS[18:], tmp_path, minutes=10, seed=0):
        seen.append({name: weight.detach().clone() for name, weight in policy._weights.items()})
    assert len(seen) == 3
    for name, weight in policy._weights.items():
        torch.testing.assert_close(weight, seen[1][name], atol=0, rtol=0)
        assert name.endswith("lora_A.default.weight") or not torch.equal(weight, seen[2][name])


@pytest.mark.parametrize(("size", "expected"), [(7, [0, 7, 14, 18, 18, 18, 18, 18, 18, 18]), (256, [0, 18, 18, 18])])
def test_a_turn_tells_how_many_texts_were_learnt_from(tiny_causal, tmp_path, monkeypatch, size, expected):
    """Short turns count what they have, and a text that comes again in a later pass counts once. The last turn is the best."""
    monkeypatch.setattr(imitating, "TURN", size)
    policy = Policy(tiny_causal, learning_rate=1e-2, kl=0.0, seed=0)
    losses = iter(np.linspace(9, 8, len(expected)))
    monkeypatch.setattr(
        Policy, "log_likelihoods", lambda self, rollouts: -next(losses) * np.array([len(one.text) for one in rollouts])
    )
    seen, restored = [], []
    plain = Policy.restore
    monkeypatch.setattr(Policy, "restore", lambda self, place: restored.append(place.name) or plain(self, place))
    seen = [turn.texts for turn in train_on_texts(policy, "-", TEXTS[:18], TEXTS[18:], tmp_path, minutes=10, seed=0)]
    assert seen == expected
    assert restored == [f"turn-{len(expected) - 1}"]


def test_a_turn_does_not_begin_when_time_is_up(tiny_causal, tmp_path):
    policy = Policy(tiny_causal, kl=0.0, seed=0)
    turns = list(train_on_texts(policy, "-", TEXTS[:18], TEXTS[18:], tmp_path, minutes=1e-9, seed=0))
    assert len(turns) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("use", ["always", "gated"])
def test_a_run_pretrains_the_encoder_and_says_what_came_of_it(use, tmp_path, masked_store, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 2)
    monkeypatch.setattr(stage, "FALSE_ACCEPTS", 0.0)  # no gain is ever as sure
    task = pool_task(tmp_path / "data", pretrain={"encoder": 1, "use": use}, synthesis={"drafts": 0})
    done = run(task, tmp_path / "out", store=masked_store)
    (brought,) = done.evidence.learned.pretrained
    assert brought.model == "encoder" and brought.texts > 50 and brought.gain is not None
    assert brought.used == (use == "always")
    (told,) = done.report.data.pretraining
    assert told == brought
    assert "Pretraining on unlabeled texts" in done.paths.html.read_text("utf-8")
    assert refsynth.load(done.bundle).predict(["my parcel is late"])
    events = (tmp_path / "out" / "events.jsonl").read_text("utf-8")
    run(task, tmp_path / "out", store=masked_store)
    assert (tmp_path / "out" / "events.jsonl").read_text("utf-8") == events


def test_an_encoder_is_not_pretrained_again_to_select_drafts(tmp_path, masked_store, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 1)
    task = pool_task(tmp_path / "data", pretrain={"encoder": 1, "use": "always"}, synthesis={"drafts": 0})
    done = run(task, tmp_path / "out", store=masked_store)
    made = done.evidence.folder.steps / "pretrain_encoder"
    shutil.rmtree(made)
    with pytest.raises(InputError, match=r"has no step 'pretrain_encoder' for these settings"):
        select_again(tmp_path / "out", (), Silent(), store=masked_store)
    assert not made.exists()


@pytest.mark.slow
def test_texts_of_the_pool_that_resemble_test_rows_are_not_learnt_from(tmp_path, masked_store, monkeypatch):
    monkeypatch.setattr(pretrain, "EPOCHS", 1)
    folder = tmp_path / "data"
    task = pool_task(folder, pretrain={"encoder": 1, "use": "always"}, synthesis={"drafts": 0})
    planted = [json.loads(line)["text"] for line in (folder / "test.jsonl").read_text("utf-8").splitlines()]
    with (folder / "pool.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in planted)
    learned = []
    plain = stage.divide
    monkeypatch.setattr(stage, "divide", lambda texts, seed: learned.append({*texts}) or plain(texts, seed=seed))
    done = run(task, tmp_path / "out", store=masked_store)
    assert {*planted} <= learned[0]  # nobody has looked at the test file yet
    assert not {*planted} & learned[-1]
    assert not done.evidence.test.leaked


def test_a_run_pretrains_the_reference_and_drafts_with_it(tmp_path, tiny_cache, tiny_causal, monkeypatch):
    monkeypatch.setattr(imitating, "EPOCHS", 1)
    monkeypatch.setattr(imitating, "TURN", 32)
    usual = {
        "reference": {"folder": str(tiny_causal)},
        "synthesis": {"drafts": 8, "per_prompt": 4, "max_tokens": 8},
        "learners": ["tfidf"],
    }
    task = pool_task(tmp_path / "data", pretrain={"reference": 1}, **usual)
    done = run(task, tmp_path / "out", store=ModelStore(tiny_cache))
    (brought,) = done.evidence.learned.pretrained
    assert brought.model == "reference" and brought.used and brought.after < brought.before
    facts = read_json(RunFolder(tmp_path / "out").steps / "drafts" / "facts.json")
    plain = tiny_causal / "model.safetensors"
    trained = tmp_path / "out" / "steps" / "pretrain_reference" / "model" / "model.safetensors"
    assert trained.is_file() and trained.read_bytes() != plain.read_bytes()
    assert facts["reference"] != "none"
    assert not any((tmp_path / "out" / "reinforce").glob("texts-*"))
    assert list(read_jsonl(tmp_path / "out" / "steps" / "pool" / "texts.jsonl"))
    run(pool_task(tmp_path / "data", **usual), tmp_path / "out", store=ModelStore(tiny_cache))
    again = read_json(RunFolder(tmp_path / "out").steps / "drafts" / "facts.json")
    assert again["reference"] != facts["reference"]  # drafts of the one are not taken for those of the other


def test_too_few_texts_leave_the_encoder_as_it_is(tmp_path, masked_store):
    task = pool_task(tmp_path / "data", pretrain={"encoder": 1}, synthesis={"drafts": 0}, learners=["tfidf", "frozen"])
    (tmp_path / "data" / "pool.jsonl").write_text('{"text": "one text"}\n', "utf-8")
    told = []

    class Watch(Silent):
        def note(self, line):
            told.append(line)

    done = run(task, tmp_path / "out", store=masked_store, watch=Watch())
    assert done.evidence.learned.pretrained == ()
    assert any("the encoder stays as it is" in line for line in told)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"pretrain": {"encoder": 5}}, "pretrain.encoder learns from unlabeled texts"),
        ({"pretrain": {"encoder": -1}}, "pretrain.encoder"),
        ({"pretrain": {"encodr": 1}}, "did you mean 'encoder'"),
        ({"data": {"pool": "a.txt"}, "reference": "echo", "pretrain": {"reference": 5}}, "whose weights must be here"),
        ({"task": "multilabel", "data": {"train": "a.csv", "pool": "b.txt"}}, "selftrain: {per_class: 0}"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(tree, said):
    with pytest.raises(ConfigError, match=said):
        RunConfig.parse({"labels": ["a", "b"], **tree})


def test_unlabeled_texts_of_label_sets_can_be_pretrained_on():
    tree = {"task": "multilabel", "data": {"train": "a.csv", "pool": "b.txt"}, "selftrain": {"per_class": 0}}
    assert RunConfig.parse({"labels": ["a", "b"], **tree, "pretrain": {"encoder": 1}}).pretrain.encoder == 1
