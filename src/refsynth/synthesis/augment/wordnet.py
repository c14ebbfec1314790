"""WordNet's dictionary files (wndb(5WN)): which words mean the same as a word does in its usual sense.

Read here because the readers that exist do not read what distributions install: nltk wants files that Debian leaves out and an
allowed folder, and `wn` a database of its own, filled from a download.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from refsynth.core.errors import ExtraError

PARTS = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
"""Files by part of speech, with the number that stands for it in sense keys; 5 is an adjective, too."""

PLACES = ("/usr/share/wordnet", "/usr/local/share/wordnet", "/usr/local/WordNet-3.0/dict")

USUAL = 0.5
"""The share of a word's tagged uses that its usual sense must have."""

_WORD = re.compile(r"[a-z]+(?:[ '-][a-z]+)*")


def find_wordnet() -> Path:
    """Return the folder of the dictionary: $WNSEARCHDIR, else where distributions put it.

    Raises:
        ExtraError: there is none.
    """
    named = os.environ.get("WNSEARCHDIR")
    for place in [named] if named else PLACES:
        if all((Path(place) / f"{kind}.{part}").is_file() for part in PARTS for kind in ("index", "data")):
            return Path(place)
    raise ExtraError(
        "synonyms need a WordNet dictionary, and there is none here",
        known=f"looked in {named or ', '.join(PLACES)}",
        remedy="apt-get install wordnet-base, or name its folder (index.noun, data.noun, ...) in WNSEARCHDIR",
    )


class WordNet:
    """The dictionary in a folder. The index is held in memory (0.5 s, 155,000 words); meanings are read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self.version = "unknown"
        for part in PARTS:
            for line in self._lines(f"index.{part}"):
                if line.startswith("  "):  # the licence
                    found = re.search(r"WordNet (\d[\d.]*)", line)
                    self.version = found.group(1).rstrip(".") if found else self.version
                    continue
                lemma, _, count, *rest = line.split()
                self._offsets[lemma] += [(part, int(offset)) for offset in rest[-int(count) :]]
        self._uses = self._tagged()

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return the words that mean the same as `word` in its usual sense; none where no sense is the usual one.

        Args:
            word: in small letters and in its base form: other forms are not looked up, as their synonyms would have to be
                inflected.
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
        """Yield the words of a set of synonyms: its offset, file and kind, then their number in hex, then each with an id."""
        with (self._folder / f"data.{part}").open("rb") as stream:
            stream.seek(offset)
            fields = stream.readline().decode("utf-8", "replace").split()
        for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]:
            yield word.partition("(")[0].replace("_", " ")  # adjectives carry where they may stand: galore(ip)

    def _tagged(self) -> dict[str, dict[tuple[str, int], int]]:
        """Return how often each sense (part of speech, number) of a word was met in the tagged corpus."""
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
