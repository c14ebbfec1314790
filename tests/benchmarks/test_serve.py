"""The bench of the server: its texts and counts, and its parts on a tiny bundle and tiny sizes."""

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import Options, measured
from benchmarks.serve import fuzz, hoard, identity, kills, overload, privacy, siege, soak, stripped, suite, tricks
from benchmarks.serve.load import BROKEN, NO_REPLY, REFUSED, Reply, Tally, closed, connected, open_loop
from benchmarks.serve.plan import QUICK, Bound, Job
from benchmarks.serve.subject import exact_bundle, exact_text, short_text, ticket_text
from benchmarks.serve.target import end, started
from refsynth import bundle
from refsynth.core.errors import InputError
from tests.support.serving import gone, save_encoder

TINY = replace(
    QUICK,
    name="tiny",
    seconds=0.3,
    requests=60,
    poisoned=5,
    cancelled=8,
    overload=0.5,
    bursts=1,
    burst=40,
    hoard=1.5,
    faults=1,
    drains=1,
    reloads=3,
    soak=1.0,
    nasty=12,
    keys=10,
    planted=35,
    canaries=40,
)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=50, unique=True))
def test_numbers_give_texts_of_their_own(numbers):
    for text in (short_text, ticket_text, exact_text):
        assert len({text(number) for number in numbers}) == len(numbers)


def test_an_exact_bundle_tells_its_texts_apart(tmp_path):
    model = bundle.load(exact_bundle(tmp_path / "bundle"), threads=1)
    said = sorted(tuple(one.probabilities.values()) for one in model.predict([exact_text(number) for number in range(300)]))
    assert min(max(map(abs, map(float.__sub__, a, b))) for a, b in pairwise(said)) > identity.CLOSE


def test_a_tally_counts_what_came_and_what_did_not():
    tally = Tally()
    for reply in (
        Reply(200, 0.1),
        Reply(200, 0.3),
        Reply(503, 0.01, retry_after="1"),
        Reply(429, 0.01),
        Reply(0, 9.0, failure=BROKEN),
    ):
        tally(reply)
    assert (tally.total, tally.seen["200"], tally.of_class("5"), tally.silent) == (5, 2, 1, 1)
    assert tally.milliseconds("200", 0.5) == pytest.approx(200)
    assert tally.milliseconds("404", 0.5) != tally.milliseconds("404", 0.5)


def test_clients_that_wait_send_each_number_once():
    sent, under_way, most = [], 0, 0

    async def ask(number):
        nonlocal under_way, most
        sent.append(number)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return Reply(200, 0.01)

    asyncio.run(closed(ask, Tally(), clients=4, requests=10, first=5))
    assert sorted(sent) == list(range(5, 15))
    assert most == 4


def test_an_open_loop_sends_each_number_once_and_waits_for_no_reply():
    sent, tally = [], Tally()

    async def run():
        all_sent = asyncio.Event()

        async def ask(number):
            sent.append(number)
            if len(sent) == 50:
                all_sent.set()
            await asyncio.wait_for(all_sent.wait(), 60)  # nobody is answered before the last has asked
            return Reply(200, 0.05)

        await open_loop(ask, tally, rate=1000, seconds=0.05)

    asyncio.run(run())
    assert sorted(sent) == list(range(50))
    assert tally.seen == {"200": 50}


def test_failures_have_names():
    async def ask(port, seconds):
        async with connected(f"http://127.0.0.1:{port}") as server:
            return (await server.post("/", {}, seconds=seconds)).failure

    with socket.create_server(("127.0.0.1", 0)) as listener:  # nobody accepts: the kernel does, and nothing comes
        assert asyncio.run(ask(listener.getsockname()[1], 0.2)) == NO_REPLY
        port = listener.getsockname()[1]
    assert asyncio.run(ask(port, 5)) == REFUSED


@pytest.mark.parametrize(
    ("bound", "values", "value", "ok"),
    [
        (Bound("a", "lost", limit=0), (0, 0, 1), 1, False),
        (Bound("a", "lost", limit=0), (0, 0), 0, True),
        (Bound("a", "lost", floor=0.9), (0.95, 0.8), 0.8, False),
        (Bound("a", "lost", floor=1.8, aim=3, typical=True), (1.5, 1.9, 2.5), 1.9, True),
    ],
)
def test_a_bound_is_held_by_the_worst_or_by_the_median(bound, values, value, ok):
    cells = [{"part": "a", "lost": one} for one in values] + [{"part": "a", "other": 7}, {"part": "b", "lost": 99}]
    found = bound.check(cells)
    assert (found["value"], found["ok"], found["n"]) == (value, ok, len(values))
    assert found["low"] <= found["value"] <= found["high"]


def test_a_bound_without_cells_does_not_hold():
    assert not Bound("a", "lost", limit=0).check([])["ok"]


def test_unknown_parts_are_named_and_known_ones_keep_their_order():
    assert Options(only=("soak", "peers")).parts(suite.PARTS) == ("peers", "soak")
    with pytest.raises(InputError, match="overlod"):
        Options(only=("overlod",)).parts(suite.PARTS)


def test_a_finished_part_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(identity, "measure", lambda job: (calls.append(1), job.add({"name": "numbered", "crossed": len(calls)})))
    monkeypatch.setattr(suite, "time", SimpleNamespace(time=lambda: len(calls)))
    for again in (False, False, True):
        found = measured(suite, "serve", Options(results=tmp_path, only=("identity",), again=again, bundle=tmp_path))
    assert len(calls) == 2
    checks = {one["name"]: one for one in found["checks"]}
    assert checks["identity: crossed"]["value"] == 2  # of the last run
    assert len((tmp_path / "serve.jsonl").read_text().splitlines()) == 2


def test_what_was_started_is_ended_with_its_children(tmp_path):
    script = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); time.sleep(99)"
    )
    with started([sys.executable, "-c", script], tmp_path / "log") as process:
        while not (children := psutil.Process(process.pid).children()):
            pass
    assert process.returncode is not None
    psutil.wait_procs(children, timeout=10)
    assert all(gone(child) for child in children)
    end(process)  # once more does no harm


def test_nasty_bodies_repeat_themselves():
    assert [fuzz.nasty_bodies(n) for n in range(30)] == [fuzz.nasty_bodies(n) for n in range(30)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [identity, overload, hoard, siege, kills, soak, privacy], ids=lambda part: part.__name__.rpartition(".")[2]
)
def test_a_part_measures_all_that_its_bounds_are_about(part, tmp_path, monkeypatch):
    # A capacity that was measured for a blink is a guess: at a tenth of it a stall of the machine fills no queue.
    monkeypatch.setattr(soak, "SHARE", 0.1)
    cells = []
    made = (save_encoder if part is siege else exact_bundle)(tmp_path / "bundle")  # it spoils a tokenizer
    job = Job(made, tmp_path / "work", TINY, cells.append, lambda line: None)
    part.measure(job)
    name = part.__name__.rpartition(".")[2]
    checks = [bound.check([{"part": name, **cell} for cell in cells]) for bound in part.BOUNDS]
    assert json.dumps(cells)
    # Speeds and refusals depend on the machine; what has to be nought does not.
    soft = ("goodput", "p99", "memory", "until")
    assert [one for one in checks if not one["ok"] and not any(word in one["name"] for word in soft)] == []


def test_a_trick_is_compared_round_by_round_and_nought_has_no_ratio():
    whole = [{"lost": 0, "speed": 10.0}, {"lost": 0, "speed": 40.0}, {"lost": 0, "speed": 20.0}]
    without = [{"lost": 2, "speed": 5.0}, {"lost": 0, "speed": 40.0}, {"lost": 3, "speed": 30.0}]
    lost, speed = tricks.compared(whole, without)
    assert lost == {"figure": "lost", "with": 0.0, "without": 2.0, "pairs": 3}
    assert (speed["ratio"], speed["lowest"], speed["highest"]) == (1.0, 0.5, 1.5)


def test_every_side_of_a_round_is_run_and_the_first_changes(tmp_path):
    ran, cells = [], []
    scenario = tricks.Scenario(lambda job, trick, folder: ran.append(trick) or {"n": 1.0}, ("a", "b"))
    tricks.measure_one(Job(tmp_path, tmp_path, TINY, cells.append, lambda line: None), "one", scenario, rounds=3)
    assert ran == ["none", "a", "b", "a", "b", "none", "b", "none", "a"]
    assert [cell["name"] for cell in cells[-2:]] == ["one: a", "one: b"]


@pytest.mark.slow
@pytest.mark.parametrize("trick", sorted({trick for scenario in tricks.SCENARIOS.values() for trick in scenario.tricks}))
def test_what_a_scenario_leaves_out_is_there(trick):
    script = "import sys; from benchmarks.serve.stripped import leave_out; leave_out(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, trick], check=True)


def test_an_unknown_trick_is_refused():
    with pytest.raises(KeyError):
        stripped.leave_out("no such trick")


def test_tricks_are_measured_only_where_they_are_named():
    assert "tricks" not in [work.key["part"] for work in suite.cells(Options())]
    assert [work.key["part"] for work in suite.cells(Options(only=("tricks",)))] == ["tricks"]
