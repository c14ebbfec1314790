"""Find secrets by their form: keys of services, signed tokens, private keys, and values after a word like `password`.

The forms are those that each service documents, with its own prefix; lengths leave room for future keys. Every pattern starts at
a word boundary and is bounded or possessive, so that none backtracks over a text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator

from refsynth.service.http.patterns import Span

_WORD = "A-Za-z0-9_-"
_START = rf"(?<![{_WORD}])"
_LONGEST_PEM = 20_000

# Service, and the form of its keys after a word boundary. Sources: each service's own documentation of its token formats,
# GitHub's list of secret scanning patterns, the rules of gitleaks.
FORMS: dict[str, str] = {
    "refsynth": r"rsk_[0-9a-f]{12}_[0-9a-f]{48}",
    "aws": r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA)[A-Z2-7]{16}",
    "google": r"AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,2000}+",
    "azure": r"AccountKey=[A-Za-z0-9+/]{86}==|Shared(?:AccessKey|Secret)=[A-Za-z0-9+/]{43}=|[\w~.-]{3}[0-9]Q~[\w~.-]{31,34}",
    "github": r"gh[pousr]_[A-Za-z0-9]{36,255}+|github_pat_\w{22,255}+",
    "gitlab": r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt)-[\w.-]{20,300}+",
    "slack": r"xox[a-z]-[A-Za-z0-9-]{10,300}+|xapp-[0-9]-[A-Za-z0-9-]{10,300}+",
    "stripe": r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,255}+|whsec_[A-Za-z0-9+/]{24,255}+=*+",
    "openai and alike": r"sk-(?=[A-Za-z_-]{0,40}+[0-9])[\w-]{20,300}+",
    "hugging face": r"hf_[A-Za-z0-9]{30,64}+|api_org_[A-Za-z0-9]{30,64}+",
    "other models": r"gsk_[A-Za-z0-9]{40,64}+|xai-[A-Za-z0-9]{60,120}+|r8_[A-Za-z0-9]{37}|pplx-[A-Za-z0-9]{40,64}+",
    "packages": r"npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,400}+|rubygems_[0-9a-f]{48}|dckr_[a-z]{3}_[\w-]{27,40}+",
    "mail": r"SG\.[\w-]{16,32}+\.[\w-]{16,64}+|key-[0-9a-f]{32}|[0-9a-f]{32}-us[0-9]{1,2}|xkeysib-[0-9a-f]{64}-\w{16}",
    "twilio": r"(?:AC|SK)[0-9a-f]{32}",
    "telegram": r"[0-9]{8,10}:[\w-]{35}",
    "discord": r"[MNO][\w-]{23,27}\.[\w-]{6,7}\.[\w-]{27,40}",
    "shops": r"sq0[a-z]{3}-[\w-]{22,43}|EAAA[\w-]{60}|shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"
    r"|access-(?:production|sandbox)-[0-9a-f-]{36}",
    "clouds": r"do[opr]_v1_[0-9a-f]{64}|LTAI[A-Za-z0-9]{12,20}+|AKID[A-Za-z0-9]{32}|sbp_[0-9a-f]{40}|hvs\.[\w-]{24,200}+"
    r"|\w{14}\.atlasv1\.[\w-]{60,70}+|dp\.(?:pt|st|ct|sa)\.[\w.-]{40,60}+",
    "tools": r"dapi[0-9a-f]{32}|(?:ntn|secret)_[A-Za-z0-9]{40,60}+|lin_api_[A-Za-z0-9]{40}|PMAK-[0-9a-f]{24}-[0-9a-f]{34}"
    r"|NRAK-[A-Z0-9]{27}|glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|sntrys_[\w=+/-]{40,400}+|ATATT3[\w=-]{150,250}+"
    r"|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|figd_[\w-]{40}|AKC[A-Za-z0-9]{60,90}+|AGE-SECRET-KEY-1[A-Z0-9]{58}",
}
KEY = re.compile(_START + "(?:" + "|".join(FORMS.values()) + rf")(?![{_WORD}])", re.ASCII)
HOOK = re.compile(r"(?<=hooks\.slack\.com/)[a-z]{3,20}/[A-Za-z0-9/_-]{20,200}+")
BASE64 = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{86}==(?!=)")
"""A key of 64 bytes, as storage accounts use."""
SIGNED = re.compile(
    _START + r"(eyJ[\w-]{6,4000}+)\.(?:[\w-]{2,8000}+)?\.[\w-]{0,4000}+(?:\.[\w-]{0,8000}+\.[\w-]{0,4000}+)?", re.ASCII
)
PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
PEM_END = "-----END"
PEM_TAIL = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")
PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s:,-]{0,20000}+")

BEARER = re.compile(r"\b(?:bearer|basic)\s{1,3}([A-Za-z0-9._~+/-]{16,4000}+=*+)", re.IGNORECASE | re.ASCII)
_WORDS = (
    r"password|passwd|passphrase|passcode|pwd|secret|token"
    r"|(?:api|access|account|secret|private|auth|client|signing)[ _-]?(?:key|token|secret)"
    r"|passwort|kennwort|mot de passe|contraseña|wachtwoord|senha|has[łl]o|lösenord|密码|口令|密碼"
)
NAMED = re.compile(
    rf"(?:{_WORDS})[\"']?\s{{0,2}}(?:is|ist|est|es|är|é|[:=：]|=>|是|为|為)\s{{0,2}}[\"']?([^\s\"'<>，。,;]{{6,256}}+)",
    re.IGNORECASE,
)


def find_tokens(text: str) -> Iterator[Span]:
    """Yield the spans of secrets; they may overlap."""
    for pattern in (KEY, HOOK, BASE64):
        yield from (match.span() for match in pattern.finditer(text))
    yield from (match.span() for match in SIGNED.finditer(text) if _is_head(match[1]))
    yield from (match.span(1) for match in BEARER.finditer(text) if any(map(str.isdigit, match[1])))
    yield from (match.span(1) for match in NAMED.finditer(text) if _is_made_up(match[1]))
    yield from _private_keys(text)


def _is_head(part: str) -> bool:
    """Tell whether a part is the header of a signed token: JSON that names its algorithm."""
    try:
        head = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(head, dict) and "alg" in head


def _is_made_up(value: str) -> bool:
    """Tell a password from an ordinary word: it has digits, and also letters or inner punctuation."""
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    return digits and (letters or any(not char.isalnum() for char in value.rstrip(".!?)")))


def _private_keys(text: str) -> Iterator[Span]:
    end = 0
    for match in PEM.finditer(text):
        if match.start() < end:
            continue
        tail = text.find(PEM_END, match.end(), match.end() + _LONGEST_PEM)
        closing = PEM_TAIL.match(text, tail) if tail >= 0 else None
        body = PEM_BODY.match(text, match.end())
        end = closing.end() if closing else body.end() if body else match.end()
        yield match.start(), end
