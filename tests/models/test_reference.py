"""The references without a server: the echo, a folder with a tiny random model, the embedded one where it is in the cache."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.errors import ModelError
from refsynth.core.files import write_json
from refsynth.core.hashes import file_digest
from refsynth.core.protocols import Generator
from refsynth.core.types import Completion, Prompt
from refsynth.models import gguf
from refsynth.models.catalog import CATALOG
from refsynth.models.manifest import LAYOUT, MANIFEST, model_hash
from refsynth.models.reference import EchoGenerator, EmbeddedGenerator, EndpointGenerator, FolderGenerator
from refsynth.models.reference.continuation import completion_of, continuation
from refsynth.models.store import ModelStore
from tests.support.openai_server import OpenAIServer
from tests.support.processor import EXACT_SUMS

CARD = Prompt("Texts about cards:\n\n- my new card has not arrived\n- when does the card come\n-", "card")
FOOD = Prompt("Texts about food:\n\n- the soup was cold and late\n- good bread, slow kitchen\n-", "food")


class TestSeam:
    @pytest.mark.parametrize(
        ("prompt", "text", "expected"),
        [("-", "a", " a"), ("- ", "a", "a"), ("-", " a", " a"), ('"', "a", "a"), ("", "a", "a"), ("-", "", ""), ("\n", "a", "a")],
    )
    def test_continuation(self, prompt, text, expected):
        assert continuation(prompt, text) == expected

    @given(st.text(), st.booleans())
    def test_completion_never_holds_the_stop(self, text, finished):
        completion = completion_of(text, finished=finished)
        assert "\n" not in completion.text and text.startswith(completion.text)
        assert completion.finished == (finished or "\n" in text)


class TestEcho:
    def test_deterministic_distinct_and_of_its_class(self):
        echo = EchoGenerator()
        assert isinstance(echo, Generator) and echo.name == "echo"
        rows = echo.generate([CARD, FOOD, CARD], n=64, seed=0)
        assert (
            rows == EchoGenerator().generate([CARD, FOOD, CARD], n=64, seed=0) != echo.generate([CARD, FOOD, CARD], n=64, seed=1)
        )
        assert all(len({completion.text for completion in row}) == 64 for row in rows) and rows[0] != rows[2]
        assert all("soup" not in c.text for c in rows[0]) and any("soup" in c.text for c in rows[1])

    @given(st.text(max_size=60), st.text(max_size=9), st.integers(1, 20))
    def test_any_prompt(self, text, label, n):
        (row,) = EchoGenerator().generate([Prompt(text, label)], n=n, seed=0)
        assert len({completion.text for completion in row}) == n and all(c.text.strip() and c.finished for c in row)

    def test_chinese_is_not_spaced(self):
        (row,) = EchoGenerator().generate(
            [Prompt("以下文本：\n\n- 我的新卡还没有到\n- 请问卡什么时候寄出\n-", "卡")], n=9, seed=0
        )
        assert all(" " not in completion.text.strip() for completion in row)

    def test_score_prefers_the_class(self):
        values = EchoGenerator().score([CARD, FOOD], ["my card has not arrived"] * 2)
        assert values.shape == (2,) and values[1] < values[0] == 0.0


@pytest.fixture(scope="module")
def folder(tiny_causal):
    return tiny_causal


class TestFolder:
    def test_deterministic_whatever_ran_before(self, folder):
        first = FolderGenerator(folder, max_tokens=12)
        rows = first.generate([CARD, FOOD, CARD], n=3, seed=5)
        assert isinstance(first, Generator) and first.name.startswith("folder:")
        other = FolderGenerator(folder, max_tokens=12)
        other.generate([FOOD], n=2, seed=1)
        assert other.generate([CARD, FOOD, CARD], n=3, seed=5) == rows != other.generate([CARD, FOOD, CARD], n=3, seed=6)
        assert [len(row) for row in rows] == [3, 3, 3] and rows[0] != rows[2] and other.name == first.name

    def test_does_not_touch_the_global_generator(self, folder):
        import torch

        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        FolderGenerator(folder, max_tokens=4).generate([CARD], n=2, seed=0)
        assert torch.equal(torch.rand(1), expected)

    def test_stop_and_limit(self, folder):
        rows = FolderGenerator(folder, max_tokens=200).generate([CARD], n=8, seed=0)[0]
        assert all("\n" not in completion.text for completion in rows) and any(completion.finished for completion in rows)
        short = FolderGenerator(folder, max_tokens=2).generate([CARD], n=8, seed=0)[0]
        assert not all(completion.finished for completion in short)

    def test_score_equals_a_plain_forward_pass(self, folder):
        """Reference: log-softmax over the whole sequence without a cache or padding."""
        import torch
        import transformers

        prompts, texts = [CARD, FOOD, CARD, CARD], ["where is it", "cold", "", "a rather longer text about a card"]
        values = FolderGenerator(folder).score(prompts, texts)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for value, prompt, text in zip(values, prompts, texts, strict=True):
            head, tail = [0, *tokenizer(prompt.text)["input_ids"]], tokenizer(continuation(prompt.text, text))["input_ids"]
            if not text:
                assert np.isnan(value)
                continue
            with torch.inference_mode():
                logs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
            expected = np.mean([logs[len(head) - 1 + i, token].item() for i, token in enumerate(tail)])
            assert value == pytest.approx(expected, abs=1e-4)

    def test_control_tokens_in_a_prompt_are_text(self, folder):
        generator = FolderGenerator(folder)
        assert 2 not in generator._ids("a <|im_end|> b", start=False) and generator._ids("a", start=True)[0] == 0

    def test_not_a_model(self, tmp_path, folder):
        with pytest.raises(ModelError, match="not a model folder"):
            FolderGenerator(tmp_path)
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "model.safetensors").write_bytes(b"garbage")
        with pytest.raises(ModelError, match="does not load"):
            FolderGenerator(tmp_path)

    def test_pickled_weights_are_refused(self, tmp_path, folder):
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError, match="safetensors"):
            FolderGenerator(tmp_path)


def test_embedded_needs_a_ready_folder(tmp_path):
    with pytest.raises(ModelError, match="not a model of the store"):
        EmbeddedGenerator(tmp_path)


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def smollm2(request, tmp_path_factory):
    """The embedded reference's folder: the tiny model converted as the real one is, and the real one where it is in the cache."""
    if request.param == "tiny":
        source, ready = tmp_path_factory.mktemp("embedded") / "full", tmp_path_factory.mktemp("ready")
        shutil.copytree(request.getfixturevalue("folder"), source)
        gguf.quantize(source, ready)
        files = {path.name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for path in ready.iterdir()}
        assert not source.exists() and set(files) == set(CATALOG["smollm2"].files)
        write_json(ready / MANIFEST, {"layout": LAYOUT, "source": "test", "files": files})
        return ready
    if not ModelStore().status("smollm2").ready:
        pytest.skip("smollm2 is not in the cache: refsynth models fetch smollm2")
    return ModelStore().path("smollm2")


OTHER_PROCESS = """
import json, sys
from pathlib import Path
from refsynth.core.types import Prompt
from refsynth.models.reference import EmbeddedGenerator
folder, prompts = sys.argv[1], [Prompt(text, "") for text in json.loads(sys.argv[2])]
print(json.dumps(EmbeddedGenerator(Path(folder), max_tokens=8).generate(prompts, n=3, seed=4)))
"""


class TestEmbedded:
    def test_deterministic_whatever_ran_before_and_in_another_process(self, smollm2):
        generator = EmbeddedGenerator(smollm2, max_tokens=8)
        prompts = [CARD, FOOD, CARD, FOOD, CARD]  # more than one unit of work
        rows = generator.generate(prompts, n=3, seed=4)
        assert generator.generate([FOOD], n=2, seed=4)[0] != rows[1]
        assert generator.generate(prompts, n=3, seed=4) == rows != generator.generate(prompts, n=3, seed=5)
        assert len({json.dumps(row) for row in rows}) == 5  # equal prompts are not answered alike
        texts = json.dumps([prompt.text for prompt in prompts])
        answer = subprocess.run([sys.executable, "-c", OTHER_PROCESS, smollm2, texts], capture_output=True, text=True, check=True)
        assert [[Completion(*pair) for pair in row] for row in json.loads(answer.stdout)] == rows

    def test_completions(self, smollm2):
        generator = EmbeddedGenerator(smollm2, max_tokens=12)
        assert isinstance(generator, Generator) and generator.name == f"embedded:smollm2:{model_hash(smollm2)[:12]}"
        rows = [completion for row in generator.generate([CARD, FOOD], n=16, seed=0) for completion in row]
        assert all("\n" not in completion.text and "<|" not in completion.text for completion in rows)
        assert {completion.finished for completion in rows} == {True, False}

    def test_control_tokens_in_a_prompt_are_text(self, smollm2):
        generator = EmbeddedGenerator(smollm2)
        tokens = generator._tokens("a <|im_end|>\n<|im_start|>system", start=False)
        assert not {"<|im_end|>", "<|im_start|>"} & set(tokens) and "".join(tokens).count("|") == 4

    def test_score_equals_a_forward_pass(self, smollm2):
        """Reference: CTranslate2's own logits of one unpadded sequence."""
        import ctranslate2

        generator = EmbeddedGenerator(smollm2)
        texts = ["my card is late", "soup", "", "the soup was cold"]
        values = generator.score([CARD, CARD, CARD, FOOD], texts)
        assert np.isnan(values[2]) and values.shape == (4,)
        head, tail = generator._tokens(CARD.text, start=True), generator._tokens(" my card is late", start=False)
        model = ctranslate2.Generator(str(smollm2), compute_type="int8", intra_threads=1)
        logs = np.array(model.forward_batch([head + tail], return_log_probs=True))[0]
        ids = [generator._tokenizer.token_to_id(token) for token in tail]
        expected = np.mean([logs[len(head) - 1 + i, index] for i, index in enumerate(ids)])
        if EXACT_SUMS:
            assert values[0] == pytest.approx(expected, abs=0.05)
        on_topic, off_topic = generator.score([FOOD, CARD], ["the soup was cold"] * 2)
        assert on_topic > off_topic

    def test_empty_calls(self, smollm2):
        generator = EmbeddedGenerator(smollm2)
        assert generator.generate([], n=3, seed=0) == [] and generator.score([], []).shape == (0,)

    def test_behind_a_server(self, smollm2):
        embedded = EmbeddedGenerator(smollm2, max_tokens=8)
        with OpenAIServer(embedded) as server:
            rows = EndpointGenerator(server.base, model="smollm2").generate([CARD], n=3, seed=0)
        assert len(rows[0]) == 3 and any(completion.text.strip() for completion in rows[0])

    def test_damaged_model(self, smollm2, tmp_path):
        for path in smollm2.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes() if path.name != "model.bin" else bytes(path.stat().st_size))
        with pytest.raises(ModelError, match="does not load"):
            EmbeddedGenerator(tmp_path).generate([CARD], n=1, seed=0)
