"""A random Marian translation model with its sentencepiece files, small enough to convert in a test."""

from __future__ import annotations

import json
import random
from pathlib import Path

import ctranslate2
import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

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
    torch.manual_seed(0)
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the initial weights are so small that every text gets the same answer
            parameter.mul_(8 if parameter.ndim == 2 else 1)
        model.final_logits_bias[0, 0] += 2  # so that its sentences end
    tokenizer.save_pretrained(folder / "hf")
    model.save_pretrained(folder / "hf")
    files = ["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"]
    ctranslate2.converters.TransformersConverter(str(folder / "hf"), copy_files=files).convert(str(folder / "ct2"))
    return folder / "ct2"
