"""Runs Apertium, the rule-based translation engine of Linux distributions, as a subprocess.

Texts are separated by blank lines. Measured on version 3.8.3: Apertium moves words across a single line break and across the null
characters of its flush mode, but never across a blank line, where it ends a sentence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from refsynth.core.errors import ExtraError, MissingError
from refsynth.data.text import clean

BATCH = 200
"""Texts per process: a process takes 0.2 s to start, a text some milliseconds."""

SECONDS = 300
"""Timeout of a process."""

# fmt: off
CODES = {
    "af": "afr", "an": "arg", "be": "bel", "bg": "bul", "br": "bre", "ca": "cat", "cy": "cym", "da": "dan", "en": "eng",
    "eo": "epo", "es": "spa", "eu": "eus", "fr": "fra", "gl": "glg", "hi": "hin", "id": "ind", "is": "isl", "it": "ita",
    "mk": "mkd", "ms": "zlm", "nb": "nob", "nl": "nld", "nn": "nno", "oc": "oci", "pl": "pol", "pt": "por", "ro": "ron",
    "ru": "rus", "sc": "srd", "sh": "hbs", "sl": "slv", "sv": "swe", "uk": "ukr", "ur": "urd",
}
# fmt: on
"""ISO 639-1 to 639-3. Older language pairs are named by the former, newer ones by the latter."""


class ApertiumTranslator:
    """One direction of an installed language pair."""

    def __init__(self, source: str, target: str) -> None:
        """Find the engine and the pair.

        Args:
            source: ISO 639-1 or 639-3 code.
            target: ISO 639-1 or 639-3 code.

        Raises:
            ExtraError: Apertium or the language pair is not installed.
        """
        engine = shutil.which("apertium")
        pair = "-".join(sorted(CODES.get(code, code) for code in (source, target)))
        remedy = f"apt-get install apertium apertium-{pair} (`apt-cache search apertium` lists all pairs)"
        if engine is None:
            raise ExtraError("back-translation needs the program 'apertium', which is not installed", remedy=remedy)
        self._engine = engine
        installed = self._run(["-l"]).split()
        names = [f"{a}-{b}" for a in _codes(source) for b in _codes(target)]
        mode = next((name for name in names if name in installed), None)
        if mode is None:
            raise ExtraError(
                f"Apertium has no pair {source}-{target} here",
                known=f"installed: {', '.join(installed) or 'none'}",
                remedy=remedy,
            )
        self._mode = mode
        self._version = self._run(["-V"]).split()[-1]

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"apertium {self._version} {self._mode}"

    def translate(self, texts: Sequence[str], *, n: int) -> list[list[str]]:
        """Return the translation of each text. Apertium gives only one, whatever `n` is.

        Raises:
            MissingError: Apertium fails.
        """
        cleaned = [clean(text) for text in texts]
        filled = [index for index, text in enumerate(cleaned) if text]
        answers: list[list[str]] = [[] for _ in texts]
        for start in range(0, len(filled), BATCH):
            batch = filled[start : start + BATCH]
            for index, answer in zip(batch, self._batch([cleaned[index] for index in batch]), strict=True):
                answers[index] = [answer] if answer else []
        return answers

    def _batch(self, texts: Sequence[str]) -> list[str]:
        output = self._run(["-u", self._mode], "\n\n".join(texts) + "\n")
        parts = [clean(part) for part in output.removesuffix("\n").split("\n\n")]
        if len(parts) == len(texts):
            return parts
        # The parts cannot be assigned to the texts: translate them one by one.
        return [clean(self._run(["-u", self._mode], text + "\n")) for text in texts]

    def _run(self, arguments: Sequence[str], text: str = "") -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # Apertium uses the encoding of the locale
        try:
            done = subprocess.run(
                [self._engine, *arguments],
                input=text,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
                env=environment,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            reason = type(error).__name__  # its message could hold the text
            raise MissingError(f"{self._engine} {' '.join(arguments)}: failed ({reason})", remedy="try it by hand") from error
        return done.stdout


def _codes(code: str) -> list[str]:
    """Return the codes of a language, the three-letter one first."""
    same = next((pair for pair in CODES.items() if code in pair), (code, code))
    return [same[1], same[0]]
