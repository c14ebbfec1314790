"""Makes embedding tables redundant: unneeded words share the row of their nearest neighbor, or the table gets a lower rank.

The result is still an ordinary table [V, D], and the tokenizer stays unchanged. When the encoder is exported, `compress.graph`
stores each distinct row, or each direction, once. Knows nothing of heads and labels.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from refsynth.compress.prune import main_scripts, script_of
from refsynth.core.errors import InputError
from refsynth.core.types import IntArray
from refsynth.models.network import TransformerEncoder

SCRIPT_SHARE = 0.1
"""The smallest share of the letters of the texts for which a script counts as theirs."""

KNOWN_WEIGHT = 10.0
"""The weight of the texts' own tokens in a factorization; the others have 1."""

CHUNK = 2048
MARKS = "#▁Ġ"
"""The characters with which tokenizers mark whether a piece begins a word."""


def used_tokens(encoder: TransformerEncoder, texts: Sequence[str]) -> frozenset[int]:
    """Return the tokens of the texts, and the special tokens."""
    return frozenset(chain(encoder.tokenizer.all_special_ids, *encoder.tokenize(texts)))


def common_tokens(encoder: TransformerEncoder, texts: Sequence[str], share: float) -> frozenset[int]:
    """Return a share of the vocabulary: the most frequent pieces in the scripts of the texts.

    WordPiece, Unigram and BPE all number their pieces in descending order of frequency.
    """
    scripts = main_scripts(texts, SCRIPT_SHARE)
    pieces = sorted(encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(encoder.tokenizer.all_special_tokens)
    words = (place for piece, place in pieces if piece not in special and _is_word(piece, scripts))
    return frozenset(place for place, _ in zip(words, range(round(share * len(pieces))), strict=False))


def merge_words(encoder: TransformerEncoder, kept: Collection[int]) -> TransformerEncoder:
    """Return a copy in which every token that is not kept has the embedding of the kept token with the highest cosine.

    Raises:
        InputError: no token is kept.
    """
    if not kept:
        raise InputError("no token is kept", expected="at least one")
    smaller = copy.deepcopy(encoder)
    table = _table(smaller)
    stays = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    stays[torch.from_numpy(_indices(kept, len(table)))] = True
    unit = torch.nn.functional.normalize(table, dim=-1)
    held, gone = stays.nonzero()[:, 0], (~stays).nonzero()[:, 0]
    candidates = unit[held].T
    for part in torch.split(gone, CHUNK):
        table[part] = table[held[(unit[part] @ candidates).argmax(1)]]
    return smaller


def lower_rank(encoder: TransformerEncoder, rank: int, known: Collection[int]) -> TransformerEncoder:
    """Return a copy whose token embeddings span only `rank` dimensions, the best least-squares fit to the table.

    Args:
        encoder: the larger encoder.
        rank: the rank of the new table [V, D].
        known: tokens whose rows weigh `KNOWN_WEIGHT` times as much as others.

    Raises:
        InputError: there are fewer dimensions.
    """
    if not 0 < rank <= encoder.dimension:
        raise InputError(f"rank {rank} of {encoder.dimension} dimensions", expected=f"1 to {encoder.dimension}")
    smaller = copy.deepcopy(encoder)
    table = _table(smaller)
    weights = table.new_ones(len(table), 1)
    weights[torch.from_numpy(_indices(known, len(table)))] = KNOWN_WEIGHT
    weighed = (table * weights).double()
    directions = torch.linalg.eigh(weighed.T @ weighed).eigenvectors[:, -rank:]
    table.copy_((table.double() @ directions @ directions.T).float())
    return smaller


def _is_word(piece: str, scripts: Collection[str]) -> bool:
    return all(script_of(letter) in scripts for letter in piece.lstrip(MARKS)) and bool(piece.lstrip(MARKS))


def _indices(tokens: Collection[int], size: int) -> IntArray:
    return np.array(sorted(token for token in tokens if token < size), np.int64)


def _table(encoder: TransformerEncoder) -> Any:
    return encoder.transformer.get_input_embeddings().weight.data
