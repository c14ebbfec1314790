"""Shared: a model store with tiny random models, so that a whole run takes seconds and needs nothing that is not here."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from refsynth.models.catalog import CATALOG
from refsynth.models.encoders import ENCODERS
from refsynth.models.manifest import seal
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import RunResult, run
from tests.support.runs import make_task, task_in
from tests.support.tiny_encoder import make_encoder, make_tokenizer

# `make test` takes few examples, the same every time. `make test-all` asks for the other profile, whose examples are new each
# time but in CI. Machines are noisy, so no example has a deadline.
settings.register_profile("quick", deadline=None, max_examples=20, derandomize=True)
settings.register_profile("full", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("quick")

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(1)  # tests run side by side; the models are tiny


def write_tiny(folder: Path) -> Path:
    """Write the tiny encoder as a Hugging Face folder."""
    make_encoder().save_pretrained(folder)
    path = make_tokenizer(folder / "tokenizer.json")
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_file=str(path), **names).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of these tests. Take `alone` there to make something in it; read it only, for others do too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def alone(shared: Path) -> Iterator[None]:
    """Hold what other processes wait for; the system lets go of it for a process that ends."""
    with (shared / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny_cache(shared: Path) -> Path:
    """A cache (for REFSYNTH_CACHE) in which both encoders are the tiny one."""
    cache = shared / "cache"
    with alone(shared):
        if not cache.exists():
            for name in ENCODERS:
                seal(CATALOG[name], write_tiny(shared / "cache.part" / "models" / name), "hub, made by the tests")
            (shared / "cache.part").rename(cache)
    return cache


def run_once(shared: Path, name: str, cache: Path, **changes: object) -> RunResult:
    """Run a task in the shared folder: the first process makes it, the others find each step done."""
    folder = shared / name
    with alone(shared):
        task = task_in(folder, **changes) if folder.exists() else make_task(folder, **changes)
        return run(task, folder / "out", store=ModelStore(cache))


@pytest.fixture(scope="session")
def whole_run(shared: Path, tiny_cache: Path) -> RunResult:
    """A run with drafts, a gate and a test file, and its report."""
    return run_once(shared, "whole", tiny_cache)


@pytest.fixture(scope="session")
def small_run(shared: Path, tiny_cache: Path) -> RunResult:
    """A run without drafts that ships TF-IDF."""
    return run_once(shared, "small", tiny_cache, synthesis={"drafts": 0}, learners=["tfidf"])


@pytest.fixture(scope="session")
def masking(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with a token for a masked word."""
    folder = tmp_path_factory.mktemp("masking") / "model"
    shutil.copytree(tiny_folder, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def masked_store(masking: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store in which both encoders are the tiny one with a token for a masked word."""
    root = tmp_path_factory.mktemp("cache")
    for name in ENCODERS:
        shutil.copytree(masking, root / "models" / name)
        (root / "models" / name / "manifest.json").unlink(missing_ok=True)
        seal(CATALOG[name], root / "models" / name, "hub, made by the tests")
    return ModelStore(root)


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama over bytes, in a Hugging Face folder."""
    path = tmp_path_factory.mktemp("causal")
    vocabulary = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2} | {
        char: 3 + i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        bos_token_id=0, eos_token_id=2, max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path
