"""Silencing the messages and progress bars of transformers, which are not about the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refsynth.core.extras import require


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers in the block, and restore its settings afterwards.

    Raises:
        ExtraError: the extra `train` is not installed.
    """
    logging = require("transformers", extra="train").utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
