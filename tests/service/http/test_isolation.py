"""Nothing takes all workers at once: hostile bundles, a log that nobody reads, busy machines, cleared folders."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from refsynth import bundle
from refsynth.core.errors import ModelError
from refsynth.core.hashes import file_digest
from refsynth.models.tokenizer import PanicError, TextTokenizer
from refsynth.service.http import trial
from refsynth.service.http.settings import Settings
from refsynth.service.http.slot import Slot
from refsynth.service.http.state import ServerState
from refsynth.service.http.supervisor import Supervisor
from refsynth.service.http.switch import Switcher
from tests.support import meddled
from tests.support.processes import ENVIRONMENT, Load, command, serving
from tests.support.serving import eventually, gone, save_bundle, save_encoder

Change = Callable[[dict], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of an encoder."""
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "first")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundles") / "second", seed=1)


def altered(
    sound: Path, folder: Path, *, tokenizer: Change | None = None, graph: Callable[[onnx.ModelProto], None] | None = None
):
    """Copy a bundle, change it, and make its manifest fit again: whoever makes a bundle writes its manifest."""
    shutil.copytree(sound, folder)
    if tokenizer is not None:
        read = json.loads((folder / "tokenizer.json").read_text())
        tokenizer(read)
        (folder / "tokenizer.json").write_text(json.dumps(read))
    if graph is not None:
        for path in folder.glob("*.onnx"):
            model = onnx.load(path)
            graph(model)
            onnx.save(model, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry |= {"size": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def split_by(pattern: str) -> Change:
    def change(read: dict) -> None:
        read["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                read["pre_tokenizer"],
            ],
        }

    return change


def lose_tokens(read: dict) -> None:
    read["post_processor"]["special_tokens"] = {}


def replace_by(pattern: str) -> Change:
    def change(read: dict) -> None:
        read["normalizer"] = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}

    return change


def behind(model: onnx.ModelProto, nodes: list, constants: list) -> None:
    """Put nodes between a graph and its output; they read `inner`."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if each == name else each for each in node.output]
        node.input[:] = ["inner" if each == name else each for each in node.input]
    model.graph.initializer.extend(constants)
    for node in nodes:
        node.output[:] = [name if each == "outer" else each for each in node.output]
    model.graph.node.extend(nodes)


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c_in"], ["c_out"]), helper.make_node("Identity", ["x_in"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, None),
        ],
    )
    constants = [
        helper.make_tensor("trips", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("on", TensorProto.BOOL, [], [True]),
    ]
    behind(model, [helper.make_node("Loop", ["trips", "on", "inner"], ["outer"], body=body)], constants)


def devour(model: onnx.ModelProto) -> None:
    constants = [
        helper.make_tensor("huge", TensorProto.INT64, [2], [1 << 17, 1 << 17]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1]),
    ]
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros", "axes"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["inner", "nothing"], ["outer"]),
    ]
    behind(model, nodes, constants)


HOSTILE = {
    "a tokenizer that raises": ({"tokenizer": lose_tokens}, "the tokenizer cannot read this"),
    "a pattern that goes back over a run of letters": ({"tokenizer": split_by(r"(\w+\s?)+$")}, "PanicError"),
    "one that goes back over marks": ({"tokenizer": split_by(r"(-|-)+x")}, "PanicError"),
    "one that goes back over words": ({"tokenizer": split_by(r"((a ?)+)+$")}, "PanicError"),
    "a normalizer that does": ({"tokenizer": replace_by("(a+)+$")}, "PanicError"),
    "a graph that never ends": ({"graph": loop}, "did not end|not ready after"),
    "a graph that eats memory": ({"graph": devour}, "bundle"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_bundle_is_refused_by_its_trial(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, reason = HOSTILE[case]
    folder = altered(sound, tmp_path / "b", **change)
    settings = Settings.of(bundle=folder, start=10)
    with pytest.raises(trial.TrialError, match=reason) as caught:
        asyncio.run(trial.try_bundle(folder, settings))
    assert "Traceback" not in str(caught.value)
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(folder) in (process.info["cmdline"] or ())]


def test_a_sound_bundle_passes_its_trial(sound: Path, first: Path) -> None:
    for folder in (sound, first):
        version = asyncio.run(trial.try_bundle(folder, Settings.of(bundle=folder)))
        assert version == file_digest(folder / "manifest.json")[:12]


def test_a_panic_of_the_tokenizer_is_an_error_like_any_other(sound: Path, tmp_path: Path) -> None:
    path, hard = altered(sound, tmp_path / "b", tokenizer=split_by(r"(\w+\s?)+$")) / "tokenizer.json", "a" * 300 + "!"
    for parallel in (True, False):
        tokenizer = TextTokenizer(path, max_tokens=64, parallel=parallel)
        for ask, given in ((tokenizer.encode, [hard]), (tokenizer.pieces, hard)):
            with pytest.raises(PanicError):
                ask(given)
    with pytest.raises(ModelError, match="cannot read this"):
        TextTokenizer(altered(sound, tmp_path / "lost", tokenizer=lose_tokens) / "tokenizer.json", max_tokens=64)
    path.write_text("{}")
    with pytest.raises(ModelError):
        TextTokenizer(path, max_tokens=64)


def test_hostile_bundles_take_nothing_from_a_running_server(sound: Path, first: Path, tmp_path: Path) -> None:
    bad = altered(sound, tmp_path / "bad", tokenizer=lose_tokens)
    with serving(first, tmp_path, "--workers", 2) as server:
        load = Load(server, bundle.load(first), users=2)
        before = {worker.pid for worker in server.workers()}
        for _ in range(2):
            refused = server.reload(bad)
            assert refused.returncode == 3
            assert "the tokenizer cannot read this" in refused.stderr
        assert {worker.pid for worker in server.workers()} == before
        load.end()
        assert set(load.seen) == {"200"}
        assert len(server.events("reload refused")) == 2
    done = subprocess.run(
        command("serve", bad, "--port", 0), env=ENVIRONMENT, text=True, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "the tokenizer cannot read this" in done.stderr
    assert "Traceback" not in done.stderr


class FakeWorker:
    """A worker's place, and a record of the orders that all of them got."""

    def __init__(self, number: int, log: list, refuses: str = "") -> None:
        self.number, self.log, self.refuses = number, log, refuses
        self.bundle, self.ready, self.serves, self.kept = Path("old"), True, "old", "old"

    async def ask(self, seconds: float, **order: object) -> dict | None:
        self.log.append((self.number, order["do"]))
        if order["do"] == self.refuses:
            return None if self.number == 9 else {"reply": "refused", "message": "no"}
        if order["do"] == "commit":
            self.serves = "new"
        if order["do"] == "revert":
            self.serves = "old"
        return {"reply": {"prepare": "prepared", "commit": "switched", "revert": "reverted"}[str(order["do"])]}

    def tell(self, **order: object) -> None:
        self.log.append((self.number, order["do"]))

    def replace(self) -> None:
        self.log.append((self.number, "replace"))


@pytest.mark.parametrize(("refuses", "number"), [("", 0), ("prepare", 2), ("commit", 2), ("commit", 9), ("prepare", 9)])
def test_workers_switch_one_after_another_and_go_back_together(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str, number: int
) -> None:
    async def passed(folder: Path, settings: Settings) -> str:
        return "v2"

    monkeypatch.setattr("refsynth.service.http.switch.try_bundle", passed)
    log: list = []
    workers = [FakeWorker(0, log), FakeWorker(1, log), FakeWorker(number, log, refuses)]
    state = ServerState(tmp_path / "state")
    switcher = Switcher(Settings.of(bundle=first), state, workers, Path("old"))
    said = asyncio.run(switcher.reload(first))
    asked = [step for step in log if step[1] in ("prepare", "commit")]
    assert asked == sorted(asked, key=lambda step: ("prepare", "commit").index(step[1]))
    assert said["ok"] is not bool(refuses)
    assert {worker.serves for worker in workers} == {"old" if refuses else "new"}
    assert (switcher.current == Path("old")) is bool(refuses)
    assert [step for step in log if step[1] == "forget"] == [(worker.number, "forget") for worker in workers]
    state.close()


# Logging


def start(bundle_folder: Path, folder: Path, stderr: int, *options: object) -> subprocess.Popen[bytes]:
    arguments = command("serve", bundle_folder, "--port", 0, "--state", folder / "state", "--workers", 2, *options)
    return subprocess.Popen(arguments, env=ENVIRONMENT, stderr=stderr, stdout=subprocess.DEVNULL)


def port_of(process: subprocess.Popen[bytes]) -> int:
    """The port on which a server listens, asked of the system: nobody reads its log here."""

    def listening() -> list[int]:
        return [each.laddr.port for each in psutil.Process(process.pid).net_connections() if each.status == psutil.CONN_LISTEN]

    assert eventually(lambda: bool(listening()), 30)
    return listening()[0]


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["blocked", "gone"])
def test_a_log_that_nobody_reads_stops_nothing(first: Path, tmp_path: Path, reader: str) -> None:
    reading, writing = os.pipe()
    process = start(first, tmp_path, writing)
    os.close(writing)
    try:
        port = port_of(process)
        assert eventually(lambda: answers(port), 40)
        if reader == "gone":
            os.close(reading)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            name = "r" * 64
            for _ in range(600):  # a pipe holds some 300 such lines
                assert client.post("/v1/predict", json={"texts": "w1"}, headers={"X-Request-ID": name}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
    if reader == "blocked":
        with os.fdopen(reading, "rb") as stream:
            assert all(json.loads(line) for line in stream.read().splitlines()[:-1])


@pytest.mark.parametrize("descriptor", ["pipe", "nonblocking", "closed"])
def test_lost_lines_are_counted_and_said_when_it_flows_again(tmp_path: Path, descriptor: str) -> None:
    script = tmp_path / "logs.py"
    script.write_text(
        "import logging, sys, time\n"
        "from refsynth.service.http import logs, outlet\n"
        "outlet.CAPACITY = 5\n"
        "logs.Outlet.__init__.__kwdefaults__['capacity'] = 5\n"
        "logs.configure()\n"
        "for number in range(3000):\n    logs.event('line ' + 'x' * 100, number=number)\n"
        "print(logs.dropped(), flush=True)\n"
        "sys.stdin.readline()\n"
        "logs.event('again')\n"
        "time.sleep(0.3)\n"
        "logs.event('again')\n"
    )
    reading, writing = os.pipe()
    os.set_blocking(writing, descriptor != "nonblocking")
    with subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing, text=True
    ) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            if descriptor == "closed":
                stream.close()
            assert process.stdin is not None
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 1000
            process.stdin.write("\n")
            process.stdin.flush()
            lines = [] if descriptor == "closed" else [json.loads(line) for line in stream]
    assert process.returncode == 0
    if lines:
        said = sum(line["lines"] for line in lines if line["event"] == "log lines dropped")
        assert said + sum(line["event"] != "log lines dropped" for line in lines) == 3002


def test_every_line_on_stderr_is_json_whatever_writes_it(tmp_path: Path) -> None:
    script = tmp_path / "noisy.py"
    script.write_text(
        "import asyncio, logging, os, sys, threading, time, warnings\n"
        "from refsynth.service.http.logs import configure\n"
        "configure(whole=True)\n"
        "warnings.warn('a warning\\nof two lines')\n"
        "logging.getLogger('uvicorn.error').error('bad %s', 'secret text')\n"
        "logging.getLogger('asyncio').error('never retrieved\\nfuture: secret text')\n"
        "os.write(2, b'thread panicked: secret text\\n')\n"
        "print('secret text', file=sys.stderr, flush=True)\n"
        "threading.Thread(target=lambda: 1 / 0).start()\n"
        "logging.getLogger('x').info('bad \\udc80', extra={'fields': {'what': object(), 'cut': '\\ud800'}})\n"
        "time.sleep(0.3)\n"
        "raise ValueError('secret text')\n"
    )
    done = subprocess.run([sys.executable, str(script)], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "secret" not in done.stderr
    assert done.returncode == 1
    said = [line["event"] for line in lines]
    assert {"never retrieved", "bad %s", "thread failed", "crashed", "a library wrote to stderr"} <= set(said)
    assert any("a warning" in event for event in said)


# Workers


def test_a_silent_worker_is_spared_only_while_the_others_serve(first: Path) -> None:
    supervisor = Supervisor(Settings.of(bundle=first, workers=2), command=(), guards={})
    one, two = Slot(0, first, ready=True), Slot(1, first, ready=True)
    supervisor._slots = [one, two]
    assert supervisor._dispensable(one)
    two.ready = False
    assert not supervisor._dispensable(one)
    assert supervisor._dispensable(two)
    supervisor._slots = [one]
    assert supervisor._dispensable(one)


def test_workers_that_all_freeze_are_replaced_one_after_another(first: Path, tmp_path: Path) -> None:
    with serving(first, tmp_path, "--workers", 2, "--hang", 1) as server:
        for worker in server.workers():
            worker.send_signal(signal.SIGSTOP)
        assert eventually(lambda: len(server.events("worker lost")) == 2, 30)
        assert eventually(lambda: len(server.events("worker ready")) == 4, 30)
        order = [
            line["event"] for line in map(json.loads, list(server.lines)) if line["event"] in ("worker lost", "worker ready")
        ]
        assert order[2:] == ["worker lost", "worker ready"] * 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_dies_while_it_starts_is_started_again(first: Path, tmp_path: Path, times: int) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "mark = Path(__file__).with_suffix('.count')\n"
        "if sys.argv[1].isdecimal():\n"
        "    seen = len(mark.read_text()) if mark.exists() else 0\n"
        "    mark.write_text('x' * (seen + 1))\n"
        f"    if seen < {times}:\n        os.kill(os.getpid(), 9)\n"
        "import runpy\n"
        "if sys.argv[1].isdecimal():\n"
        f"    runpy.run_path({meddled.__file__!r}, run_name='__main__')\n"
        "if not sys.argv[1].isdecimal():\n"
        "    import asyncio\n"
        "    from refsynth.service.http.logs import configure\n"
        "    from refsynth.service.http.settings import Settings\n"
        "    from refsynth.service.http.supervisor import Supervisor\n"
        "    configure()\n"
        "    settings = Settings.of(bundle=Path(sys.argv[1]), state=Path(sys.argv[2]), port=0)\n"
        "    asyncio.run(Supervisor(settings, command=(sys.executable, __file__), guards={}).run())\n"
    )
    with serving(first, tmp_path, script=script) as server:
        assert server.port
        assert [line["reason"] for line in server.events("worker lost")] == ["exited"] * times
        assert answers(server.port)


@pytest.mark.parametrize(
    "what",
    [
        "",
        "bundles/1/head.safetensors",
        pytest.param("control.sock", marks=pytest.mark.slow),
        pytest.param("metrics", marks=pytest.mark.slow),
    ],
)
def test_a_state_folder_that_somebody_clears_is_made_again(first: Path, tmp_path: Path, what: str) -> None:
    with serving(first, tmp_path, "--workers", 2) as server:
        load = Load(server, bundle.load(first), users=2)
        old = server.workers()
        lost = tmp_path / "state" / what
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        assert eventually(lambda: len(server.events("state folder made again")) == 1, 20)
        assert eventually(lambda: all(gone(worker) for worker in old), 30)
        assert eventually(lambda: len(server.events("worker ready")) == 4, 30)
        assert server.reload(first).returncode == 0
        load.end()
        assert set(load.seen) == {"200"}
        text = httpx.get(f"{server.url}/metrics", timeout=10).text
        assert 'refsynth_requests_total{code="200",route="/v1/predict"}' in text
        server.workers()[0].kill()
        assert eventually(lambda: len(server.events("worker ready")) == 5, 30)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_a_state_folder_that_cannot_be_made_again_is_said_and_lived_without(first: Path, tmp_path: Path) -> None:
    state = ServerState(tmp_path / "up" / "state")
    copy = state.copy(first)
    shutil.rmtree(tmp_path / "up")
    (tmp_path / "up").write_text("in the way")
    with pytest.raises(OSError, match="up"):
        state.restore()
    (tmp_path / "up").unlink()
    state.restore()
    assert file_digest(copy / "manifest.json") == file_digest(first / "manifest.json")
    assert not state.complete()  # the control socket is the supervisor's
    state.control.touch()
    assert state.complete()
    state.close()
