"""Pruning leaves every text in the kept scripts exactly as it was: the same pieces, the same embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from refsynth.compress.prune import Pruned, prune_vocabulary, script_of
from refsynth.core.errors import ModelError

CORPUS = (
    "the parcel is late, the card is lost; where is the card? order 4711, please! café",
    "包裹晚到了两天，盒子已经破了。请问在哪里可以修改收货地址？退款一般需要多长时间？订单4711",
    "посылка опоздала на два дня, где моя карта? заказ 4711, пожалуйста!",
    "το δέμα άργησε δύο μέρες, πού είναι η κάρτα μου; παραγγελία 4711",
)
CHINESE = (
    "包裹晚到了两天，请问退款需要多长时间？",
    "订单4711的收货地址可以修改吗？card已经破了。",
    "博物馆星期天几点开门？盒子两天",
)
PREFIX = "query: "


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multilingual")
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    lines = ["▁" + line.replace(" ", "▁") for line in (*CORPUS, PREFIX)]
    pieces = sorted({line[i : i + n] for line in lines for n in (1, 2, 3) for i in range(len(line) - n + 1)})
    scores = np.random.default_rng(0).uniform(-12, -3, len(pieces))
    tokenizer = Tokenizer(Unigram([*((s, 0.0) for s in specials), *zip(pieces, scores.tolist(), strict=True)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(specials)
    tokenizer.add_special_tokens(["<mask>"])  # beyond the vocabulary
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pruned(source: Path) -> tuple[Path, Pruned]:
    target = source.parent / "pruned"
    return target, prune_vocabulary(source, target, CHINESE, prefix=PREFIX, share=0.2)


def rows(folder: Path, text: str) -> tuple[list[str], torch.Tensor]:
    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    table = AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach()
    return encoding.tokens, table[encoding.ids]


def test_other_scripts_go(pruned: tuple[Path, Pruned]) -> None:
    folder, report = pruned
    assert report.scripts == {"CJK"}
    assert 50 < report.after < 0.75 * report.before
    pieces = [piece for piece, _ in json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]]
    cyrillic = [piece for piece in pieces if any(script_of(c) == "CYRILLIC" for c in piece)]
    assert len(cyrillic) <= 1  # the piece with the lowest score, whatever its script
    assert "包裹" in pieces
    assert len(AutoModel.from_pretrained(folder).get_input_embeddings().weight) == report.after + 1  # and <mask>


def test_the_given_texts_keep_their_pieces_and_embeddings(source: Path, pruned: tuple[Path, Pruned]) -> None:
    for text in (*CHINESE, *(PREFIX + text for text in CHINESE)):  # one has a word in a script that goes
        (before, old), (after, new) = rows(source, text), rows(pruned[0], text)
        assert before == after
        assert torch.equal(old, new)


# Two Chinese characters here have no piece, so the score of the unknown decides too; ① and ㍿ become others when normalized.
alphabet = st.sampled_from(sorted({c for c in CORPUS[1]}) + list("鑫龘 ,.!?:;0123456789()“”％①\u3000"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet, max_size=40))
def test_any_text_in_the_kept_scripts_keeps_its_pieces(source: Path, pruned: tuple[Path, Pruned], text: str) -> None:
    old, new = (tokenizer_of(folder) for folder in (source, pruned[0]))
    assert new.encode(PREFIX + text).tokens == old.encode(PREFIX + text).tokens


_tokenizers: dict[Path, Tokenizer] = {}


def tokenizer_of(folder: Path) -> Tokenizer:
    return _tokenizers.setdefault(folder, Tokenizer.from_file(str(folder / "tokenizer.json")))


def test_ascii_stays_readable(pruned: tuple[Path, Pruned]) -> None:
    assert "<unk>" not in tokenizer_of(pruned[0]).encode("where is the parcel").tokens


def test_all_scripts_kept_is_the_same_vocabulary(source: Path, tmp_path: Path) -> None:
    report = prune_vocabulary(source, tmp_path / "all", CORPUS, prefix=PREFIX, share=0.0)
    assert report.before == report.after
    before, after = (json.loads((folder / "tokenizer.json").read_bytes()) for folder in (source, tmp_path / "all"))
    assert before == after


def test_the_folder_is_an_ordinary_one(pruned: tuple[Path, Pruned]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pruned[0])
    ids = tokenizer([CHINESE[0]])["input_ids"][0]
    assert ids == tokenizer_of(pruned[0]).encode(CHINESE[0]).ids
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<s>", "</s>"]


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(ModelError, match="WordPiece"):
        prune_vocabulary(tmp_path, tmp_path / "out", CHINESE, prefix="")


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "LATIN"),
        ("é", "LATIN"),
        ("中", "CJK"),
        ("の", "HIRAGANA"),
        ("ж", "CYRILLIC"),
        ("7", None),
        ("。", None),
        ("▁", None),
    ],
)
def test_scripts(character: str, script: str | None) -> None:
    assert script_of(character) == script
