"""What the operating system says ends a command with one line and exit code 2, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import refsynth
from refsynth.cli.endings import system_error_message
from tests.support.runs import write_rows
from tests.support.serving import save_bundle

SOURCE = str(Path(refsynth.__file__).parent.parent)
LIMITS = (20_000, 60_000, 200_000, 500_000)
"""The largest file that may be written, in bytes: a run of the tests writes larger ones at different stages."""


Done = subprocess.CompletedProcess[str]


def call(
    *arguments: object, cwd: Path, before: Callable[[], None] | None = None, cache: Path | None = None, **streams: object
) -> Done:
    kept = {name: value for name, value in os.environ.items() if name != "REFSYNTH_DEBUG"}
    kept |= {} if cache is None else {"REFSYNTH_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "refsynth", *map(str, arguments)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": SOURCE},
        text=True,
        preexec_fn=before,
        **({"capture_output": True} | streams),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    save_bundle(folder / "bundle")
    write_rows(folder / "train.jsonl", 8, 1)
    (folder / "texts.txt").write_text("w1 w2 w3\n" * 3000)
    (folder / "labeled.jsonl").write_text(json.dumps({"text": "w1 w2", "label": "billing"}) + "\n")
    (folder / "task.yaml").write_text(
        "language: en\nlabels: {late: late, broken: broken}\ndata: {train: train.jsonl}\nreference: echo\n"
        "synthesis: {drafts: 40, per_prompt: 4}\nlearners: [tfidf]\ngate: {folds: 3}\n"
    )
    return folder


def one_line(told: Done, *parts: str) -> None:
    assert told.returncode == 2, told.stderr
    errors = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in told.stderr, told.stderr
    assert all(part in told.stderr for part in parts), told.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "list"],
        ["models", "list", "--json"],
        ["predict", "bundle", "texts.txt"],
        ["evaluate", "bundle", "labeled.jsonl", "--json"],
        ["doctor"],
    ],
)
def test_a_full_disk_behind_stdout(work: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        one_line(
            call(*arguments, cwd=work, capture_output=False, stdout=full, stderr=subprocess.PIPE),
            "No space left",
            "free some space",
        )


GONE = [
    ["predict", "bundle", "texts.txt"],
    ["predict", "bundle", "texts.txt", "--out", "scored.csv"],
    ["evaluate", "bundle", "labeled.jsonl"],
    ["models", "list"],
    ["models", "list", "--json"],
    ["doctor"],
    ["keys", "list", "--keys", "absent.json"],
]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("arguments", GONE)
def test_a_reader_that_goes_away_is_no_error(work: Path, arguments: list[str], stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    told = call(*arguments, cwd=work, capture_output=False, **streams)
    os.close(writing)
    seen = (told.stderr or "") + (told.stdout or "")
    assert told.returncode == 0 and "error:" not in seen and "Exception" not in seen and "Traceback" not in seen
    assert stream == "stdout" or told.stdout or "--out" in arguments  # what can be read is all there


@pytest.mark.parametrize("stream", ["stdout", pytest.param("stderr", marks=pytest.mark.slow)])
def test_a_run_whose_reader_goes_away_ends_as_it_would(work: Path, tmp_path: Path, tiny_cache: Path, stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    contract = ["--set", "contract={size_mb: 0.000001}"]
    told = call(
        "run", "task.yaml", "--out", tmp_path / "out", *contract, cwd=work, capture_output=False, cache=tiny_cache, **streams
    )
    os.close(writing)
    assert told.returncode == 3 and (tmp_path / "out" / "report.html").is_file(), told.stderr


def test_a_full_disk_behind_stderr_still_says_so_by_its_exit_code(work: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert call("run", "absent.yaml", "--out", "r", cwd=work, capture_output=False, stderr=full).returncode == 2


@pytest.mark.parametrize("limit", [pytest.param(limit, marks=() if limit == LIMITS[0] else pytest.mark.slow) for limit in LIMITS])
def test_a_run_that_cannot_write_on_goes_on_when_it_can(
    work: Path, tmp_path: Path, tiny_cache: Path, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))

    def least() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    told = call("run", "task.yaml", "--out", tmp_path / "out", cwd=work, before=least)
    if told.returncode != 0:
        one_line(told, "cannot be written", "free some space")
        assert not list((tmp_path / "out").rglob("*.tmp"))
    again = call("run", "task.yaml", "--out", tmp_path / "out", "--json", cwd=work)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "report.html").is_file() and refsynth.load(tmp_path / "out" / "bundle").labels
    if limit == LIMITS[0]:
        assert told.returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(work: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    one_line(call("run", "task.yaml", "--out", tmp_path / "out", cwd=work), "Permission denied")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b"), "a/b: cannot be written (No space left on device)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "cannot be written (I/O error"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: ...]"), "disk is full"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "secret"), "secret: Permission denied"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "Too many open files"),
        (OSError("odd"), "odd"),
        (MemoryError(), "memory"),
        (ValueError("a fault of ours"), None),
    ],
)
def test_what_the_system_says(error: Exception, part: str | None) -> None:
    said = system_error_message(error)
    assert said is None if part is None else said is not None and part in said and "SQL" not in said
