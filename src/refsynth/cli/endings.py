"""How a command ends where the system, not the user's input, said no: one line, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from refsynth.cli.screen import err, to_nowhere

WRONG = 2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAYS_FULL = ("no space left on device", "disk quota exceeded", "file too large", "database or disk is full")
"""What libraries that are not written in Python make of these."""


def of_the_system(error: BaseException) -> str | None:
    """Return what to say of an error that the operating system gave, or None where it is another, which is a fault of ours."""
    said = str(error)
    full = isinstance(error, OSError) and error.errno in FULL
    if full or any(word in said.lower() for word in SAYS_FULL):
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else said.splitlines()[0]
        return f"{where}cannot be written ({reason})\n  free some space, then give the same command again"
    if isinstance(error, OSError):
        where = ": ".join(str(name) for name in (error.filename, error.filename2) if name)
        return f"{where or 'the system'}: {error.strerror or said or type(error).__name__}"
    if isinstance(error, MemoryError):
        return "the memory of this machine does not suffice\n  give it less at a time, or a machine with more"
    return None


def say(message: str) -> None:
    """Print an error, if anybody can read it."""
    with contextlib.suppress(OSError):
        err.print(f"error: {message}", markup=False)


def flushed(code: int) -> int:
    """Write out what stdout still holds; return the code to exit with, which is another where that fails."""
    try:
        sys.stderr.flush()
    except OSError:
        to_nowhere(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # the reader has what it wants
    except OSError as error:
        say(f"the output: {of_the_system(error)}")
        code = WRONG
    else:
        return code
    to_nowhere(sys.stdout)
    return code
