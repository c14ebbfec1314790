"""Removes the pieces of scripts that a task does not use from a multilingual encoder.

Most of such an encoder is its vocabulary: 96 of the 118 million parameters of multilingual-e5-small. The remaining pieces
tokenize every text in the kept scripts exactly as before, since pieces with letters of another script never matched it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from refsynth.core.errors import ModelError
from refsynth.core.files import read_json, write_json

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


class Pruned(NamedTuple):
    """The numbers of pieces before and after, and the scripts that were kept in full."""

    before: int
    after: int
    scripts: frozenset[str]


def prune_vocabulary(source: Path, target: Path, texts: Sequence[str], *, prefix: str, share: float = 0.1) -> Pruned:
    """Write the encoder in the Hugging Face folder `source` to the folder `target`, with a smaller vocabulary.

    It keeps the special pieces, every piece that the texts use, ASCII characters, and all pieces without letters of other
    scripts. So nothing changes for these texts, nor for any text in the kept scripts; words in other scripts fall into smaller
    or unknown pieces.

    Args:
        source: a BERT-like model with a Unigram tokenizer in `tokenizer.json`.
        target: the folder to write to, created if necessary.
        texts: examples of texts to encode.
        prefix: the prefix that the encoder needs before each text.
        share: the smallest share of the letters in `texts` for which a script is kept.

    Raises:
        ModelError: the tokenizer is not Unigram, or the model has fewer embeddings than the tokenizer has pieces.
    """
    tree = read_json(source / TOKENIZER)
    if tree["model"].get("type") != "Unigram":
        raise ModelError(f"{source / TOKENIZER}: a {tree['model'].get('type')} tokenizer", expected="Unigram")
    tokenizer = Tokenizer.from_file(str(source / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    normalizer = tokenizer.normalizer
    scripts = main_scripts(map(normalizer.normalize_str, texts) if normalizer else texts, share)
    used = {index for encoding in tokenizer.encode_batch([prefix + text for text in texts]) for index in encoding.ids}
    kept = _kept(tree, scripts, used)
    renumbered = {old: new for new, old in enumerate(kept)}
    target.mkdir(parents=True, exist_ok=True)
    _save_model(source, target, kept, renumbered)
    before = len(tree["model"]["vocab"])
    _renumber(tree, renumbered)
    write_json(target / TOKENIZER, tree)
    _save_tokenizer_config(source, target, renumbered)
    return Pruned(before, len(tree["model"]["vocab"]), scripts)


@cache
def script_of(character: str) -> str | None:
    """Return the script of a letter or mark, the first word of its Unicode name (`LATIN`, `CJK`, `HIRAGANA`); else None."""
    if character.isascii():
        return "LATIN" if character.isalpha() else None
    if unicodedata.category(character)[0] not in "LM":
        return None
    name = unicodedata.name(character, "UNNAMED").split()[0]
    return None if name in ("COMBINING", "MODIFIER", "VARIATION") else name


def main_scripts(texts: Iterable[str], share: float) -> frozenset[str]:
    """Return the scripts with at least this share of the letters of the texts."""
    counts = Counter(script for text in texts for character in text if (script := script_of(character)))
    return frozenset(script for script, count in counts.items() if count >= share * counts.total())


def _kept(tree: Mapping[str, Any], scripts: frozenset[str], used: Collection[int]) -> list[int]:
    """Return the ids that stay, in order; ids beyond the vocabulary are those of added tokens."""
    vocabulary = tree["model"]["vocab"]
    # The lowest score of all pieces determines the score of an unknown character, so a piece with that score stays.
    lowest = min(range(len(vocabulary)), key=lambda index: vocabulary[index][1])
    always = {token["id"] for token in tree["added_tokens"]} | {tree["model"]["unk_id"], lowest, *used}
    keep = (index for index, (piece, _) in enumerate(vocabulary) if index in always or _stays(piece, scripts))
    return [*keep, *sorted(index for index in always if index >= len(vocabulary))]


def _stays(piece: str, scripts: frozenset[str]) -> bool:
    if len(piece) == 1 and piece.isascii():
        return True
    if piece.startswith("<") and piece.endswith(">"):  # special, or a byte for characters without a piece
        return True
    return all(script is None or script in scripts for script in map(script_of, piece))


def _renumber(tree: dict[str, Any], renumbered: Mapping[int, int]) -> None:
    model = tree["model"]
    model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in renumbered]
    model["unk_id"] = renumbered[model["unk_id"]]
    for token in tree["added_tokens"]:
        token["id"] = renumbered[token["id"]]
    if tree.get("padding"):
        tree["padding"]["pad_id"] = renumbered[tree["padding"]["pad_id"]]
    _renumber_specials(tree.get("post_processor"), renumbered)


def _renumber_specials(processor: Any, renumbered: Mapping[int, int]) -> None:
    """Renumber the special tokens of a post-processor: `ids` of a template, pairs of BERT's and RoBERTa's, or a sequence."""
    if not processor:
        return
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [renumbered[index] for index in special["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = renumbered[processor[name][1]]
    for inner in processor.get("processors", ()):
        _renumber_specials(inner, renumbered)


def _save_model(source: Path, target: Path, kept: Sequence[int], renumbered: Mapping[int, int]) -> None:
    model = AutoModel.from_pretrained(
        source, local_files_only=True, dtype=torch.float32, use_safetensors=True, add_pooling_layer=False
    )  # a pooler, which the weights lack, would be random, and the folder different each time
    table = model.get_input_embeddings().weight.detach()
    if kept[-1] >= len(table):
        raise ModelError(f"{source}: {len(table):,} embeddings for a piece with the id {kept[-1]:,}", expected="a row per piece")
    smaller = torch.nn.Embedding(len(kept), table.shape[1])
    smaller.weight.data.copy_(table[list(kept)])
    model.set_input_embeddings(smaller)
    model.config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (index := getattr(model.config, name, None)) is not None:
            setattr(model.config, name, renumbered.get(index))
    model.save_pretrained(target, safe_serialization=True)


def _save_tokenizer_config(source: Path, target: Path, renumbered: Mapping[int, int]) -> None:
    if not (source / TOKENIZER_CONFIG).is_file():
        return
    config = read_json(source / TOKENIZER_CONFIG)
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = {
            str(renumbered[int(index)]): token
            for index, token in config["added_tokens_decoder"].items()
            if int(index) in renumbered
        }
    write_json(target / TOKENIZER_CONFIG, config)
