"""A user's text made safe for our pages: on one line, and without markup."""

from __future__ import annotations

import re


def one_line(text: str) -> str:
    """Return a text on one line without unprintable characters. Joiners, which shape letters and emoji, stay."""
    return " ".join("".join(char if char.isprintable() or char in "\u200c\u200d" else " " for char in text).split())


def markdown(text: str) -> str:
    """Escape what Markdown, or the HTML in it, would read as markup in running text, list items and table cells."""
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign, entity in (("://", "&#58;//"), ("@", "&#64;")):  # a page would make links of these
        entities = entities.replace(sign, entity)
    entities = re.sub(r"(?i)\b(www)\.", r"\1&#46;", entities)
    inner = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", entities)
    return re.sub(r"^(\d*)([-+#=.)])", r"\1\\\2", inner)
