"""Odd and hostile inputs through the command line: a refusal in one line that names the file, or an answer for every row.

None may end in a traceback, wait for ever, or lose a row without a word.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from refsynth.cli import app as application
from refsynth.core.files import read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.hashes import digest
from refsynth.core.marks import MarkedPlace, spans_in
from refsynth.data.parquet import open_parquet
from tests.support import hostile

DEADLINE = 60
FILES = hostile.files()
DAMAGES = hostile.damages()


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class LateError(BaseException):
    """Nothing that a command may catch."""


def late(*_: object) -> None:
    raise LateError


def ended(*arguments: object, stdin: bytes = b"") -> Ended:
    """Run a command in this process and return how it ended; what it raises, a test sees. A server has a process of its own."""
    if arguments[0] == "serve":  # it takes over the log, the signals and the metrics of its process
        command = [sys.executable, "-m", "refsynth", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=DEADLINE, check=False)
        return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    sys.argv, sys.stdin, sys.stdout, sys.stderr = (
        ["refsynth", *map(str, arguments)],
        io.TextIOWrapper(io.BytesIO(stdin)),
        out,
        err,
    )
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        application.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before
    for stream in (out, err):
        stream.flush()
    return Ended(code, *(stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)))


def check(end: Ended, *names: str) -> None:
    """See that a command answered, or refused in one error that names the file."""
    assert end.code in (0, 2, 3, 4), end.err[-2000:]
    assert "Traceback" not in end.err
    assert len(end.err) < 20_000
    if end.code and "Usage:" not in end.err:
        errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, end.err
        assert not names or any(name.encode("utf-8", "backslashreplace").decode() in end.err for name in names), end.err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on good rows."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "rows.csv").write_bytes(hostile.GOOD)
    (folder / "task.yaml").write_text(hostile.yaml())
    assert ended("run", folder / "task.yaml", "--out", folder / "run").code == 0
    return folder / "run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.parametrize("what", FILES)
def test_a_file(what: str, run: Path, here: Path) -> None:
    file = FILES[what]
    path = here / file.name
    path.write_bytes(file.data)
    asked = ended("predict", run, path)
    check(asked, file.name)
    if file.rows is not None:
        assert asked.code == 0, asked.err
        assert [json.loads(line)["row"] for line in asked.out.splitlines()] == [*range(1, file.rows + 1)]
    check(scored := ended("predict", run, path, "--out", "scored.jsonl"), file.name)
    if scored.code == 0:
        assert len((here / "scored.jsonl").read_bytes().splitlines()) == len(asked.out.splitlines())
    check(ended("init", "task", "--from", path), file.name)
    check(ended("evaluate", run, path), file.name)


@pytest.mark.parametrize("what", [name for name, file in FILES.items() if file.name.endswith(("csv", "tsv", "jsonl", "txt"))])
def test_standard_input(what: str, run: Path, here: Path) -> None:
    check(ended("predict", run, "-", stdin=FILES[what].data), "standard input")


@pytest.mark.parametrize("what", hostile.YAMLS)
def test_a_configuration(what: str, here: Path) -> None:
    content = hostile.YAMLS[what]
    (here / "rows.csv").write_bytes(hostile.GOOD)
    (here / "task.yaml").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    end = ended("run", "task.yaml", "--out", "run")
    check(end)
    assert "secret" not in end.out + end.err
    if what not in hostile.ALLOWED:
        assert end.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("what", DAMAGES)
def test_a_run_that_was_damaged(what: str, run: Path, here: Path) -> None:
    damaged = here / "damaged"
    shutil.copytree(run, damaged)
    DAMAGES[what](damaged)
    (here / "new.csv").write_bytes(hostile.GOOD)
    for command in (("compare", damaged, run), ("trace", damaged, "row-1"), ("predict", damaged, "new.csv")):
        check(ended(*command), "damaged")
    if what.startswith(("task.json", "steps")):
        check(ended("filter", damaged), "damaged")


@pytest.mark.slow
@pytest.mark.parametrize("line", hostile.COMMANDS)
def test_a_command_line(line: str, run: Path, here: Path) -> None:
    (here / "new.csv").write_bytes(hostile.GOOD)
    (here / "rules.yaml").write_text("a: [b")
    shutil.copytree(run, here / "run")
    if "record.sqlite" in line:
        assert ended("record", "upgrade", "record.sqlite").code == 0
    end = ended(*line.split(" "))
    check(end)
    assert end.code == 2 or line in hostile.MISSING, end


@pytest.mark.parametrize(
    ("streams", "codes"),
    [
        ("new.csv | head -c 1 >head.txt", (0,)),
        ("new.csv >/dev/full", (2,)),
        ("new.csv >&-", (2,)),
        ("new.csv --out scored.csv >&-", (0, 2)),
        ("new.csv --out scored.csv 2>&-", (0,)),
        ("new.csv --out scored.csv 2>/dev/full", (0,)),
        ("new.csv --out scored.csv <&- >&- 2>&-", (0, 2)),
        ("- <&-", (0, 2)),
    ],
)
def test_streams_that_are_closed_or_full(streams: str, codes: tuple[int, ...], run: Path, here: Path) -> None:
    (here / "new.csv").write_bytes(hostile.GOOD * 200)
    command = [
        "bash",
        "-c",
        f'"$@" {streams}; exit ${{PIPESTATUS[0]}}',
        "bash",
        sys.executable,
        "-m",
        "refsynth",
        "predict",
        str(run),
    ]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE, check=False, text=True)
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be read" not in done.stderr or streams == "- <&-"
    if "scored.csv" in streams:
        assert len((here / "scored.csv").read_bytes().splitlines()) == len((here / "new.csv").read_bytes().splitlines())


@pytest.mark.parametrize("value", ["\ud800", "a \udfff b", {"\udc00": ["\ud83d"]}, "\U0001f600", "plain"])
def test_half_a_character_comes_back_from_the_files_of_a_run(value: object, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", value)
    write_jsonl(tmp_path / "a.jsonl", [value, value])
    assert read_json(tmp_path / "a.json") == value
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [value, value]
    assert len(digest(value)) == 64


@pytest.mark.parametrize("columns", [{"text": [None] * 7}, {"text": [1] * 7}, {"text": [1.5] * 7, "label": [None] * 7}])
def test_a_parquet_file_without_texts_keeps_its_rows(columns: dict[str, list[object]], tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(hostile.parquet(columns))
    with (tmp_path / "a.parquet").open("rb") as stream:
        assert [record.row for record in open_parquet(tmp_path / "a.parquet", stream).records] == [*range(1, 8)]


def test_many_marks_in_a_long_text_are_found_as_words() -> None:
    text = "Lee " * 30_000
    found = spans_in(text, [MarkedPlace(4 * at, 4 * at + 3, "person") for at in range(30_000)])
    assert [(one.start, one.end) for one in found.spans] == [(at, at + 1) for at in range(30_000)]


def test_there_are_at_least_three_hundred() -> None:
    assert len(FILES) + len(hostile.YAMLS) + len(DAMAGES) + len(hostile.COMMANDS) >= 300
