"""Runs a one-directional translation model from a CTranslate2 folder that also holds its tokenizer.

Such a folder is made once, for example from a Marian or T5 model:

    ct2-transformers-converter --model DIR --output_dir OUT --copy_files tokenizer_config.json source.spm target.spm vocab.json

Models that take the direction as words before the text (T5, Marian with several targets) get these words as `prefix`. Beam search
without sampling gives the same translations for the same texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refsynth.core.errors import ModelError
from refsynth.core.extras import require
from refsynth.core.hashes import digest, file_digest
from refsynth.data.text import clean

BEAM = 4
LONGEST = 256
"""In tokens. Longer texts are not translated, and a translation that does not end within this length is discarded."""

BATCH_TOKENS = 2048
"""Padded tokens in one batch."""


class Seq2SeqTranslator:
    """A translation model in one direction."""

    def __init__(self, folder: Path, *, prefix: str = "") -> None:
        """Load the model.

        Args:
            folder: holds model.bin, config.json, vocabulary and tokenizer.
            prefix: words before each text.

        Raises:
            ExtraError: a package that the model or its tokenizer needs is not installed.
            ModelError: the folder holds no such model.
        """
        ctranslate2, transformers = require("ctranslate2", extra="train"), require("transformers", extra="train")
        remedy = "convert one with ct2-transformers-converter --model DIR --output_dir OUT --copy_files <tokenizer files>"
        if not (folder / "model.bin").is_file():
            raise ModelError(f"{folder}: not a CTranslate2 model folder", expected="model.bin there", remedy=remedy)
        if any(folder.glob("*.spm")):  # the error of transformers does not name the missing package
            require("sentencepiece", extra="augment")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self._model = ctranslate2.Translator(str(folder), device="cpu")
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise ModelError(f"{folder}: does not load as a translation model ({error})", remedy=remedy) from error
        files = sorted(path for path in folder.iterdir() if path.is_file())
        self._hash, self._prefix = digest([[path.name, file_digest(path)] for path in files] + [[prefix]]), prefix

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"ctranslate2:{self._hash[:12]}"

    def translate(self, texts: Sequence[str], *, n: int) -> list[list[str]]:
        """Return at most `n` translations of each text, the best first. Unfinished translations are left out."""
        rows = [self._tokenizer.encode(self._prefix + clean(text)) for text in texts]
        short = [index for index, (text, row) in enumerate(zip(texts, rows, strict=True)) if clean(text) and len(row) <= LONGEST]
        answers: list[list[str]] = [[] for _ in texts]
        results = self._model.translate_batch(
            [self._tokenizer.convert_ids_to_tokens(rows[index]) for index in short],
            beam_size=max(BEAM, n),
            num_hypotheses=n,
            max_decoding_length=LONGEST,
            return_end_token=True,
            max_batch_size=BATCH_TOKENS,
            batch_type="tokens",
        )
        for index, result in zip(short, results, strict=True):
            answers[index] = [text for tokens in result.hypotheses if (text := self._text(tokens))]
        return answers

    def _text(self, tokens: Sequence[Any]) -> str:
        """Return the text of a finished translation; an empty string for one that was cut off."""
        if not tokens or tokens[-1] != self._tokenizer.eos_token:
            return ""
        return clean(self._tokenizer.decode(self._tokenizer.convert_tokens_to_ids(list(tokens)), skip_special_tokens=True))
