"""Detects the language of a set of texts: by script first, within a script with py3langid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Any

from refsynth.core.extras import require

UNKNOWN = "xx"
"""Unknown language: the multilingual encoder is used."""

_SAMPLE = 2000  # texts; more do not change the answer
_SCRIPTS = {  # a match is one unit: a word, or in dense scripts a character
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

_SAME_SCRIPT = {  # languages by the name of their script
    "latin": "cs da de en es et fi fr hr hu id is it lt lv nl no pl pt ro sk sl sq sv tr vi",
    "ru": "be bg kk ky mk mn ru sr uk",
    "ar": "ar fa ps ug ur",
    "hi": "hi mr ne",
}
_WORDS = re.compile(r"[^\W\d_]+")
_LATIN_SHARE, _SCRIPT_SHARE = 0.8, 0.5
_LEAST_SHARE, _LEAD = 0.35, 1.5
"""Least share of words of the most frequent language, and its least ratio to the next: short texts spread over related ones."""


def detect_language(texts: Iterable[str]) -> str:
    """Return the ISO 639-1 code of the language of most words, or `xx` if none leads clearly.

    The script decides first: a script other than Latin needs half of the words (Chinese text is full of Latin brand names).
    Within a script, py3langid classifies each text, weighted by its words: single short texts err, but not all in one way.

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
    langid = require("py3langid.langid", extra="train")
    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    identifier.set_languages(_SAME_SCRIPT[script].split())
    return identifier


def detect_script(texts: Iterable[str]) -> str:
    """Return `latin`, or zh, ja, ko, th, ru, ar, he, el or hi for the script of these languages, else `xx`."""
    units: Counter[str] = Counter()
    for text in islice(texts, _SAMPLE):
        units.update(str(match.lastgroup) for match in _UNITS.finditer(text))
    kana = units.pop("kana", 0)
    if kana:  # Japanese uses both scripts; a stray kana does not make Chinese text Japanese
        cjk = kana + units.pop("zh", 0)
        units["ja" if kana > 0.1 * cjk else "zh"] = cjk
    if not units:
        return UNKNOWN
    script, count = units.most_common(1)[0]
    return script if count >= (_LATIN_SHARE if script == "latin" else _SCRIPT_SHARE) * units.total() else UNKNOWN
