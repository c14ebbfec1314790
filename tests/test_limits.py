"""Quotas: a token bucket, the same for all workers, that a dead or stopped worker cannot hold."""

import multiprocessing
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.errors import InputError
from refsynth.service.http.limits import Quota, SharedLimiter

spawn = multiprocessing.get_context("spawn")


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


class Bucket:
    """The textbook's bucket: tokens that drip in."""

    def __init__(self, quota, now):
        self.quota, self.tokens, self.last = quota, quota.burst, now

    def take(self, now, cost):
        self.tokens = min(self.quota.burst, self.tokens + (now - self.last) * self.quota.rate)
        self.last = now
        if self.tokens + 1e-6 < min(cost, self.quota.burst):
            return False
        self.tokens -= cost
        return True


@given(
    st.floats(0.1, 1000),
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 120)), max_size=60),
)
def test_it_is_a_token_bucket(tmp_path_factory, rate, burst, calls):
    clock, quota = Clock(), Quota(rate, float(burst))
    path = tmp_path_factory.mktemp("quota") / "quotas"
    limiter, bucket = SharedLimiter(path, clock=clock), Bucket(quota, clock.now)
    for pause, cost in calls:
        clock.now += pause / rate
        wait = limiter.take("a", quota, cost)
        if wait > 1e-6 / rate or wait == 0:  # at the very edge, rounding decides
            assert (wait == 0) == bucket.take(clock.now, cost)
        else:
            return
        if wait:
            clock.now += wait * (1 + 1e-9)
            bucket.take(clock.now, 0)
            assert limiter.take("a", quota, cost) <= 1e-5 / rate
            return
    limiter.close()


def test_keys_do_not_share(tmp_path):
    clock = Clock()
    limiter, quota = SharedLimiter(tmp_path / "quotas", clock=clock), Quota(2, 3)
    assert [limiter.take("a", quota) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    assert limiter.take("b", quota) == 0
    clock.now += 0.5
    assert limiter.take("a", quota) == 0


def test_what_was_taken_is_still_taken_after_a_restart(tmp_path):
    clock = Clock()
    for expected in (0, 0, pytest.approx(1)):
        limiter = SharedLimiter(tmp_path / "quotas", clock=clock)
        assert limiter.take("a", Quota(1, 2)) == expected
        limiter.close()


def test_after_a_start_of_the_machine_all_buckets_are_full(tmp_path, monkeypatch):
    path, quota = tmp_path / "quotas", Quota(1, 1)
    limiter = SharedLimiter(path, clock=lambda: 10.0**9)
    assert [limiter.take("a", quota), limiter.take("a", quota)] == [0, pytest.approx(1)]
    limiter.close()
    monkeypatch.setattr("refsynth.service.http.limits._boot", lambda: b"x" * 36)
    assert SharedLimiter(path, clock=lambda: 5.0).take("a", quota) == 0


def test_other_files_are_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(InputError, match="not a file of quotas"):
        SharedLimiter(path)
    assert path.read_text() == "my notes"
    with pytest.raises(InputError, match="cannot be opened"):
        SharedLimiter(tmp_path)


def test_a_full_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("refsynth.service.http.limits._SLOTS", 8)
    limiter = SharedLimiter(tmp_path / "quotas")
    for number in range(8):
        assert limiter.take(str(number), Quota(1, 1)) == 0
    with pytest.raises(InputError, match="full"):
        limiter.take("one more", Quota(1, 1))


def _work(path, quota, seconds, start, results):
    limiter = SharedLimiter(path)
    start.wait()
    end, taken = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        taken += limiter.take("a", quota) == 0
    results.put(taken)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_rate_holds_over_all_workers(tmp_path, workers):
    quota, seconds = Quota(400, 20), 1.5
    start, results = spawn.Barrier(workers + 1), spawn.Queue()
    children = [
        spawn.Process(target=_work, args=(tmp_path / "quotas", quota, seconds, start, results), daemon=True)
        for _ in range(workers)
    ]
    for child in children:
        child.start()
    start.wait(60)
    began = time.monotonic()
    taken = sum(results.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    # From below, the time that they surely had; from above, all the time that passed.
    assert quota.burst + 0.98 * quota.rate * seconds <= taken <= quota.burst + 1.02 * quota.rate * (time.monotonic() - began)


def _hold(path, held):
    limiter = SharedLimiter(path)
    limiter.take("a", Quota(1, 1))
    with limiter._held(0, 1 << 20):
        held.set()
        time.sleep(600)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_stopped_holder_stops_nobody(tmp_path, number):
    held = spawn.Event()
    child = spawn.Process(target=_hold, args=(tmp_path / "quotas", held), daemon=True)
    limiter = SharedLimiter(tmp_path / "quotas")
    child.start()
    assert held.wait(60)
    os.kill(child.pid, number)
    if number == signal.SIGKILL:
        child.join()
    started = time.monotonic()
    waits = [limiter.take("a", Quota(1, 1)), limiter.take("b", Quota(1, 1))]
    passed = time.monotonic() - started
    os.kill(child.pid, signal.SIGKILL) if number == signal.SIGSTOP else None
    child.join()
    assert waits[0] > 0
    assert waits[1] == 0
    assert passed < 1
