"""Converts rows of labeling tools' exports to plain rows.

A plain row has a text under one key, and under another a label, a list of labels, or a list of spans. Other values stay under
their own keys, so that the user can name them as columns.
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
"""The known formats, the most specific first."""

__all__ = ["FORMS", "FormError", "Read", "as_object", "as_row", "read_export"]


def read_export(values: Mapping[str, Any]) -> Read:
    """Return an export's row as a plain row; a row of no known format unchanged.

    Raises:
        FormError: the row has a known format but cannot be converted; the message names the format.
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
        raise FormError(f"{form.name}: not written as that tool does ({type(error).__name__})") from error
