"""Keeping what transformers tells about files off the screen and out of logs: it is not about the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refsynth.core.extras import require


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers show no bars and give no advice, and put back afterwards what its user had set.

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
