"""Nothing leaves the machine, and nothing is written outside the folders that were named. The kernel counts, no call is patched.

What looks up a host does so some seconds after a model is loaded, so each process lives for a minute after that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

import refsynth
from refsynth.core.private import READ_AT_IMPORT, SWITCHES
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run
from tests.support import alone
from tests.support.runs import make_task

pytestmark = pytest.mark.skipif(not alone.possible(), reason="no network namespace can be made here")
SOURCE = str(Path(refsynth.__file__).parent.parent)
AFTER = 60
"""Seconds that a process lives after it loaded its models."""

ALLOWED = ("work/out/", "work/state/", "home/.cache/matplotlib/")
"""Where files may be found afterwards: run folder, server state, matplotlib's list of fonts (docs/how-to/protection.md)."""

RUN = f"""
import sys, time
import refsynth
refsynth.run(sys.argv[1], out=sys.argv[2])
time.sleep({AFTER})
"""
ESTIMATOR = f"""
import sys, time
from refsynth import TextClassifier
settings = {{"language": "en", "reference": "echo", "learners": ["frozen"]}}
texts = [f"{{word}} number {{i}} came" for i in range(12) for word in ("parcel", "invoice")]
fitted = TextClassifier(drafts=8, settings=settings).fit(texts, ["delivery", "billing"] * 12)
fitted.predict(texts)
time.sleep({AFTER})
"""
PREDICT = f"""
import subprocess, sys, time
asked = subprocess.Popen([sys.executable, "-m", "refsynth", "predict", sys.argv[1], "-"], stdin=subprocess.PIPE, text=True)
asked.stdin.write("my parcel is late\\n" * 5)
asked.stdin.flush()
time.sleep({AFTER} + 10)
asked.stdin.close()
sys.exit(asked.wait())
"""
SERVE = f"""
import signal, socket, subprocess, sys, time, urllib.request
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
own = [sys.executable, "-m", "refsynth", "serve", sys.argv[1], "--port", str(port), "--workers", "2", "--state", sys.argv[2]]
served = subprocess.Popen(own)
for _ in range(240):
    time.sleep(0.5)
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{{port}}/health/ready")
        break
    except OSError:
        pass
url, body = f"http://127.0.0.1:{{port}}/v1/predict", b'{{"texts": ["my parcel is late"]}}'
ask = urllib.request.Request(url, body, {{"Content-Type": "application/json"}})
for _ in range({AFTER} // 4):
    urllib.request.urlopen(ask).read()
    time.sleep(4)
served.send_signal(signal.SIGTERM)
sys.exit(served.wait())
"""


@pytest.mark.slow
def test_nothing_leaves_the_machine_nor_the_folders_that_were_named(tmp_path: Path, tiny_cache: Path) -> None:
    task = make_task(tmp_path / "made", learners=["frozen"])
    bundle = run(task, tmp_path / "made" / "run", store=ModelStore(tiny_cache)).bundle
    assert (bundle / "int8.onnx").is_file()  # ONNX Runtime is at work
    asked = {
        "run": (RUN, str(task_file(tmp_path / "made")), "out"),
        "estimator": (ESTIMATOR,),
        "predict": (PREDICT, str(bundle)),
        "serve": (SERVE, str(bundle), "state"),
    }
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(start(tmp_path / name, *arguments, cache=tiny_cache)) for name, arguments in asked.items()
        }
        for name, process in started.items():
            counts, code, printed = alone.finish(process, 400)
            assert code == 0, f"{name}: {printed}"
            assert (counts.astray, counts.datagrams) == (0, 0), f"{name}: {counts}"
            assert name == "serve" or counts.connects == 0, f"{name}: {counts}"
            assert [path for path in written(tmp_path / name) if not path.startswith(ALLOWED)] == [], name


def written(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def task_file(folder: Path) -> Path:
    path = folder / "task.yaml"
    path.write_text(
        "language: en\nlabels: {late: the parcel is late, broken: the thing is broken}\n"
        f"data: {{train: {folder}/train.jsonl}}\n"
        "reference: echo\nsynthesis: {drafts: 20, per_prompt: 4}\nlearners: [frozen]\ngate: {folds: 3}\n"
    )
    return path


def start(folder: Path, script: str, *arguments: str, cache: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run a script alone, with a home, a folder for temporary files and a working folder of its own."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES and not name.startswith("XDG_")}
    own = {"HOME": f"{folder}/home", "TMPDIR": f"{folder}/tmp", "REFSYNTH_CACHE": str(cache), "PYTHONPATH": SOURCE}
    return alone.start([sys.executable, "-c", script, *arguments], env={**kept, **own}, cwd=folder / "work")


@pytest.mark.parametrize(
    "script",
    [
        "import socket; socket.socket().connect_ex(('192.0.2.1', 443))",
        "import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 443))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('127.0.0.53', 53))",
        "import socket; socket.socket().connect_ex(('127.0.0.1', 443))",
    ],
)
def test_the_counts_see_what_would_leave(script: str, tmp_path: Path) -> None:
    with alone.start([sys.executable, "-c", script], env=os.environ, cwd=tmp_path) as process:
        counts, _, _ = alone.finish(process, 60)
    assert any(counts)


def test_a_library_that_was_there_before_is_warned_of(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    for library in READ_AT_IMPORT:
        for first, warned in ((library, True), ("json", False)):
            told = subprocess.run(
                [sys.executable, "-c", f"import {first}; import refsynth"],
                env={**kept, "PYTHONPATH": SOURCE},
                capture_output=True,
                text=True,
                check=True,
            )
            assert (f"{library} was imported before refsynth" in told.stderr) is warned
