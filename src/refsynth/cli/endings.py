"""How a command ends when the operating system refuses something: one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from refsynth.cli.screen import discard_output, err

EXIT_INPUT = 2
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_PHRASES = ("no space left on device", "disk quota exceeded", "file too large", "database or disk is full")
"""What libraries that do not raise an OSError say when the disk is full."""


def system_error_message(error: BaseException) -> str | None:
    """Return the message for an error of the operating system; None for any other error, which is a bug of ours."""
    text = str(error)
    full = isinstance(error, OSError) and error.errno in FULL_ERRNOS
    if full or any(phrase in text.lower() for phrase in FULL_PHRASES):
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else text.splitlines()[0]
        return f"{where}cannot be written ({reason})\n  free some space, then run the same command again"
    if isinstance(error, OSError):
        where = ": ".join(str(name) for name in (error.filename, error.filename2) if name)
        return f"{where or 'the system'}: {error.strerror or text or type(error).__name__}"
    if isinstance(error, MemoryError):
        return "this machine has not enough memory\n  process less at a time, or use a machine with more memory"
    return None


def print_error(message: str) -> None:
    """Print an error message on stderr; do nothing if stderr is closed."""
    with contextlib.suppress(OSError):
        err.print(f"error: {message}", markup=False)


def flush_output(code: int) -> int:
    """Flush stderr and stdout; return `code`, or the code for wrong input if stdout cannot be written."""
    try:
        sys.stderr.flush()
    except OSError:
        discard_output(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # the reader has closed the pipe and needs no more
    except OSError as error:
        print_error(f"standard output: {system_error_message(error)}")
        code = EXIT_INPUT
    else:
        return code
    discard_output(sys.stdout)
    return code
