"""Tiers of a bundle by name: what each reads, its files, and what opens and packs it. Reading and writing derive from the table.

A tier is one model of a bundle: bundles ask theirs in order. Nothing here imports a model: `open` and `pack` are found when they
are first used, so that what reads a manifest loads no more than it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from refsynth.core.registry import Registry

HEAD, GOLDEN = "head.safetensors", "golden.json"
"""The files of every tier: its numbers, and the golden texts with what its fp32 model said of them."""

TOKENIZER, WEIGHTS, VOCABULARY, FEATURES = "tokenizer.json", "weights.bin", "vocabulary.json", "features.json"


@dataclass(frozen=True)
class TierSpec:
    """What a tier can be.

    Attributes:
        name: in a manifest; also the `kind` of the predictors that it holds.
        title: for people.
        doc: what it is.
        open: what opens it, as `module:name`: a predictor from an `opening.Opening` and one of the variants. Without torch.
        pack: what packs a predictor, as `module:name`: a `packing.PackedTier` from the predictor and a folder. See `pack`.
        files: those that it has beside `HEAD` and `GOLDEN`.
        variants: which arithmetic runs, in order of trying: the first that gives the golden outputs is taken.
        words: whether it answers by words, and not by texts.
        tokens: whether it reads tokens, and so needs `max_tokens`; what reads none reads all of a text.
        near: whether its features tell how like the labels' rows a text is.
        small: whether it has no transformer, and is as fast as a student would be.
        carries: what of the texts that it learned from can be read in its first file; empty where nothing can.
        no_graph: why it is no single graph from token ids; empty where it is one.
        no_weights: why it has no weights for transformers; empty where it has.
    """

    name: str
    title: str
    doc: str
    open: str
    pack: str
    files: tuple[str, ...]
    variants: tuple[str, ...] = ("exact",)
    words: bool = False
    tokens: bool = False
    near: bool = False
    small: bool = False
    carries: str = ""
    no_graph: str = ""
    no_weights: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All its files."""
        return frozenset({HEAD, GOLDEN, *self.files})


_OPENING, _PACKING = "refsynth.bundle.opening", "refsynth.bundle.packing"
_ONNX = ("int8.onnx", "safe.onnx", TOKENIZER, WEIGHTS)
_NO_IDS = "there are no token ids"

TIERS: Registry[TierSpec] = Registry(
    "refsynth.tiers",
    TierSpec,
    (
        TierSpec(
            "encoder",
            "int8",
            "a head on the embeddings of an encoder in int8",
            f"{_OPENING}:encoder",
            "refsynth.compress.pack:of_texts",
            _ONNX,
            ("int8", "safe"),
            tokens=True,
            near=True,
        ),
        TierSpec(
            "tagger",
            "int8",
            "a head on the states of words of an encoder in int8",
            f"{_OPENING}:tagger",
            "refsynth.compress.pack:of_words",
            _ONNX,
            ("int8", "safe"),
            words=True,
            tokens=True,
            no_graph=(why := "it answers by words, each the mean of its tokens, and where words end is in no graph"),
            no_weights=why,
        ),
        TierSpec(
            "static",
            "static",
            "votes of tokens for labels",
            f"{_OPENING}:static",
            f"{_PACKING}:pack_static",
            (TOKENIZER,),
            ("static",),
            tokens=True,
            no_weights="it is a table of votes of tokens, and no encoder",
        ),
        TierSpec(
            "tfidf",
            "TF-IDF",
            "a head on TF-IDF of words and pieces of words",
            f"{_OPENING}:tfidf",
            f"{_PACKING}:pack_tfidf",
            (VOCABULARY,),
            near=True,
            small=True,
            carries="the words, pairs of words and pieces of words",
            no_graph=(why := f"it counts n-grams of characters and words, which no ONNX operator cuts as it does; {_NO_IDS}"),
            no_weights=why,
        ),
        TierSpec(
            "crf",
            "CRF",
            "a linear-chain CRF on the form of words",
            f"{_OPENING}:crf",
            f"{_PACKING}:pack_crf",
            (FEATURES,),
            words=True,
            small=True,
            carries="forms of the words",
            no_graph=(why := f"it reads features of words and chooses the best path of tags; {_NO_IDS}"),
            no_weights=why,
        ),
    ),
)
