"""Patterns of structured personal data. The modules that use them make further checks.

Every pattern starts where a run of characters starts and is bounded or possessive, so that none backtracks over a text.
"""

from __future__ import annotations

import re

Span = tuple[int, int]
"""Start and end of a match in a text."""

CONTEXT = 40  # characters before a number that are searched for words

# Full-width forms, unusual spaces and dashes. Each maps to one character, so that spans in the plain text hold in the text too.
PLAIN = {0xFF01 + i: 0x21 + i for i in range(94)}
PLAIN |= dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"), ord(" "))
PLAIN |= dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), ord("-"))

_EDGE = r"(?<![A-Za-z0-9_])(?<![0-9][.,])"  # neither inside a word nor after a decimal point
_END = r"(?![A-Za-z0-9_])"
_LATIN = "A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"

USER_INFO = re.compile(r"(?<=://)([^\s\"'<>@/?#:]{0,128}+(?::(?![0-9]{1,5}/)[^\s\"'<>@]{0,256}+)?)@")
HOST = re.compile(r"[^\s/?\"'<>]{1,256}+")
SECRET = re.compile(
    r"(?<=[?&;])(?:(?:access|auth|refresh|id|api|session|private|client)[_-]?)?"
    r"(?:token|key|password|passwd|pwd|secret|signature|sig|sessionid|auth)=([^\s&#\"'<>]++)",
    re.IGNORECASE,
)

EMAIL = re.compile(rf"(?<![{_LATIN}._+'-])[{_LATIN}._+'-]++(?:@|%40)([{_LATIN}-]++(?:\.[{_LATIN}-]++)++)")
TOP_LEVEL = re.compile("[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59}")

IBAN = re.compile(_EDGE + r"(?=([A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,30}))")  # a lookahead: candidates may overlap

IDENTITY = re.compile(
    r"(?<![A-Za-z0-9])([1-9][0-9]{5}) ?"
    r"((?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])) ?([0-9]{3}[0-9Xx])" + _END
)

CARD = re.compile(
    _EDGE
    + r"(?:[0-9]{13,19}|[0-9]{4}([ .-])[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,4}){1,2}|[0-9]{4}([ .-])[0-9]{6}\2[0-9]{4,5}"
    + r"|[0-9]{6}[ -][0-9]{7,13})(?:[ ][0-9]{2,4}(?=/|\b))?+"
    + _END
    + r"(?![.,][0-9])"
)
# Visa; Mastercard; American Express; Diners Club; JCB; Mir; Maestro, Discover, UnionPay, RuPay.
BRAND = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-59]|[689][0-9])[0-9]{11,16}|35[0-9]{14,17}|(?:2131|1800)[0-9]{11}|220[0-4][0-9]{12,15}"
    r"|(?:6[0-9]|81|5[0678])[0-9]{11,17}"
)

IPV4 = re.compile(r"(?<![A-Za-z0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9]|\.[0-9])")
IPV6 = re.compile(r"(?<![A-Za-z0-9:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:.]{2,46}+(?![A-Za-z0-9])")
# A number of four parts after these words is a version or a section.
NUMBERED = re.compile(
    r"(?:\bv|\bver|version|release[ds]?|build|firmware|driver|upgraded?|updated?|section|chapter|article|clause|§"
    r"|版本|版|固件|驱动|升级|更新|章|节|条|第)号?(?:\s(?:number|no|to|from|is))?[\s.:：为是至到]*$",
    re.IGNORECASE,
)

MACHINE = re.compile(r"(?:\bip|\bipv4|address|server|host|dns|ping|gateway|router|地址|服务器|主机)[^0-9]{0,12}$", re.IGNORECASE)

_DIGITS = r"[0-9](?:[ .()/-]{0,3}[0-9])"
GROUP = re.compile(r"[0-9]+")
PREFIX = re.compile(r"^(?:00|011)[ -]?")
ABROAD = re.compile(r"(?<![0-9A-Za-z+])(?:\+\(?|(?:00|011)[ -]?)(?=[1-9])" + _DIGITS + r"{6,17}+")
# Forms that are always a phone number: (212) 555-0123, 212-555-0123.
SHAPED = re.compile(
    r"(?<![A-Za-z0-9_#])(?<![0-9][.,/-])(?:1[ .-]?)?(?:\([0-9]{3}\)[ .-]?|[0-9]{3}[.-])[0-9]{3}[ .-][0-9]{4}"
    r"(?![A-WYZa-wyz0-9]|[.,/-][0-9])"
)
# Chinese mobile numbers.
MOBILE = re.compile(
    r"(?<![A-Za-z0-9_#])(?<![0-9][.,/-])1[3-9][0-9](?:[0-9]{8}|([ -])[0-9]{4}\1[0-9]{4})(?![A-WYZa-wyz0-9_]|[.,/-][0-9])"
)
# With a trunk zero or an area code in brackets, as most countries write them; a country's numbering plan decides.
NATIONAL = re.compile(
    r"(?<![A-Za-z0-9_#])(?<![0-9][.,:/-])(?:0(?=[0-9 ])|\([0-9]{2,5}\)|\(0[0-9]{1,5}\)|[2-9][0-9]{2}(?= [0-9]{3} [0-9]{4}))"
    r"(?:[ .()/-]{0,2}[0-9]){6,12}+"
)
# Two or more groups of digits: the numbering plans of home regions decide.
GROUPED = re.compile(
    r"(?<![A-Za-z0-9_#])(?<![0-9][.,:/ -])[0-9]{1,5}+(?:[ .-][0-9]{2,5}+){1,5}+(?![A-WYZa-wyz0-9]|[.,/:-][0-9]| [0-9])"
)
AFTER = re.compile(r"(?![A-WYZa-wyz0-9]|[.,][0-9])")
# Any number after one of the words in CUE.
CUED = re.compile(r"(?<![A-Za-z0-9])(?<![0-9][.,-])(?:\(|\+)?" + _DIGITS + r"{6,14}+(?![A-WYZa-wyz0-9]|[.,][0-9])")
CUE = re.compile(
    r"(?:\b(?:tel|telephone|phone|call(?:ed)?|ring|dial|mobile|mob|cell|fax|hotline|whatsapp|sms)|电话|手机|座机|热线|致电|拨打|联系方式|传真)"
    r"(?:\s?(?:number|no|me|us|at|on|is)\b\.?|号码|号|是|为){0,3}[\s:：.,，#=-]{0,4}$",
    re.IGNORECASE,
)
EXTENSION = re.compile(r"\s?(?:x|ext\.?|extension|分机|转)\s?[0-9]{1,6}(?![0-9])", re.IGNORECASE)
DATE = re.compile(r"[0-9]{1,2}([./-])[0-9]{1,2}\1(?:[0-9]{4}|[0-9]{2})(?![0-9])|[0-9]{4}([./-])[0-9]{1,2}\2[0-9]{1,2}(?![0-9])")
