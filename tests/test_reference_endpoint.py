"""The endpoint reference against a real local server: answers, faults, retries, budget, and a key that never shows."""

from __future__ import annotations

import email.utils
import json
import logging
import time
import traceback

import numpy as np
import pytest

from openai_server import Fault, OpenAIServer
from refsynth.core.errors import EndpointError
from refsynth.core.protocols import Generator
from refsynth.core.types import Completion, Prompt
from refsynth.models.reference import EchoGenerator, EndpointGenerator, PartialAnswerError, RememberedScores, client, remembered
from refsynth.models.reference.client import BudgetError

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


def test_chat_only_server():
    with OpenAIServer(EchoGenerator(), chat_only=True) as server:
        generator = EndpointGenerator(server.base, model="echo", concurrency=1)
        rows = generator.generate(PROMPTS, n=2, seed=0)
        assert [len(row) for row in rows] == [2, 2, 2]
        assert sum(path == "/v1/completions" for path, _, _ in server.requests) == 1  # asked once, then known
        with pytest.raises(EndpointError, match="cannot score"):
            generator.score(PROMPTS, ["x"] * 3)


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
        assert len(server.requests) == (2 if status == 404 else 1)  # 404 may mean that only chat is served
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


@pytest.mark.parametrize("base", ["ftp://host/v1", "http://", "v1"])
def test_address_is_checked(base):
    with pytest.raises(EndpointError, match="not an http address"):
        EndpointGenerator(base, model="m")


def test_password_in_the_address_shows_nowhere():
    with OpenAIServer(EchoGenerator(), faults=[Fault(status=400)]) as server, pytest.raises(EndpointError) as caught:
        base = server.base.replace("http://", f"http://user:{CANARY}@")
        EndpointGenerator(base, model="echo").generate(PROMPTS[:1], n=1, seed=0)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


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
