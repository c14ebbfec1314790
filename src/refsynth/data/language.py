"""The language of a set of texts, as far as a choice of encoder and text rules needs it: by script, and by words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

UNKNOWN = "xx"
"""Neither English nor told apart by its script: the multilingual encoder's business."""

_SAMPLE = 2000  # texts; more do not change the answer
_SCRIPTS = {  # one word of letters, or one character that says much, is a unit
    "kana": r"[\u3041-\u30ff\uff66-\uff9f]",
    "zh": r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]",
    "ko": r"[\uac00-\ud7af\u1100-\u11ff\u3130-\u318f]",
    "th": r"[\u0e00-\u0e7f]",
    "ru": r"[\u0400-\u052f]+",
    "ar": r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]+",
    "he": r"[\u0590-\u05ff]+",
    "el": r"[\u0370-\u03ff\u1f00-\u1fff]+",
    "hi": r"[\u0900-\u097f]+",
    "latin": r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+",
}
_UNITS = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _SCRIPTS.items()))

# Words that mark one language; those that English shares with another (in, is, was, me, no, ...) are left out.
_ENGLISH_WORDS = """the and of to my you your it its that this with what how why when where who are were be been have has had
i'm i can't can cannot could should would will not don't didn't does did do they their he she we our us but or if from for there
which about because after before any some"""
_OTHER_WORDS = """der die das und ist nicht ich wir sie ein eine mit auf den dem zu für von wie kann mein meine
le la les des et est je vous nous une un dans pour pas sur avec que qui mon ma du au ce
el los las y es en por para con una mi no se lo como su del al más muy
il gli che di per non sono una mio come ho della nel
o os as e em um uma não meu minha com da na eu você
de het een en ik niet mijn van op dat je met voor
och att det som jag inte är på för ett og ikke jeg på til af
nie na się jest w z do i co jak mój to
ve bir bu için ne çok var mi yang dan di ini itu saya tidak untuk dengan
tôi không của và là có một"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_OTHERS = frozenset(_OTHER_WORDS.split()) - _ENGLISH


def detect_language(texts: Iterable[str]) -> str:
    """Return an ISO 639-1 code: zh, ja, ko, th, ru, ar, he, el, hi by script, en by its function words, else `xx`.

    A script names one language only (Cyrillic is taken for Russian), which is enough to choose an encoder. A script other than
    Latin wins with half of the words (Chinese text is full of Latin brand names); English must hold four fifths of them.
    """
    units: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in islice(texts, _SAMPLE):
        for found in _UNITS.finditer(text):
            units[str(found.lastgroup)] += 1
        words.update(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower().replace("’", "'")))
    kana = units.pop("kana", 0)
    if kana:  # Japanese writes both; a stray kana in Chinese text does not make it Japanese
        cjk = kana + units.pop("zh", 0)
        units["ja" if kana > 0.1 * cjk else "zh"] = cjk
    total = sum(units.values())
    if not total:
        return UNKNOWN
    script, count = units.most_common(1)[0]
    if script != "latin":
        return script if count >= 0.5 * total else UNKNOWN
    return "en" if count >= 0.8 * total and _is_english(words) else UNKNOWN


def _is_english(words: Counter[str]) -> bool:
    english = sum(count for word, count in words.items() if word in _ENGLISH)
    others = sum(count for word, count in words.items() if word in _OTHERS)
    return english >= 0.05 * words.total() and english > 2 * others
