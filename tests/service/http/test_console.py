"""The console in a real browser: texts are labeled and explained, figures move, keys stay in memory, all is from here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from refsynth.cli.guards import compose, prepare
from refsynth.service.http.auth import Keyring
from refsynth.service.http.schema import ModelOut, StoredFeedbackOut
from tests.support.serving import Running, running, save_bundle

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PATIENCE = 30_000  # milliseconds; for a page that hangs, not a measurement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("console") / "bundle")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser) -> Iterator[object]:
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.set_default_timeout(PATIENCE)
    opened.problems, opened.asked = [], []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on(
        "console", lambda line: opened.problems.append(line.text) if line.type == "error" and "401" not in line.text else None
    )
    opened.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    opened.close()


@pytest.fixture
def keyed(folder: Path, tmp_path: Path) -> Iterator[tuple[Running, str]]:
    keys, record = tmp_path / "keys.json", tmp_path / "record.sqlite"
    key = Keyring(keys).add("console", scopes=("predict", "explain", "feedback", "admin")).presented
    prepare({"record": str(record)})
    with running(folder, guards=compose({"keys": str(keys), "record": str(record), "keep_texts": True}, tmp_path)) as server:
        yield server, key


def test_its_policy_allows_only_what_is_in_it(folder: Path) -> None:
    with running(folder) as server:
        reply = httpx.get(server.url)
        policy = reply.headers["content-security-policy"]
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("'sha256-") == 2
        assert not re.search(r"""(?:src|href)=["'](?!data:,)|https?://|@import|style=|innerHTML|\bon[a-z]+=""", reply.text)
        assert "/" not in httpx.get(server.url + "/openapi.json").json()["paths"]


@pytest.mark.parametrize(("function", "reply"), [("model", ModelOut), ("feedback", StoredFeedbackOut)])
def test_it_reads_only_fields_that_a_reply_has(function: str, reply: type[BaseModel]) -> None:
    page = (files("refsynth.service.http") / "console.html").read_text()
    source = page.partition(f"async function {function}() {{")[2].partition("\n}")[0]
    fields = set(re.findall(r"\bone\.(\w+)", source))
    assert fields and fields <= set(reply.model_fields)


@needs_browser
def test_a_text_is_labeled_and_explained(folder: Path, page) -> None:
    with running(folder) as server:
        page.goto(server.url)
        sync_api.expect(page.locator("#state")).to_have_text("ready", timeout=PATIENCE)
        page.fill("#text", "w1 w2 <b>w3</b>")
        page.click("#why")
        sync_api.expect(page.locator("#parts .bar").first).to_be_visible(timeout=PATIENCE)
        expected = server.service.engine.current.model.predict(["w1 w2 <b>w3</b>"])[0]
        assert page.inner_text("#label") == expected.label
        assert page.locator("#unsure").is_visible() == expected.abstain
        names = page.locator("#bars .name").all_inner_texts()
        assert names == [name for name, _ in sorted(expected.probabilities.items(), key=lambda pair: -pair[1])]
        width = page.locator("#bars .fill").first.evaluate("fill => fill.style.width")
        assert float(width.rstrip("%")) == pytest.approx(100 * expected.probability, abs=0.1)
        assert {"w1", "w2", "w3"} & set(page.locator("#parts .name").all_inner_texts())
        assert not page.locator("#correct").is_visible()
        sync_api.expect(page.locator("#rate")).not_to_have_text("–", timeout=PATIENCE)
        assert page.inner_text("#version") == server.service.engine.current.version
        assert page.inner_text("#model") == "3 labels, en, tfidf, version"
        assert page.inner_text("#tier") == "exact"
        assert all(url.startswith((server.url, "data:")) for url in page.asked)
        assert [line for line in page.problems if "404" not in line] == []  # /v1/feedback of a server without a record


@needs_browser
def test_a_key_opens_it_and_feedback_is_shown(keyed: tuple[Running, str], page) -> None:
    server, key = keyed
    page.goto(server.url)
    sync_api.expect(page.locator("#key-field")).to_be_visible(timeout=PATIENCE)
    sync_api.expect(page.locator("#no-metrics")).to_be_visible(timeout=PATIENCE)
    page.fill("#text", "w5 w6, mail joe@example.com")
    page.click("#ask")
    sync_api.expect(page.locator("#problem")).to_contain_text("API key", timeout=PATIENCE)
    page.fill("#key", key)
    page.press("#key", "Tab")
    page.click("#ask")
    sync_api.expect(page.locator("#label")).not_to_be_empty(timeout=PATIENCE)
    sync_api.expect(page.locator("#correct")).to_be_visible(timeout=PATIENCE)
    page.select_option("#right", "delivery")
    page.click("#send")
    sync_api.expect(page.locator("#sent")).to_have_text("stored", timeout=PATIENCE)
    sync_api.expect(page.locator("#given")).to_contain_text("delivery", timeout=PATIENCE)
    sync_api.expect(page.locator("#given")).to_contain_text("[EMAIL]", timeout=PATIENCE)
    sync_api.expect(page.locator("#figures")).to_be_visible(timeout=PATIENCE)
    stored = page.evaluate(
        "() => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie])"
    )
    assert key not in stored
    assert key not in page.url
    assert page.problems == []


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_narrow_and_wide_screens_in_both_schemes(folder: Path, page, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    with running(folder) as server:
        page.goto(server.url)
        page.fill("#text", "w1 w2 " + "unbroken" * 40)
        page.click("#why")
        sync_api.expect(page.locator("#parts .bar").first).to_be_visible(timeout=PATIENCE)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        ground, text = page.evaluate("() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; }")
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, text)]
        assert (light[0] > light[1]) == (scheme == "light")


@needs_browser
def test_without_a_key_it_asks_once_and_waits(keyed: tuple[Running, str], page) -> None:
    server, key = keyed
    page.goto(server.url)
    sync_api.expect(page.locator("#no-metrics")).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(5_000)  # two more polls, were there any
    asked = [url.removeprefix(server.url) for url in page.asked if url.startswith(server.url)]
    assert [path for path in asked if path != "/"] == ["/health/ready", "/v1/models"]
    page.fill("#key", key)
    page.press("#key", "Tab")
    sync_api.expect(page.locator("#version")).not_to_be_empty(timeout=PATIENCE)
    sync_api.expect(page.locator("#rate")).not_to_have_text("–", timeout=PATIENCE)  # it polls again


@needs_browser
def test_what_a_key_may_not_see_is_asked_for_once(folder: Path, tmp_path: Path, page) -> None:
    keys = tmp_path / "keys.json"
    key = Keyring(keys).add("console", scopes=("predict",)).presented
    with running(folder, guards=compose({"keys": str(keys)}, tmp_path)) as server:
        page.goto(server.url)
        page.fill("#key", key)
        page.press("#key", "Tab")
        sync_api.expect(page.locator("#version")).not_to_be_empty(timeout=PATIENCE)
        page.wait_for_timeout(5_000)
        paths = [url.removeprefix(server.url) for url in page.asked]
        assert paths.count("/metrics") == paths.count("/v1/feedback") == 1
        assert paths.count("/health/ready") >= 3


class TestManual:
    def test_it_needs_nothing_from_elsewhere_and_shows_every_route(self, folder: Path) -> None:
        with running(folder) as server:
            reply = httpx.get(server.url + "/docs")
            described = httpx.get(server.url + "/openapi.json").json()
        assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
        assert "script-src 'none'" in reply.headers["content-security-policy"]
        assert not re.search(r"""<script|(?:src|href)=["'](?!data:,)|@import|https?://(?!127\.0\.0\.1)""", reply.text)
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                assert f"<h2>{method.upper()} {path}</h2>" in reply.text
                assert all(f"<tr><th>{status}</th>" in reply.text for status in operation["responses"])
        assert "Authorization" not in reply.text and "@media print" in reply.text
        assert "/docs" not in described["paths"]

    def test_with_keys_it_is_there_without_one_and_says_so(self, keyed: tuple[Running, str]) -> None:
        reply = httpx.get(keyed[0].url + "/docs")
        assert reply.status_code == 200 and "Authorization: Bearer KEY" in reply.text
        examples = re.findall(r"<pre>(curl .*?)</pre>", reply.text)
        assert len(examples) == 4 and all("-H 'Authorization: Bearer KEY'" in example for example in examples)

    @pytest.mark.parametrize("asked", ["", "localhost", "labels.example:8443", '"<script>'])
    def test_its_examples_name_the_address_that_it_was_asked_for(self, keyed: tuple[Running, str], asked: str) -> None:
        url = keyed[0].url
        reply = httpx.get(url + "/docs", headers={"Host": asked} if asked else {})
        assert reply.status_code == 200 and "<script" not in reply.text
        if "<" not in asked:
            assert f"{f'http://{asked}' if asked else url}/v1/predict</pre>" in reply.text

    @needs_browser
    def test_a_browser_shows_it_without_a_complaint(self, folder: Path, page) -> None:
        with running(folder) as server:
            page.goto(server.url + "/docs")
            assert page.locator("h2").count() == 8
            assert page.problems == [] and all(url.startswith((server.url, "data:")) for url in page.asked)
