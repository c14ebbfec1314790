"""Find and replace structured personal data in texts.

E-mail addresses, phone numbers, IBANs, payment cards, identity numbers, IP addresses, keys, tokens and passwords.

Checksums are verified. Data without a checksum needs its usual form, and a word before it if that form is ambiguous: order
numbers must survive. Postal addresses are not found, and names only with a name finder, because no pattern can find them.
The time is linear in any text: patterns are bounded or possessive, and the number of checks per text is limited.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from refsynth.core.extras import require
from refsynth.service.http import patterns
from refsynth.service.http.identities import IdentityFinder
from refsynth.service.http.patterns import Span
from refsynth.service.http.phones import HOMES, PhoneFinder
from refsynth.service.http.tokens import find_tokens

REGIONS = ("US", "GB", "CN", "DE", "FR", "ES", "IT", "NL", "IN", "JP", "BR", "AU")

_SMALL = 50  # one in 700 random addresses has only parts below this
_PRIVATE = 10  # first part of private addresses such as 10.0.0.1
_ANY = re.compile(r"[0-9@]|%40|://|-----BEGIN", re.ASCII)  # a text without these has nothing to find


class PersonalKind(StrEnum):
    """A kind of personal data. Its placeholder is the value in brackets, such as `[EMAIL]`."""

    credentials = "CREDENTIALS"
    email = "EMAIL"
    iban = "IBAN"
    identity = "ID"
    card = "CARD"
    ip = "IP"
    phone = "PHONE"
    person = "PERSON"


class Finding(NamedTuple):
    """Personal data at `text[start:end]`."""

    kind: PersonalKind
    start: int
    end: int


class Redactor:
    """Finds and replaces personal data."""

    def __init__(self, *, language: str = "", names: Callable[[str], Iterator[Span]] | None = None) -> None:
        """Build the finders.

        Args:
            language: ISO 639 code of the main language of the texts. Phone numbers of its countries are also found by their
                grouping alone.
            names: yields the spans of names of persons in a text, as `names.NameFinder` does.

        Raises:
            ExtraError: the extra `serve` is not installed.
        """
        self._names = names
        # Earlier finders win: a password in a URL looks like the start of an e-mail address, a card number holds phone numbers.
        self._finders: tuple[tuple[PersonalKind, Callable[[str], Iterator[Span]]], ...] = (
            (PersonalKind.credentials, _credentials),
            (PersonalKind.email, _emails),
            (PersonalKind.iban, _Ibans().find),
            (PersonalKind.identity, _identities()),
            (PersonalKind.card, _checked_cards()),
            (PersonalKind.ip, _addresses),
            (PersonalKind.phone, PhoneFinder(REGIONS, home=HOMES.get(language.partition("-")[0].lower(), ()))),
        )

    def find(self, text: str) -> list[Finding]:
        """Return all findings, in order of their start, without overlaps."""
        plain = text.translate(patterns.PLAIN)
        findings: list[Finding] = []
        finders = self._finders if _ANY.search(plain) else ()
        for kind, find in (*finders, *([(PersonalKind.person, self._names)] if self._names else [])):
            spans = list(find(plain))
            plain = _replace(plain, ((start, end, "\0" * (end - start)) for start, end in spans))
            findings += [Finding(kind, start, end) for start, end in spans]
        return sorted(findings, key=lambda finding: finding.start)

    def redact(self, text: str) -> str:
        """Return the text with a placeholder for each finding."""
        return _replace(text, ((start, end, f"[{kind.value}]") for kind, start, end in self.find(text)))


def _replace(text: str, replacements: Iterable[tuple[int, int, str]]) -> str:
    """Return the text with each `text[start:end]` replaced; the spans are sorted."""
    pieces, last = [], 0
    for start, end, replacement in replacements:
        pieces += [text[last:start], replacement]
        last = end
    return "".join([*pieces, text[last:]])


def _credentials(text: str) -> Iterator[Span]:
    spans = [match.span(1) for match in patterns.SECRET.finditer(text)]
    parameters = {start for start, _ in spans}  # a secret in a URL ends with its parameter, where a token may go on
    spans += [span for span in find_tokens(text) if span[0] not in parameters]
    for match in patterns.USER_INFO.finditer(text):
        start, end = match.span(1)
        host = patterns.HOST.match(text, match.end())
        if host and "@" in host[0]:  # the password itself holds an @
            end = host.start() + host[0].rindex("@")
        spans.append((start, end))
    return _without_overlaps(spans)


def _without_overlaps(spans: Iterable[Span]) -> Iterator[Span]:
    last = 0
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= last:
            yield start, end
            last = end


def _emails(text: str) -> Iterator[Span]:
    for match in patterns.EMAIL.finditer(text):
        labels = match[1].split(".")
        while labels and not patterns.TOP_LEVEL.fullmatch(labels[-1].rstrip("-")):
            labels.pop()
        if len(labels) > 1:
            local = match[0][: match.start(1) - match.start()]
            start = match.start() + len(local) - len(local.lstrip("'.-+"))
            yield start, match.start(1) + len(".".join(labels).rstrip("-"))


class _Ibans:
    def __init__(self) -> None:
        self._iban, self._table = require("stdnum.iban", extra="serve"), require("stdnum.numdb", extra="serve").get("iban")
        self._length = cache(self._look_up)

    def find(self, text: str) -> Iterator[Span]:
        last = 0
        for match in patterns.IBAN.finditer(text):
            length = self._length(match[1][:2].upper())
            if match.start() < last or not length:
                continue
            ends = [at for at, char in enumerate(match[1], 1) if char.isalnum()]
            if len(ends) < length or match[1][ends[length - 1] :][:1].isalnum():
                continue
            end = ends[length - 1]
            if self._iban.is_valid(match[1][:end], check_country=False):
                last = match.start() + end
                yield match.start(), last

    def _look_up(self, country: str) -> int:
        """Return the length of a country's IBANs; 0 if it has none."""
        structure = self._table.info(country)[0][1].get("bban", "")
        return 4 + sum(map(int, re.findall(r"([0-9]+)!", structure))) if structure else 0


def _identities() -> Callable[[str], Iterator[Span]]:
    checksum = require("stdnum.iso7064.mod_11_2", extra="serve")
    foreign = IdentityFinder()

    def find(text: str) -> Iterator[Span]:
        chinese = patterns.IDENTITY.finditer(text)
        spans = [match.span() for match in chinese if checksum.is_valid("".join(match.groups()).upper())]
        return _without_overlaps([*spans, *foreign(text)])

    return find


def _checked_cards() -> Callable[[str], Iterator[Span]]:
    luhn = require("stdnum.luhn", extra="serve")

    def is_card(number: str) -> bool:
        digits = re.sub("[^0-9]", "", number)
        return bool(patterns.BRAND.fullmatch(digits)) and bool(luhn.is_valid(digits))

    def find(text: str) -> Iterator[Span]:
        for match in patterns.CARD.finditer(text):
            without_last = re.sub("[ .-][0-9]+$", "", match[0])  # the last group may be the card's date or code
            for number in (match[0], without_last):
                if is_card(number):
                    yield match.start(), match.start() + len(number)
                    break

    return find


def _addresses(text: str) -> Iterator[Span]:
    spans = []
    for match in patterns.IPV4.finditer(text):
        parts = [int(part) for part in match[0].split(".")]
        if max(parts) < 256 and not _is_version(text, match.start(), parts):
            spans.append(match.span())
    for match in patterns.IPV6.finditer(text):
        for address in (match[0], match[0].rstrip(".:")):
            if _is_ipv6(address):
                spans.append((match.start(), match.start() + len(address)))
                break
    return _without_overlaps(spans)


def _is_version(text: str, start: int, parts: list[int]) -> bool:
    """Tell a version or section of four parts from an address: by the word before it, or else by its small numbers."""
    before = (text, max(0, start - patterns.CONTEXT), start)
    if patterns.NUMBERED.search(*before):
        return True
    return max(parts) < _SMALL and parts[0] != _PRIVATE and not patterns.MACHINE.search(*before)


def _is_ipv6(address: str) -> bool:
    """Tell an address from a time of day, or from code such as `a::b`."""
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return any(char.isdigit() for char in address)
