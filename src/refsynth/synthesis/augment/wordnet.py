"""Reads synonyms from WordNet's dictionary files (wndb(5WN)): the words with the same meaning as a word in its usual sense.

Existing readers do not read the files that distributions install: nltk needs files that Debian leaves out and an allowed folder,
and `wn` needs its own database, filled from a download.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from refsynth.core.errors import ExtraError

PARTS = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
"""Parts of speech as they appear in file names, and their numbers in sense keys; 5 is an adjective, too."""

PLACES = ("/usr/share/wordnet", "/usr/local/share/wordnet", "/usr/local/WordNet-3.0/dict")

USUAL = 0.5
"""Smallest share of a word's tagged uses that makes a sense its usual one."""

_WORD = re.compile(r"[a-z]+(?:[ '-][a-z]+)*")


def find_wordnet() -> Path:
    """Return the folder of the dictionary: $WNSEARCHDIR if set, else the folder that distributions use.

    Raises:
        ExtraError: There is no dictionary.
    """
    configured = os.environ.get("WNSEARCHDIR")
    for place in [configured] if configured else PLACES:
        if all((Path(place) / f"{kind}.{part}").is_file() for part in PARTS for kind in ("index", "data")):
            return Path(place)
    raise ExtraError(
        "synonyms need a WordNet dictionary, and there is none here",
        known=f"looked in {configured or ', '.join(PLACES)}",
        remedy="apt-get install wordnet-base, or name its folder (index.noun, data.noun, ...) in WNSEARCHDIR",
    )


class WordNet:
    """The dictionary in a folder. The index is in memory (0.5 s, 155,000 words); meanings are read on demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self.version = "unknown"
        for part in PARTS:
            for line in self._lines(f"index.{part}"):
                if line.startswith("  "):  # the license
                    match = re.search(r"WordNet (\d[\d.]*)", line)
                    self.version = match.group(1).rstrip(".") if match else self.version
                    continue
                lemma, _, count, *rest = line.split()
                self._offsets[lemma] += [(part, int(offset)) for offset in rest[-int(count) :]]
        self._uses = self._tagged()

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return the words with the same meaning as `word` in its usual sense; none if no sense is the usual one.

        Args:
            word: in lower case and in its base form. Other forms are not looked up: their synonyms would need inflection.
        """
        senses = self._offsets.get(word, [])
        uses = self._uses.get(word, {})
        places: dict[str, int] = defaultdict(int)
        counted = []
        for part, offset in senses:
            places[part] += 1
            counted.append((uses.get((part, places[part]), 0), part, offset))
        total = sum(count for count, _, _ in counted)
        best = max(counted, key=lambda sense: sense[0], default=None)
        if best is None or (best[0] < USUAL * total if total else len(senses) > 1):
            return ()
        return tuple(other for other in self._members(*best[1:]) if other != word and _WORD.fullmatch(other))

    def _members(self, part: str, offset: int) -> Iterator[str]:
        """Yield the words of a synonym set: its line has offset, file, kind, the number of words in hex, each word with an id."""
        with (self._folder / f"data.{part}").open("rb") as stream:
            stream.seek(offset)
            fields = stream.readline().decode("utf-8", "replace").split()
        for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
            yield word.partition("(")[0].replace("_", " ")  # adjectives may carry a position marker: galore(ip)

    def _tagged(self) -> dict[str, dict[tuple[str, int], int]]:
        """Return how often each sense (part of speech, number) of a word occurs in the tagged corpus."""
        by_number = {number: part for part, number in PARTS.items()} | {"5": "adj"}
        uses: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        for line in self._lines("cntlist.rev"):
            key, number, count = line.split()
            lemma, _, kind = key.partition("%")
            uses[lemma][by_number[kind[0]], int(number)] = int(count)
        return uses

    def _lines(self, name: str) -> Iterator[str]:
        path = self._folder / name
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as stream:
                yield from stream
