"""Texts that cannot be answered: empty ones get no answer in any form, and long ones are not cut where that is not wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.cli.guards import compose, prepare
from refsynth.core.pair import DIVIDER
from refsynth.models.tokenizer import TextTokenizer
from tests.support.serving import Running, running, save_bundle, save_encoder
from tests.support.tiny_encoder import MAX_TOKENS, make_tokenizer

EMPTY = ["", " ", "\t\r\n", "\x00", "\u200b\ufeff", "\u2060 \u3000"]


@pytest.fixture(scope="module", params=["classify", "multilabel"])
def server(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(save_bundle(tmp_path_factory.mktemp("texts") / "bundle", task=request.param)) as started:
        yield started


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(save_bundle(tmp_path_factory.mktemp("pairs") / "bundle", task="pairs")) as started:
        yield started


def post(server: Running, path: str, body: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=body, timeout=30)


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["message"]


class TestEmpty:
    @pytest.mark.parametrize("text", EMPTY)
    def test_it_has_an_error_in_its_place_and_hurts_no_other(self, server: Running, text: str) -> None:
        said = post(server, "/v1/predict", {"texts": ["w1", text, "w2"]}).json()["predictions"]
        assert said[1] == {"error": {"code": "empty_text", "message": "empty text"}}
        alone = post(server, "/v1/predict", {"texts": ["w1", "w2"]}).json()["predictions"]
        assert [said[0], said[2]] == alone

    @pytest.mark.parametrize("text", EMPTY)
    def test_where_nothing_else_is_asked_the_request_is_refused(self, server: Running, text: str) -> None:
        assert refused(post(server, "/v1/predict", {"texts": text})) == (422, "texts[0]: empty text")
        assert refused(post(server, "/v1/predict", {"texts": [text, text]})) == (422, "texts[0]: empty text")
        assert refused(post(server, "/predict", {"inputs": text})) == (422, "inputs[0]: empty text")
        assert refused(post(server, "/predict", {"inputs": [["w1"], [text]]})) == (422, "inputs[1]: empty text")
        assert refused(post(server, "/v1/explain", {"text": text})) == (422, "text: empty text")

    def test_the_words_are_those_of_the_command_line(self, server: Running, tmp_path: Path) -> None:
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in EMPTY[:3]))
        done = CliRunner().invoke(app, ["predict", str(server.service.settings.bundle), str(rows)])
        said = post(server, "/v1/predict", {"texts": ["w1", *EMPTY[:3]]}).json()["predictions"][1:]
        assert [json.loads(line)["error"] for line in done.stdout.splitlines() if line.startswith("{")] == [
            one["error"]["message"] for one in said
        ]

    @pytest.mark.parametrize(
        ("pair", "half"),
        [
            (["w1", ""], "second"),
            (["", "w1"], "first"),
            (["", ""], "first"),
            (["w1", "\u200b"], "second"),
            (f"w1 {DIVIDER} ", "second"),
            (f"{DIVIDER} w1", "first"),
            (DIVIDER, "first"),
        ],
    )
    def test_a_pair_with_an_empty_side_is_none(self, pairs: Running, pair: Any, half: str) -> None:
        words = f"no text in '{half}' of [first, second]"
        said = post(pairs, "/v1/predict", {"texts": [pair, ["w1", "w2"]]}).json()["predictions"]
        assert said[0] == {"error": {"code": "empty_text", "message": words}} and "label" in said[1]
        assert refused(post(pairs, "/v1/explain", {"text": pair})) == (422, f"text: {words}")
        if isinstance(pair, list):
            assert refused(post(pairs, "/predict", {"inputs": [pair]})) == (422, f"inputs[0]: {words}")

    def test_too_many_are_refused_before_any_is_looked_at(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("refsynth.service.http.service.read_text", None)
        for path, body in (("/v1/predict", {"texts": [""] * 300_000}), ("/predict", {"inputs": [[]] * 300_000})):
            assert post(server, path, body).status_code == 413

    @pytest.mark.parametrize("given", [[[]], [["w1"], []], [None], [["w1", 1]], [[["w1"]]]])
    def test_lists_that_are_no_texts_are_refused(self, server: Running, given: Any) -> None:
        assert post(server, "/v1/predict", {"texts": given}).status_code == 422

    def test_rows_of_the_record_are_those_of_the_request(self, tmp_path: Path) -> None:
        options = {"record": str(tmp_path / "record.sqlite"), "keep_texts": True}
        prepare(options)
        with running(save_bundle(tmp_path / "bundle"), guards=compose(options, tmp_path)) as server:
            asked = post(server, "/v1/predict", {"texts": ["", "w1", " ", "w2"]}).json()["request_id"]
            assert post(server, "/v1/feedback", {"request_id": asked, "row": 3, "label": "other"}).status_code == 200
            server.service.guards.recorder._writer.close()
            (given,) = server.service.guards.recorder.recent(5)
        assert (given.row, given.text, given.request_id) == (3, "w2", asked)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(save_encoder(tmp_path_factory.mktemp("encoder"))) as started:
        yield started


class TestLong:
    BODIES = (
        ("/v1/predict", lambda text: {"texts": ["now", text]}),
        ("/v1/predict", lambda text: {"texts": text}),
        ("/predict", lambda text: {"inputs": text}),
        ("/predict", lambda text: {"inputs": [["now"], [text]]}),
        ("/v1/explain", lambda text: {"text": text}),
    )

    @pytest.mark.parametrize(("path", "body"), BODIES)
    @pytest.mark.parametrize("text", ["where is it now " * 100, "a " * (MAX_TOKENS - 1), "x" * 19_000])
    def test_it_is_cut_or_refused_as_is_wanted(self, encoder: Running, path: str, body: Any, text: str) -> None:
        whole = post(encoder, path, {**body(text), "truncate": False})
        assert whole.status_code == 413
        assert whole.json()["error"]["code"] == "too_long" and "truncate" in whole.json()["error"]["message"]
        for cut in ({}, {"truncate": True}):
            assert post(encoder, path, {**body(text), **cut}).status_code == 200

    @pytest.mark.parametrize(("path", "body"), BODIES)
    def test_what_fits_is_answered_the_same(self, encoder: Running, path: str, body: Any) -> None:
        text = "a " * (MAX_TOKENS - 2)
        assert post(encoder, path, {**body(text), "truncate": False}).status_code == 200

    def test_what_reads_all_of_a_text_cuts_none(self, server: Running) -> None:
        assert post(server, "/v1/predict", {"texts": "w1 " * 6_000, "truncate": False}).status_code == 200

    @pytest.mark.parametrize("words", [True, False])
    def test_a_text_is_cut_where_it_has_more_tokens_than_are_read(self, tmp_path: Path, words: bool) -> None:
        file = make_tokenizer(tmp_path / "t.json")
        reads, counts = TextTokenizer(file, max_tokens=MAX_TOKENS), TextTokenizer(file, max_tokens=10_000)
        texts = [" ".join(["where", "is", "a", "parcel"][: 1 + n % 4] * n) for n in range(1, 16)]
        lengths = [len(row.ids) for row in counts.words(texts)] if words else [len(row) for row in counts.encode(texts)]
        assert min(lengths) < MAX_TOKENS < max(lengths)
        assert [reads.truncates(text, words=words) for text in texts] == [length > MAX_TOKENS for length in lengths]
