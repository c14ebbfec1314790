"""Smaller embedding tables: words that a task does without share the row of their nearest neighbour; or rows of a lower rank.

Both leave an ordinary table [V, D] and the tokenizer as it is. `compress.graph` finds what has become redundant in the table when
the encoder is exported, and stores each row, or each direction, once. Knows nothing of heads and labels.
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
"""Share of the letters of the texts from which on a script is theirs."""

KNOWN_WEIGHT = 10.0
"""What the error of a row of the texts' own counts in a factorisation, against 1 of any other."""

CHUNK = 2048
MARKS = "#▁Ġ"
"""What tokenizers put before a piece to tell whether a word begins there."""


def used_tokens(encoder: TransformerEncoder, texts: Sequence[str]) -> frozenset[int]:
    """Return the tokens of the texts, and the special ones."""
    return frozenset(chain(encoder.tokenizer.all_special_ids, *encoder.tokenize(texts)))


def common_tokens(encoder: TransformerEncoder, texts: Sequence[str], share: float) -> frozenset[int]:
    """Return a share of the vocabulary: the most frequent pieces in the scripts of the texts.

    WordPiece, Unigram and BPE all number their pieces from the most frequent on.
    """
    scripts = main_scripts(texts, SCRIPT_SHARE)
    pieces = sorted(encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(encoder.tokenizer.all_special_tokens)
    words = (place for piece, place in pieces if piece not in special and _is_word(piece, scripts))
    return frozenset(place for place, _ in zip(words, range(round(share * len(pieces))), strict=False))


def merge_words(encoder: TransformerEncoder, kept: Collection[int]) -> TransformerEncoder:
    """Return a copy in which every token that is not kept has the embedding of the kept token that is nearest by cosine.

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
    """Return a copy whose token embeddings span only `rank` dimensions: those that lose least of the squares of the table.

    Args:
        encoder: the larger one.
        rank: of the new table [V, D].
        known: tokens that count `KNOWN_WEIGHT` times as much as others.

    Raises:
        InputError: there are not so many dimensions.
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
