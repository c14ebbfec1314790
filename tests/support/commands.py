"""The command line, in this process."""

import sys

import pytest

from refsynth.cli import app as application


def call(monkeypatch, capsys, *arguments, cache=None):
    """Run the command line in this process; return the exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["refsynth", *map(str, arguments)])
    if cache:
        monkeypatch.setenv("REFSYNTH_CACHE", str(cache))
    with pytest.raises(SystemExit) as caught:
        application.main()
    output = capsys.readouterr()
    return caught.value.code or 0, output.out, output.err
