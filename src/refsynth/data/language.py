"""The language of a set of texts: by script, and within a script by py3langid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

from refsynth.core.extras import require

UNKNOWN = "xx"
"""No language that could be told: the multilingual encoder's business."""

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

_SAME_SCRIPT = {  # what is written in the script that one language stands for
    "latin": "cs da de en es et fi fr hr hu id is it lt lv nl no pl pt ro sk sl sq sv tr vi",
    "ru": "be bg kk ky mk mn ru sr uk",
    "ar": "ar fa ps ug ur",
    "hi": "hi mr ne",
}
_WORDS = re.compile(r"[^\W\d_]+")
_LATIN_SHARE, _SCRIPT_SHARE = 0.8, 0.5
_LEAST_SHARE, _LEAD = 0.35, 1.5
"""Of the words, what the most frequent language must hold, and how much more than the next: short texts spread over cousins."""


def detect_language(texts: Iterable[str]) -> str:
    """Return the ISO 639-1 code of the language that most words are in, or `xx` where none leads clearly.

    By script first: a script other than Latin wins with half of the words (Chinese text is full of Latin brand names). Among the
    languages of one script by py3langid, text by text, each with the weight of its words: short texts err, not all the same way.

    Raises:
        ExtraError: the extra `train` is not installed.
    """
    sample = list(islice(texts, _SAMPLE))
    script = detect_script(sample)
    if script not in _SAME_SCRIPT:
        return script
    identifier, votes = _identifier(script), Counter[str]()
    for text in sample:
        for language, probability in identifier.rank(text):
            votes[language] += probability * len(_WORDS.findall(text))
    (language, most), (_, next_most) = votes.most_common(2)
    return language if most >= _LEAST_SHARE * votes.total() and most >= _LEAD * next_most else UNKNOWN


@lru_cache
def _identifier(script: str) -> Any:
    """Return what tells the languages of a script apart."""
    langid = require("py3langid.langid", extra="train")
    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    found.set_languages(_SAME_SCRIPT[script].split())
    return found


def detect_script(texts: Iterable[str]) -> str:
    """Return `latin`, or zh, ja, ko, th, ru, ar, he, el or hi for the script that each of these stands for, else `xx`."""
    units: Counter[str] = Counter()
    for text in islice(texts, _SAMPLE):
        for found in _UNITS.finditer(text):
            units[str(found.lastgroup)] += 1
    kana = units.pop("kana", 0)
    if kana:  # Japanese writes both; a stray kana in Chinese text does not make it Japanese
        cjk = kana + units.pop("zh", 0)
        units["ja" if kana > 0.1 * cjk else "zh"] = cjk
    if not units:
        return UNKNOWN
    script, count = units.most_common(1)[0]
    return script if count >= (_LATIN_SHARE if script == "latin" else _SCRIPT_SHARE) * units.total() else UNKNOWN
