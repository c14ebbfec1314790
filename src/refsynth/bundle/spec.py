"""The table of tiers: what each reads, its files, and the functions that open and pack it.

A tier is one model of a bundle; a bundle uses its tiers in order. Nothing here imports a model: `open` and `pack` are imported on
first use, so that reading a manifest loads only what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from refsynth.core.registry import Registry

HEAD, GOLDEN = "head.safetensors", "golden.json"
"""The files of every tier: its tensors, and the golden texts with the probabilities of the fp32 model."""

TOKENIZER, WEIGHTS, VOCABULARY, FEATURES = "tokenizer.json", "weights.bin", "vocabulary.json", "features.json"


@dataclass(frozen=True)
class TierSpec:
    """A kind of tier.

    Attributes:
        name: its name in a manifest, and the `kind` of the predictors that it holds.
        title: its name for people.
        doc: a description.
        open: `module:name` of the function that returns a predictor for an `opening.Opening` and a variant, without torch.
        pack: `module:name` of the function that returns a `packing.PackedTier` for a predictor and a folder, see `pack`. A run
            keeps a fitted predictor in this form, so it must accept what `open` returns too.
        files: its files in addition to `HEAD` and `GOLDEN`.
        variants: its kinds of arithmetic in order of preference; the first that gives the golden outputs is used.
        words: whether it labels words instead of texts.
        tokens: whether it reads tokens and so needs `max_tokens`; other tiers read the whole text.
        near: whether its features tell how similar a text is to the labels' rows.
        small: whether it has no transformer, and so is as fast as a student would be.
        carries: which parts of the training texts its first file shows; empty if none.
        no_graph: why it cannot be a single graph from token ids; empty if it can.
        no_weights: why it has no weights for transformers; empty if it has.
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
_WHY_WORDS = "it labels words, each the mean of its tokens, and a graph does not know where words end"
_WHY_TFIDF = f"no ONNX operator splits texts into its n-grams of characters and words; {_NO_IDS}"
_WHY_CRF = f"it reads features of words and chooses the best path of tags; {_NO_IDS}"

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
            no_graph=_WHY_WORDS,
            no_weights=_WHY_WORDS,
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
            no_weights="it is a table of votes of tokens, not an encoder",
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
            no_graph=_WHY_TFIDF,
            no_weights=_WHY_TFIDF,
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
            no_graph=_WHY_CRF,
            no_weights=_WHY_CRF,
        ),
    ),
)
