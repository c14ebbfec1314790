"""A random two-layer BERT with a WordPiece tokenizer, small enough to export in a test; and its answers in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from refsynth.core.types import FloatArray

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_TOKENS = 24


def make_tokenizer(path: Path) -> Path:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?-"
    words = [f"{a}{b}" for a in "aeiourstnl" for b in "aeiourstnl"]
    pieces = [*SPECIALS, *letters, *(f"##{letter}" for letter in letters), *words, *(f"##{word}" for word in words)]
    tokenizer = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    specials = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=specials
    )
    # What the real file of MiniLM has, and what inference has to undo.
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(40)
    tokenizer.save(str(path))
    return path


torch.set_num_threads(1)  # the model is too small to share


def make_encoder(seed: int = 0) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the initial weights are so small that every text looks alike
            parameter.mul_(4.0) if parameter.ndim == 2 else parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def embed(model: BertModel, rows: Sequence[Sequence[int]]) -> FloatArray:
    """Return embeddings [N, D], one text at a time: no padding that could hide a wrong mask."""
    out = []
    with torch.no_grad():
        for row in rows:
            mean = model(input_ids=torch.tensor([list(row)])).last_hidden_state.mean(1)
            out.append(torch.nn.functional.normalize(mean, dim=-1))
    return np.asarray(torch.cat(out).numpy())
