"""The endpoint reference against a real local server: answers, faults, retries, budget, and a key that never shows."""

from __future__ import annotations

import email.utils
import gzip
import json
import logging
import time
import traceback

import numpy as np
import pytest

from openai_server import Fault, OpenAIServer, numbered
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, EndpointError
from refsynth.core.protocols import Generator
from refsynth.core.types import Completion, Example, Prompt
from refsynth.models.reference import EchoGenerator, EndpointGenerator, PartialAnswerError, RememberedScores, client, remembered
from refsynth.models.reference import bound as bounds
from refsynth.models.reference.client import BudgetError
from refsynth.models.reference.probe import probe
from refsynth.synthesis.parse import parse_completion
from refsynth.synthesis.prompts import class_prompt

PROMPTS = [Prompt(f"A list:\n\n- the card number {word} is late again\n-", word) for word in ("one", "two", "three")]
CANARY = "sk-canary-7f3a91"


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the client wanted to sleep; it does not."""
    asked: list[float] = []
    monkeypatch.setattr(client.time, "sleep", asked.append)
    return asked


def ask(server, n=2, seed=0, prompts=PROMPTS, **options):
    generator = EndpointGenerator(server.base, model="echo", **{"concurrency": 2, **options})
    return generator.generate(prompts, n=n, seed=seed)


def test_answers_as_asked():
    with OpenAIServer(EchoGenerator()) as server:
        generator = EndpointGenerator(server.base, model="echo", temperature=0.7, top_p=0.9, max_tokens=11)
        rows = generator.generate(PROMPTS, n=4, seed=3)
        assert isinstance(generator, Generator) and generator.name == "endpoint:echo"
        assert [len(row) for row in rows] == [4, 4, 4] and rows == generator.generate(PROMPTS, n=4, seed=3)
        assert rows != generator.generate(PROMPTS, n=4, seed=4)
        assert all(prompt.label in "".join(c.text for c in row) for prompt, row in zip(PROMPTS, rows, strict=True))
        body = server.requests[0][2]
    assert {body["temperature"], body["top_p"], body["max_tokens"], body["n"]} == {0.7, 0.9, 11, 4} and body["stop"] == ["\n"]


def test_same_prompt_twice_gets_different_seeds():
    with OpenAIServer(EchoGenerator()) as server:
        rows = ask(server, prompts=[PROMPTS[0]] * 2)
    assert rows[0] != rows[1]


def test_server_that_ignores_n_is_asked_again():
    with OpenAIServer(EchoGenerator(), most_choices=1) as server:
        rows = ask(server, n=3)
        assert len(server.requests) == 9
    assert all(len({c.text for c in row}) == 3 for row in rows)


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(status=503), Fault(status=429), Fault(drop=True)], ids=["500", "503", "429", "drop"]
)
def test_passing_fault_is_retried(fault, waits):
    with OpenAIServer(EchoGenerator()) as healthy:
        expected = ask(healthy)
    with OpenAIServer(EchoGenerator(), faults=[fault, fault]) as server:
        assert ask(server) == expected
    assert len(waits) == 2 and all(0 < wait < 2 for wait in waits)


def test_slow_answer_times_out_and_is_retried(waits):
    with OpenAIServer(EchoGenerator()) as server:
        expected = ask(server, prompts=PROMPTS[:1])
    with OpenAIServer(EchoGenerator(), faults=[Fault(delay=30)]) as server:
        assert ask(server, prompts=PROMPTS[:1], timeout=0.5, retries=20) == expected
    assert waits


def test_backoff_doubles(waits):
    with (
        OpenAIServer(EchoGenerator(), faults=[Fault(status=500)] * 5) as server,
        pytest.raises(EndpointError, match="HTTP 500 after 5 tries"),
    ):
        ask(server, prompts=PROMPTS[:1], retries=4)
    assert all(0.25 * 2**k <= wait <= 0.5 * 2**k for k, wait in enumerate(waits)) and len(waits) == 4


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("3", 3, 3), ("100000", 60, 60), ("soon", 0.25, 0.5), (email.utils.formatdate(time.time() + 20, usegmt=True), 0, 20)],
    ids=["seconds", "capped", "nonsense", "date"],
)
def test_retry_after_is_heeded(value, low, high, waits):
    with OpenAIServer(EchoGenerator(), faults=[Fault(status=429, headers={"Retry-After": value})]) as server:
        ask(server, prompts=PROMPTS[:1])
    assert len(waits) == 1 and low <= waits[0] <= high


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_refusal_is_not_retried(status, waits):
    body = json.dumps({"error": {"message": f"model is unknown, key {CANARY}"}}).encode()
    with OpenAIServer(EchoGenerator(), faults=[Fault(status=status, body=body)] * 9) as server:
        with pytest.raises(EndpointError) as caught:
            ask(server, prompts=PROMPTS[:1], key=CANARY)
        assert len(server.requests) == 1
    assert not waits and CANARY not in str(caught.value) and str(status) in str(caught.value)
    assert ("model is unknown" in str(caught.value)) == (status not in (401, 403))


BAD_BODIES = {
    "not json": b"<html>busy</html>",
    "empty": b"",
    "list": b"[]",
    "no choices": b"{}",
    "empty choices": b'{"choices": []}',
    "choices of text": b'{"choices": ["a"]}',
    "no text": b'{"choices": [{"index": 0}]}',
    "null text": b'{"choices": [{"text": null}]}',
    "number text": b'{"choices": [{"text": 5}]}',
    "deep": b"[" * 100_000,
    "not utf-8": b'{"choices": [{"text": "\xff\xfe"}]}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_nonsense_is_an_endpoint_error(body):
    with (
        OpenAIServer(EchoGenerator(), faults=[Fault(body=body)]) as server,
        pytest.raises(EndpointError, match="OpenAI-compatible"),
    ):
        ask(server, prompts=PROMPTS[:1])


def test_redirect_is_not_followed():
    with OpenAIServer(EchoGenerator()) as other:
        fault = Fault(status=307, headers={"Location": f"{other.base}/completions"})
        with (
            OpenAIServer(EchoGenerator(), faults=[fault]) as server,
            pytest.raises(EndpointError, match=r"redirects to 127\.0\.0\.1"),
        ):
            ask(server, prompts=PROMPTS[:1], key=CANARY)
        assert not other.requests


def test_no_server():
    with OpenAIServer(EchoGenerator()) as server:
        base = server.base
    with pytest.raises(EndpointError, match="ConnectError"):
        EndpointGenerator(base, model="echo", retries=0).generate(PROMPTS, n=1, seed=0)


def test_budget_refuses_a_batch_it_cannot_finish():
    with OpenAIServer(EchoGenerator()) as server:
        generator = EndpointGenerator(server.base, model="echo", max_requests=4)
        assert len(generator.generate(PROMPTS, n=2, seed=0)) == 3
        with pytest.raises(BudgetError, match="budget of 4 requests has 1 left"):
            generator.generate(PROMPTS, n=2, seed=1)
        assert len(server.requests) == 3
        assert len(generator.generate(PROMPTS[:1], n=2, seed=1)) == 1


def test_budget_counts_retries(waits):
    with OpenAIServer(EchoGenerator(), faults=[Fault(status=500)] * 9) as server:
        with pytest.raises(EndpointError, match="budget of 2 requests"):
            ask(server, prompts=PROMPTS[:1], max_requests=2, retries=5)
        assert len(server.requests) == 2


def test_failed_batch_keeps_what_was_answered(waits):
    with OpenAIServer(EchoGenerator()) as healthy:
        expected = ask(healthy)
    with OpenAIServer(EchoGenerator(), faults=[Fault(status=400)]) as server, pytest.raises(PartialAnswerError) as caught:
        ask(server, concurrency=1)
    assert caught.value.answered == {1: expected[1], 2: expected[2]}


def test_score_is_the_mean_over_the_text_only():
    with OpenAIServer(EchoGenerator()) as server:
        generator = EndpointGenerator(server.base, model="echo")
        values = generator.score([Prompt("ab-", ""), Prompt("ab", "")], ["cd", ""])
        assert server.requests[0][2]["prompt"] in ("ab- cd",) and len(server.requests) == 1
    assert values[0] == pytest.approx(-(ord(" ") + ord("c") + ord("d")) / 3)
    assert values[1] != values[1]


def test_server_without_logprobs_cannot_score():
    with OpenAIServer(EchoGenerator(), can_score=False) as server, pytest.raises(EndpointError, match="cannot score"):
        EndpointGenerator(server.base, model="echo").score(PROMPTS[:1], ["x"])


@pytest.mark.parametrize("key", ["a b", "a\nb", "schlüssel"])
def test_key_that_cannot_be_sent(key):
    with pytest.raises(EndpointError, match="characters") as caught:
        EndpointGenerator("http://127.0.0.1:1/v1", model="m", key=key)
    assert key not in str(caught.value)


def test_key_is_sent_and_shows_nowhere(caplog, waits):
    caplog.set_level(logging.DEBUG)
    with OpenAIServer(EchoGenerator(), faults=[Fault(), Fault(status=500), Fault(status=401), Fault(drop=True)]) as server:
        generator = EndpointGenerator(server.base, model="echo", key=f"{CANARY}\n", concurrency=1, retries=1)
        shown = [repr(generator), str(generator), generator.name]
        for _ in range(3):
            try:
                generator.generate(PROMPTS[:1], n=1, seed=0)
            except EndpointError as error:
                shown += traceback.format_exception(error)
        assert all(headers["Authorization"] == f"Bearer {CANARY}" for _, headers, _ in server.requests)
    assert len(shown) > 6 and caplog.records
    assert CANARY not in "".join(shown) + caplog.text


@pytest.mark.parametrize("base", ["ftp://host/v1", "http://", "v1", "http://host:port/v1"])
def test_address_is_checked(base):
    with pytest.raises(EndpointError, match="not an http address"):
        EndpointGenerator(base, model="m")


@pytest.mark.parametrize("spoil", ["http://user:{}@host/v1", "http://{}@host/v1", "http://host/v1?key={}", "http://host/v1#{}"])
def test_a_secret_in_the_address_is_refused_and_shows_nowhere(spoil):
    with pytest.raises(EndpointError, match=r"http://host/v1 has a password or a key") as caught:
        EndpointGenerator(spoil.format(CANARY), model="m")
    tree = {"labels": ["a", "b"], "reference": {"endpoint": spoil.format(CANARY), "model": "m"}}
    with pytest.raises(ConfigError, match="password or a key") as refused:
        RunConfig.parse(tree)
    assert str(refused.value).count("\n") == 1
    shown = [*traceback.format_exception(caught.value), str(refused.value)]
    assert CANARY not in "".join(shown)


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        (Fault(body=b'{"choices": [' + b" " * 5000 + b"]}"), "is longer than 4,000 bytes"),
        (Fault(status=404, body=b"x" * 5000), "is longer than 4,000 bytes"),
        (Fault(status=500, body=b"x" * 5000), "is longer than 4,000 bytes"),
        (Fault(body=gzip.compress(b" " * 3_000_000), headers={"Content-Encoding": "gzip"}), "is longer than 4,000 bytes"),
        (Fault(status=400, body=b"\x28\xb5", headers={"Content-Encoding": "zstd"}), r"is compressed \(zstd\)"),
    ],
)
def test_an_answer_of_any_size_is_read_up_to_a_bound(fault, part, monkeypatch):
    monkeypatch.setattr(bounds, "MOST", 4000)
    with OpenAIServer(EchoGenerator(), faults=[fault] * 9) as server:
        with pytest.raises(EndpointError, match=rf"^http://127\.0\.0\.1:\d+/v1: the answer {part}"):
            ask(server)
        assert server.requests[0][1]["Accept-Encoding"] == "identity"
        assert len(server.faults) >= 6  # it is not asked for again


def test_cut_off_and_stop():
    body = json.dumps(
        {"choices": [{"text": " a long te", "finish_reason": "length"}, {"text": " a\nb", "finish_reason": "length"}]}
    )
    with OpenAIServer(EchoGenerator(), faults=[Fault(body=body.encode())]) as server:
        rows = ask(server, n=2, prompts=PROMPTS[:1])
    assert rows == [[Completion(" a long te", finished=False), Completion(" a", finished=True)]]


def test_a_score_is_asked_for_once(tmp_path):
    texts, plain = [" one card", " two, late", ""], EchoGenerator()
    with OpenAIServer(plain) as server:
        generator = EndpointGenerator(server.base, model="echo")
        wanted = generator.score(PROMPTS, texts)
        before = len(server.requests)
        first = RememberedScores(generator, tmp_path / "scores.jsonl", identity="a")
        assert isinstance(first, Generator) and first.name == generator.name
        np.testing.assert_array_equal(first.score([*PROMPTS, PROMPTS[0]], [*texts, texts[0]]), [*wanted, wanted[0]])
        asked = len(server.requests) - before
        assert asked == 2  # of an empty text nothing is known, and nobody is asked
        again = RememberedScores(generator, tmp_path / "scores.jsonl", identity="a")
        np.testing.assert_array_equal(again.score(PROMPTS, texts), wanted)
        assert len(server.requests) == before + asked
        RememberedScores(generator, tmp_path / "scores.jsonl", identity="b").score(PROMPTS[:1], texts[:1])
        again.score(PROMPTS[:1], texts[1:2])
        assert len(server.requests) == before + asked + 2  # of another server, under another prompt
    assert all(text.strip() not in (tmp_path / "scores.jsonl").read_text("utf-8") for text in texts if text)


def test_scores_that_came_before_a_failure_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "BATCH", 2)
    asked = []

    class Failing(EchoGenerator):
        def score(self, prompts, texts):
            asked.extend(texts)
            if "three" in texts:
                raise EndpointError("down")
            return super().score(prompts, texts)

    file, prompts = tmp_path / "scores.jsonl", [PROMPTS[0]] * 3
    with pytest.raises(EndpointError):
        RememberedScores(Failing(), file, identity="a").score(prompts, ["one", "two", "three"])
    with file.open("a", encoding="utf-8") as stream:
        stream.write('["torn", 0')
    values = RememberedScores(EchoGenerator(), file, identity="a").score(prompts, ["one", "two", "three"])
    np.testing.assert_array_equal(values, EchoGenerator().score(prompts, ["one", "two", "three"]))
    assert asked == ["one", "two", "three"]
    assert len(file.read_text("utf-8").splitlines()) == 3


SAYINGS = {
    "numbered": numbered,
    "array": lambda texts: json.dumps([text.strip() for text in texts]),
    "fenced": lambda texts: f"```json\n{json.dumps({'texts': texts})}\n```",
    "bullets": lambda texts: "Of course! Here are some:\n" + "\n".join(f"- {text.strip()}" for text in texts),
    "quoted": lambda texts: "\n".join(f'"{text.strip()}"' for text in texts),
}
ASKS = [
    class_prompt(word, f"the card number {word} is late", [Example(word, f"my card {word} is late again", word)]) for word in "ab"
]


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS)
def test_a_chat_model_is_asked_for_several_texts_in_one_message(say):
    with OpenAIServer(EchoGenerator(), chat_only=True, say=say) as server:
        generator = EndpointGenerator(server.base, model="echo", api="chat", max_tokens=20)
        rows = generator.generate(ASKS, n=5, seed=1)
        assert rows == generator.generate(ASKS, n=5, seed=1) and generator.chats
        paths, bodies = {path for path, _, _ in server.requests}, [body for _, _, body in server.requests]
    assert len(bodies) == 4 and paths == {"/v1/chat/completions"}
    assert [len({row.text for row in each}) for each in rows] == [5, 5] and all(row.finished for each in rows for row in each)
    (message,) = bodies[0]["messages"]
    assert message["content"].startswith("Write 5 different texts") and "- my card" in message["content"]
    assert bodies[0]["max_tokens"] > 5 * 20 and "stop" not in bodies[0] and "prompt" not in bodies[0]
    assert not any("Here are" in row.text or "{" in row.text for each in rows for row in each)


def test_a_chat_model_that_gives_fewer_is_asked_for_the_rest_a_few_times():
    with OpenAIServer(EchoGenerator(), chat_only=True, say=lambda texts: numbered(texts[:2])) as server:
        (row,) = EndpointGenerator(server.base, model="echo", api="chat").generate(ASKS[:1], n=9, seed=0)
        asked = [body["messages"][0]["content"].split()[1] for _, _, body in server.requests]
    assert asked == ["9", "7", "5"] and len(row) == 6


REFUSALS = {
    "words": {"message": {"content": "I'm sorry, but I can't help with that."}, "finish_reason": "stop"},
    "other words": {"message": {"content": "I'm sorry, this is against my rules."}, "finish_reason": "stop"},
    "field": {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"},
    "parts": {"message": {"content": [{"type": "text", "text": "As an AI language model, I do not."}]}, "finish_reason": "stop"},
    "filter": {"message": {"content": ""}, "finish_reason": "content_filter"},
}


@pytest.mark.parametrize("choice", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_and_is_not_argued_with(choice):
    fault = Fault(body=json.dumps({"choices": [choice]}).encode())
    with OpenAIServer(EchoGenerator(), faults=[fault]) as server:
        (row,) = EndpointGenerator(server.base, model="echo", api="chat").generate(ASKS[:1], n=5, seed=0)
        assert len(server.requests) == 1
    assert [one.refused for one in row] == [True]
    assert parse_completion(row[0], shown=(), language="en").reason == "refused"


def test_an_error_with_status_200_is_told():
    fault = Fault(body=b'{"error": {"message": "no credits left"}}')
    with OpenAIServer(EchoGenerator(), faults=[fault]) as server, pytest.raises(EndpointError, match="an error: no credits left"):
        EndpointGenerator(server.base, model="echo", api="chat").generate(ASKS[:1], n=5, seed=0)


@pytest.mark.parametrize(
    ("content", "texts", "finished"),
    [
        ("1. one is late\n2. two is la", ["one is late", "two is la"], [True, False]),
        ('["one is late", "two i', ["one is late"], [True]),
    ],
)
def test_a_list_that_was_cut_off(content, texts, finished):
    choice = {"message": {"content": content}, "finish_reason": "length"}
    with OpenAIServer(EchoGenerator(), faults=[Fault(body=json.dumps({"choices": [choice]}).encode())]) as server:
        (row,) = EndpointGenerator(server.base, model="echo", api="chat").generate(ASKS[:1], n=len(texts), seed=0)
    assert [one.text for one in row] == texts and [one.finished for one in row] == finished


def test_a_prompt_without_a_chat_form_is_a_message_as_it_is():
    with OpenAIServer(EchoGenerator(), chat_only=True, most_choices=2) as server:
        rows = EndpointGenerator(server.base, model="echo", api="chat").generate(PROMPTS[:1], n=3, seed=0)
        assert [body["messages"][0]["content"] for _, _, body in server.requests] == [PROMPTS[0].text] * 2
    assert len(rows[0]) == 3


def test_a_setting_that_the_model_does_not_take_is_left_out():
    told = [f"Unsupported parameter: '{name}' is not supported with this model." for name in ("max_tokens", "temperature")]
    faults = [Fault(status=400, body=json.dumps({"error": {"message": each}}).encode()) for each in told]
    with OpenAIServer(EchoGenerator(), chat_only=True, faults=faults) as server:
        generator = EndpointGenerator(server.base, model="echo", api="chat", concurrency=1)
        assert len(generator.generate(ASKS, n=2, seed=0)) == 2
        last = server.requests[-1][2]
        assert len(server.requests) == 4
    assert "max_tokens" not in last and "temperature" not in last and last["max_completion_tokens"] > 100


def client_of(server, **options):
    return client.JsonClient(
        server.base,
        **{
            "key": None,
            "timeout": 5.0,
            "retries": 0,
            "budget": client.RequestBudget(None),
            "key_env": "REFSYNTH_KEY_X",
            **options,
        },
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ("chat", True, True)),
        ({"chat_only": True}, ("chat", False, True)),
        ({"completes_only": True}, ("completions", True, True)),
        ({"completes_only": True, "can_score": False}, ("completions", False, True)),
    ],
)
def test_a_probe_finds_out_what_a_server_can_do(options, found):
    with OpenAIServer(EchoGenerator(), **options) as server:
        assert probe(client_of(server), "echo", ("chat", "completions")) == found


def test_a_probe_names_the_models_where_the_one_asked_for_is_not_there():
    with OpenAIServer(EchoGenerator(), models=["qwen-small", "llama-large"]) as server:
        with pytest.raises(EndpointError, match=r"no model 'qwen-smal'\n  models there: qwen-small, llama-large\n  did you mean"):
            probe(client_of(server), "qwen-smal", ("chat", "completions"))
        assert probe(client_of(server), "llama-large", ("chat",)).api == "chat"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, r"wants a key \(HTTP 401\), and the variable REFSYNTH_KEY_X is not set\n  export REFSYNTH_KEY_X"),
        ("", r"variable REFSYNTH_KEY_X is not set"),
        (CANARY, r"refuses the key in REFSYNTH_KEY_X \(HTTP 401\)"),
    ],
)
def test_a_missing_key_is_called_missing_and_a_wrong_one_wrong(key, message):
    with OpenAIServer(EchoGenerator(), key="sk-the-right-one") as server, pytest.raises(EndpointError, match=message) as caught:
        probe(client_of(server, key=key), "echo", ("chat", "completions"))
    assert CANARY not in str(caught.value)


def test_a_request_tells_the_server_nothing_of_this_machine_or_of_other_accounts(monkeypatch, caplog):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, CANARY)
    caplog.set_level(logging.DEBUG)
    with OpenAIServer(EchoGenerator()) as server:
        ask(server)
        sent = [headers for _, headers, _ in server.requests]
    assert all({name.split("-")[0] for name in headers}.isdisjoint({"Authorization", "Openai"}) for headers in sent)
    assert CANARY not in str(sent) and "Linux" not in str(sent) and "card number" not in caplog.text


def test_an_answer_that_holds_the_key_is_blotted_out():
    body = json.dumps({"choices": [{"text": f"your key is {CANARY}"}]}).encode()
    with OpenAIServer(EchoGenerator(), faults=[Fault(body=body)]) as server:
        assert ask(server, n=1, prompts=PROMPTS[:1], key=CANARY) == [[Completion("your key is ***", finished=True)]]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("REFSYNTH_API_KEY", True),
        ("REFSYNTH_MINE", True),
        ("OPENAI_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("HOME", False),
        ("GITHUB_TOKEN", False),
        ("REFSYNTH_DB_PASSWORD", False),
        ("XREFSYNTH_KEY", False),
        ("refsynth_key", False),
        ("", False),
    ],
)
def test_a_task_from_a_stranger_names_no_other_secret(name, taken):
    tree = {"labels": ["a", "b"], "reference": {"endpoint": "http://localhost/v1", "model": "m", "key_env": name}}
    if taken:
        assert RunConfig.parse(tree).reference.key_env == name
    else:
        with pytest.raises(ConfigError, match="not a variable for keys of language models"):
            RunConfig.parse(tree)
