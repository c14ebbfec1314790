"""Runs with a server as the reference: how it is asked, what is paid once, what is never written, how they end without drafts."""

import re

import pytest

from refsynth.core.errors import EndpointError
from refsynth.core.files import read_jsonl
from refsynth.core.observe import Silent
from refsynth.core.types import Draft, Example
from refsynth.models.reference import EchoGenerator
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from refsynth.synthesis.no_drafts import explain_no_drafts
from refsynth.synthesis.parse import REFUSED
from refsynth.synthesis.selection.filter import COPY
from tests.support.openai_server import OpenAIServer, numbered
from tests.support.runs import make_task

KEY = "sk-canary-5b0e77c1"


class Told(Silent):
    def __init__(self):
        self.lines, self.notes = {}, []

    def stage(self, name, line):
        self.lines[name] = line

    def note(self, line):
        self.notes.append(line)


@pytest.fixture
def go(tmp_path, tiny_cache, monkeypatch):
    """Run a small task with a server; what the run told comes with it."""
    monkeypatch.setenv("REFSYNTH_API_KEY", KEY)

    def go(server, **changes):
        told = Told()
        reference = {"endpoint": server.base, "model": "echo", "retries": 0, **changes.pop("reference", {})}
        asked = {"reference": reference, "learners": ["tfidf"], "synthesis": {"drafts": 24, "per_prompt": 4}}
        task = make_task(tmp_path / "task", **{**asked, **changes})
        return run(task, tmp_path / "out", store=ModelStore(tiny_cache), watch=told), told

    return go


def contents(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_chat_endpoint_writes_drafts_once_and_leaves_no_secret(go, tmp_path):
    with OpenAIServer(EchoGenerator(), chat_only=True, key=KEY) as server:
        result, told = go(server)
        asked = len(server.requests)
        assert told.lines["reference"].endswith("takes chat messages, gives no log-probabilities")
        assert result.evidence.learned.written.asked == 24 and len(result.evidence.learned.written.drafts) == 24
        assert not any(re.search(r"Here are|^\d+\.|more!$", draft.text) for draft in result.evidence.learned.written.drafts)
        go(server)
        assert len(server.requests) == asked
        (tmp_path / "out" / "steps" / "drafts" / "step.json").unlink()  # as after a change of code: answers are in the journal
        go(server)
        assert len(server.requests) == asked
    shown = list(read_jsonl(tmp_path / "out" / "steps" / "drafts" / "prompts.jsonl"))
    assert all(prompt["chat"].startswith("Write {n} different texts") for prompt in shown)
    assert KEY.encode() not in contents(tmp_path)
    go(server)  # it is closed now: nothing is asked of it


def test_a_server_that_continues_prompts_is_asked_to(go, tmp_path):
    with OpenAIServer(EchoGenerator(), completes_only=True) as server:
        _, told = go(server)
        assert "continues prompts, gives log-probabilities" in told.lines["reference"]
        paths = [path for path, _, _ in server.requests]
        assert paths.count("/v1/chat/completions") == 1  # of the probe
    assert all("chat" not in prompt for prompt in read_jsonl(tmp_path / "out" / "steps" / "drafts" / "prompts.jsonl"))


def test_a_run_that_needs_scores_ends_before_it_pays(go):
    with OpenAIServer(EchoGenerator(), chat_only=True) as server:
        with pytest.raises(EndpointError, match="cannot score texts"):
            go(server, filter={"scores": {"likelihood": 0.0}})
        assert len(server.requests) == 2  # those of the probe


def test_nothing_is_asked_where_nothing_is_wanted(go):
    with OpenAIServer(EchoGenerator(), key="another") as server:
        go(server, synthesis={"drafts": 0})
        assert not server.requests


def test_a_wrong_model_ends_the_run_with_those_that_are_there(go):
    with OpenAIServer(EchoGenerator(), models=["echo-2"]) as server, pytest.raises(EndpointError, match="models there: echo-2"):
        go(server)


@pytest.mark.parametrize("cold", [False, True], ids=["rows", "names alone"])
@pytest.mark.parametrize(
    ("say", "message"),
    [
        (lambda texts: "I'm sorry, but I can't help with that.", r"none of 24 drafts is kept \(24 refused\); the model refuses"),
        (lambda texts: "", r"none of 24 drafts is kept \(24 not written\); the model answers without texts: name a larger"),
        (lambda texts: numbered([text[:3] for text in texts]), r"\(24 too short\); the model does not write texts"),
    ],
    ids=["refused", "empty", "short"],
)
def test_no_draft_kept_ends_with_why_and_what_to_do(go, say, message, cold):
    with OpenAIServer(EchoGenerator(), chat_only=True, say=say) as server:
        _, told = go(server, **({"data": {}} if cold else {}))
    (note,) = [note for note in told.notes if note.startswith("none of")]
    assert re.search(message, note)


@pytest.mark.parametrize(
    ("rejected", "dropped", "told"),
    [
        ({REFUSED: 3}, [COPY], "3 refused, 1 copies a seed row"),
        ({}, ["other class"] * 2, "2 other class"),
        ({}, [None, COPY], None),
        ({}, [], None),
    ],
)
def test_why_none_is_kept(rejected, dropped, told):
    drafts = [Draft(Example(str(place), "text", "late"), dropped=why) for place, why in enumerate(dropped)]
    said = explain_no_drafts(4, rejected, drafts)
    assert said is None if told is None else f"({told})" in said
