"""Exports of the tools that people label with, row by row: what a row of one says in the words of a plain row.

A plain row has a text under one key and under another a label, a list of labels, or a list of places. What a row holds besides
stays under its own keys, so that a column which the user names is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.argilla import ARGILLA, ARGILLA_FLAT, ARGILLA_OLD
from refsynth.data.exports.doccano import DOCCANO, DOCCANO_OLD
from refsynth.data.exports.form import ExportFormat, FormError, Read
from refsynth.data.exports.labelstudio import LABEL_STUDIO, LABEL_STUDIO_MIN
from refsynth.data.exports.prodigy import PRODIGY
from refsynth.data.exports.spacy import SPACY, SPACY_CATS, as_object, as_row

FORMS: tuple[ExportFormat, ...] = (
    LABEL_STUDIO, LABEL_STUDIO_MIN, ARGILLA, ARGILLA_FLAT, ARGILLA_OLD, PRODIGY, SPACY_CATS, SPACY, DOCCANO, DOCCANO_OLD,
)  # fmt: skip
"""The forms that are known, the most telling first."""

__all__ = ["FORMS", "FormError", "Read", "as_object", "as_row", "read_export"]


def read_export(values: Mapping[str, Any]) -> Read:
    """Return a row in plain words; a row of no known form as it is.

    Raises:
        FormError: it is of a form, and holds what has no words here; the message names the form.
    """
    form = next((form for form in FORMS if form.recognize(values)), None)
    if form is None:
        return Read(values)
    try:
        read = form.read(values)
        if any(not isinstance(key, str) for key in read.values):
            raise TypeError
        return read
    except FormError as error:
        raise FormError(f"{form.name}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise FormError(f"{form.name}: not as that tool writes it ({type(error).__name__})") from error
