"""Random translation models, small enough to convert in a test: a Marian with its sentencepiece files, and a T5."""

from __future__ import annotations

import json
import random
from pathlib import Path

import ctranslate2
import sentencepiece
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = ["the", "card", "lamp", "arrived", "broken", "my", "where", "is", "please", "return", "not", "yet", "parcel"]


def make_marian(folder: Path) -> Path:
    """Write hf/ and ct2/ with the same model and return the second."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    lines = [" ".join(rng.choices([*WORDS, *"abcdefghijklmnopqrstuvwxyz"], k=6)) for _ in range(300)]
    (folder / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "source"), vocab_size=60, minloglevel=2, num_threads=1
    )
    (folder / "source.spm").write_bytes((folder / "source.model").read_bytes())
    (folder / "target.spm").write_bytes((folder / "source.model").read_bytes())
    read = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.model"))
    pieces = [read.id_to_piece(index) for index in range(read.get_piece_size())]
    order = ["</s>", "<unk>", *(piece for piece in pieces if piece not in {"<s>", "</s>", "<unk>"}), "<pad>"]
    vocabulary = {piece: index for index, piece in enumerate(order)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = MarianTokenizer(
        vocab=str(folder / "vocab.json"), source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm")
    )
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
    )
    model = _loud(MarianMTModel, config)
    with torch.no_grad():
        model.final_logits_bias[0, 0] += 2  # so that its sentences end
    tokenizer.save_pretrained(folder / "hf")
    return _convert(model, folder, ["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"])


def make_t5(folder: Path) -> Path:
    """Write hf/ and ct2/ with the same model and return the second."""
    words = ["<pad>", "</s>", "<unk>", *WORDS, "say", "in", "German", ":"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder / "hf")
    config = T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    model = _loud(T5ForConditionalGeneration, config)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.1)[1] = 0  # no word much likelier than the end, so that its sentences end
    return _convert(model, folder, ["tokenizer.json", "tokenizer_config.json"])


def _loud(kind: type[PreTrainedModel], config: object) -> PreTrainedModel:
    """Return a random model whose weights are large enough that its answers depend on the text."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def _convert(model: PreTrainedModel, folder: Path, files: list[str]) -> Path:
    model.save_pretrained(folder / "hf")
    converter = ctranslate2.converters.TransformersConverter(str(folder / "hf"), copy_files=files)
    converter.convert(str(folder / "ct2"))
    return folder / "ct2"
