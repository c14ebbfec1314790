"""Tokenizing texts with the `tokenizers` library, and batches of similar length. No torch, no transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from refsynth.core.errors import ModelError
from refsynth.core.pair import split_pair
from refsynth.core.windows import Frame, Windows, head_and_tail, reach_of
from refsynth.core.words import words_of
from refsynth.data.text import clean

CHARS_PER_TOKEN = 256
"""At most `max_tokens` times so many characters of a text are read, so a megabyte on one line costs no more than a page."""

WORDS_PER_TOKEN = 4
"""At most `max_tokens` times so many words of a text are read: some words have no token, but not three of four."""


class PanicError(RuntimeError):
    """The tokenizers library panicked on a text or a file."""


@contextmanager
def panics_raised() -> Iterator[None]:
    """Raise a panic of the library as an Exception; the library's own is a BaseException, which `except Exception` misses.

    Raises:
        PanicError: the block panicked.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise PanicError("the tokenizer cannot read this") from error


class Pieces(NamedTuple):
    """A text of `n` words as token ids [T]; word `words[i]` has the tokens from `starts[i]` up to `ends[i]`."""

    ids: list[int]
    n: int
    words: list[int]
    starts: list[int]
    ends: list[int]


def split_words(text: str) -> list[str]:
    """Return the words of a text for a tokenizer; see `core.words`."""
    return [_encodable(clean(text[start:end])) for start, end in words_of(text)]


def pieces_of(ids: Sequence[int], word_ids: Sequence[int | None], n: int, *, pad: int) -> Pieces:
    """Return the places of words among token ids [T], given the word of each token [T]. Truncated words are left out."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, place)
            last[word] = place + 1
    return Pieces(list(ids) or [pad], n, list(first), list(first.values()), list(last.values()))


class TextTokenizer:
    """A `tokenizer.json` that returns at most `max_tokens` ids for a text, including special tokens; more for texts in windows.

    A text pair (`core.pair`) gets the tokenizer's own separator; if it is too long, its longer half is truncated first.

    Args:
        source: the file, or its bytes.
        max_tokens: the most tokens of a text.
        prefix: the prefix of each text.
        parallel: whether a batch may use several threads.
        special: whether to add a transformer's special tokens.
        windows: how longer texts are read, see `core.windows`; a pair is truncated.

    Raises:
        ModelError: the source is not a tokenizer.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        max_tokens: int,
        prefix: str = "",
        parallel: bool = True,
        special: bool = True,
        windows: Windows = "cut",
    ) -> None:
        try:
            with panics_raised():
                self._tokenizer = Tokenizer.from_buffer(source) if isinstance(source, bytes) else Tokenizer.from_file(str(source))
                self.pad = int((self._tokenizer.padding or {}).get("pad_id", 0))
                self._tokenizer.no_padding()
                self._tokenizer.no_truncation()
                mask = self._tokenizer.encode("a", add_special_tokens=special).special_tokens_mask
                before = self._tokenizer.encode(prefix.strip(), add_special_tokens=False).ids if prefix else ()
                self.frame, self.max_tokens, self.windows = Frame.of(mask, len(before)), max_tokens, windows
                self._reach = reach_of(max_tokens, windows, self.frame)
                self._tokenizer.enable_truncation(self._reach)
        except Exception as error:  # the library raises nothing narrower
            name = "tokenizer.json" if isinstance(source, bytes) else str(source)
            raise ModelError(f"{name}: not a tokenizer ({error})") from error
        self.prefix, self.parallel, self._chars = prefix, parallel, max_tokens * CHARS_PER_TOKEN
        self._special, self._words = special, self._reach * WORDS_PER_TOKEN

    @property
    def size(self) -> int:
        """The number of ids, V."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; a text without tokens is one padding token, so that it has a mean."""
        rows = [encoding.ids or [self.pad] for encoding in self._encoded(texts)]
        return [head_and_tail(ids, self.max_tokens) for ids in rows] if self.windows == "head_tail" else rows

    def truncates(self, text: str, *, words: bool = False) -> bool:
        """Return whether a part of a text is not read; `words` says that its words are read one by one."""
        if words:
            split = split_words(text)
            with panics_raised():
                encoding = self._tokenizer.encode(split[: self._words], is_pretokenized=True, add_special_tokens=self._special)
            return len(split) > self._words or bool(encoding.overflowing)
        limit = self.max_tokens if self.windows == "head_tail" else self._reach
        if len(text.encode("utf-8", "replace")) <= limit - sum(self.frame):  # a token has at least one byte
            return False
        encoding = self._encoded([text])[0]
        return len(text) > self._chars or bool(encoding.overflowing) or len(encoding.ids) > limit

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        clean, special = [self._prepared(text) for text in texts], self._special
        if self.parallel:
            items = [split_pair(text) or text for text in clean]
            with panics_raised():
                return list(self._tokenizer.encode_batch_fast(items, add_special_tokens=special))
        pairs = (split_pair(text) or (text, None) for text in clean)
        with panics_raised():
            return [self._tokenizer.encode(one, two, add_special_tokens=special) for one, two in pairs]

    def words(self, texts: Sequence[str]) -> list[Pieces]:
        """Return the words of each text as tokens; each word is tokenized by itself, so no token spans two words."""
        split = [split_words(text) for text in texts]
        rows, options = [words[: self._words] for words in split], {"is_pretokenized": True, "add_special_tokens": self._special}
        with panics_raised():
            if self.parallel:
                encodings = self._tokenizer.encode_batch(rows, **options)
            else:
                encodings = [self._tokenizer.encode(words, **options) for words in rows]
        return [
            pieces_of(encoding.ids, encoding.word_ids, len(words), pad=self.pad)
            for encoding, words in zip(encodings, split, strict=True)
        ]

    def pieces(self, text: str) -> tuple[list[str], list[int]]:
        """Return the tokens of a text in its own spelling, and their ids; empty for a text without tokens."""
        clean = self._prepared(text)
        parts = split_pair(clean) or (clean, "")
        with panics_raised():
            encoding = self._tokenizer.encode(parts[0], parts[1] or None, add_special_tokens=self._special)
        tokens = zip(encoding.sequence_ids, encoding.offsets, encoding.tokens, strict=True)
        pieces = [parts[part or 0][start:end] or token for part, (start, end), token in tokens]
        places = list(range(len(pieces)))
        if self.windows == "head_tail":
            places = head_and_tail(places, self.max_tokens)
        return [pieces[place] for place in places], [encoding.ids[place] for place in places]

    def _prepared(self, text: str) -> str:
        if self.windows == "head_tail" and len(text) > self._chars:
            text = text[: self._chars // 2] + text[-(self._chars // 2) :]
        return self.prefix + _encodable(text[: self._chars])


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def length_batches(rows: Sequence[Sequence[int]], *, tokens: int) -> Iterator[list[int]]:
    """Yield lists of row numbers, shortest rows first; a list has at most `tokens` tokens after padding, or one row."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if batch and len(rows[index]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
