"""API keys: who gets in, what is on disk, how soon a revocation counts."""

import json
import os
import stat
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.errors import AccessError, InputError
from refsynth.service.http.auth import SCOPES, FileKeyChecker, Keyring


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "keys.json"


def refusal(checker, presented):
    with pytest.raises(AccessError) as caught:
        checker.identify(presented)
    return caught.value.reason, caught.value.status


def test_a_key_is_known_with_its_scopes_and_quota(path):
    presented, key = Keyring(path).add("context", scopes=["explain", "predict"], rate=5, burst=10)
    checker = FileKeyChecker(path)
    assert checker.identify(presented) == key
    assert (key.scopes, key.rate, key.burst) == (("predict", "explain"), 5, 10)


def test_every_other_key_is_unknown(path):
    presented, key = Keyring(path).add("context", scopes=SCOPES)
    checker = FileKeyChecker(path)
    assert refusal(checker, None) == ("missing", 401)
    assert refusal(checker, "") == ("missing", 401)
    wrong_secret = presented[:-1] + ("0" if presented[-1] != "0" else "1")
    wrong_id = f"rsk_{'0' * 12}_{presented[-48:]}"
    for wrong in (
        wrong_secret,
        wrong_id,
        presented + "0",
        presented.upper(),
        f" {presented}",
        key.hash,
        key.id,
        "é" * 64,
        "x" * 10**6,
    ):
        assert refusal(checker, wrong) == ("unknown", 401)


@given(st.text() | st.from_regex(r"rsk_[0-9a-f]{12}_[0-9a-f]{48}", fullmatch=True))
def test_no_made_up_key_gets_in(tmp_path_factory, presented):
    path = tmp_path_factory.getbasetemp() / "made-up" / "keys.json"
    if not path.exists():
        Keyring(path).add("context", scopes=SCOPES)
    with pytest.raises(AccessError) as caught:
        FileKeyChecker(path).identify(presented)
    assert caught.value.status == 401


def test_a_key_ends_at_its_expiry(path):
    clock = Clock()
    presented = Keyring(path, clock=clock).add("context", scopes=["predict"], seconds=60).presented
    checker = FileKeyChecker(path, clock=clock)
    clock.now += 59.9
    checker.identify(presented)
    clock.now += 0.1
    assert refusal(checker, presented) == ("expired", 401)


def test_a_revocation_counts_at_once_and_for_good(path):
    ring = Keyring(path)
    first, second = ring.add("context", scopes=["predict"]), ring.add("app", scopes=["predict"])
    checker = FileKeyChecker(path)
    checker.identify(first.presented)
    assert ring.revoke("context").revoked
    assert refusal(checker, first.presented) == ("revoked", 401)
    checker.identify(second.presented)
    with pytest.raises(InputError, match="no active key"):
        ring.revoke(first.key.id)


def test_a_change_that_the_file_system_does_not_show_is_seen_within_a_second(path):
    ring = Keyring(path)
    presented = ring.add("context", scopes=["predict"]).presented
    checker = FileKeyChecker(path)
    before = path.stat()
    text = path.read_text().replace('"revoked":null', '"revoked":1.00').replace('"revoked": null', '"revoked": 1.00')
    assert len(text) == before.st_size
    with path.open("r+") as stream:  # in place, and with the old times
        stream.write(text)
        stream.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(0.6)
    assert refusal(checker, presented) == ("revoked", 401)


def test_another_process_sees_a_revocation_within_a_second(path):
    ring = Keyring(path)
    presented = ring.add("context", scopes=["predict"]).presented
    code = (
        "import sys, time; from pathlib import Path\n"
        "from refsynth.core.errors import AccessError; from refsynth.service.http.auth import KeyChecker\n"
        "checker = KeyChecker(Path(sys.argv[1])); key = sys.stdin.readline().strip()\n"
        "checker.identify(key); print('in', flush=True); deadline = time.time() + 30\n"
        "while time.time() < deadline:\n"
        "    try: checker.identify(key)\n"
        "    except AccessError as error: print(error.reason, time.time(), flush=True); break\n"
        "    time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stdout=-1, text=True) as child:
        child.stdin.write(presented + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "in\n"
        ring.revoke("context")
        revoked = time.time()
        reason, seen = child.stdout.readline().split()
        child.stdin.close()
    assert reason == "revoked"
    assert float(seen) - revoked < 1


def test_nothing_on_disk_is_a_key_and_nobody_else_can_read_it(path):
    presented, key = Keyring(path).add("context", scopes=["predict"])
    files = [each for each in path.parent.iterdir() if each.is_file()]
    assert {"keys.json", "keys.secret"} <= {each.name for each in files}
    for each in files:
        assert presented.rsplit("_", 1)[1].encode() not in each.read_bytes()
    assert {stat.S_IMODE(path.with_suffix(suffix).stat().st_mode) for suffix in (".json", ".secret")} == {0o600}
    assert presented not in repr(key)
    assert key.hash not in repr(key)


def test_the_hash_depends_on_the_secret(path):
    presented = Keyring(path).add("context", scopes=["predict"]).presented
    path.with_suffix(".secret").write_bytes(bytes(32))
    assert refusal(FileKeyChecker(path), presented) == ("unknown", 401)


def test_a_secret_that_others_can_read_is_refused(path):
    Keyring(path).add("context", scopes=["predict"])
    path.with_suffix(".secret").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        FileKeyChecker(path)
    path.with_suffix(".secret").chmod(0o440)  # as containers mount secrets
    FileKeyChecker(path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [{}]}', b"\xff"])
def test_nobody_gets_in_with_a_damaged_file(path, damage):
    presented = Keyring(path).add("context", scopes=["predict"]).presented
    checker = FileKeyChecker(path)
    good = path.read_bytes()
    path.write_bytes(damage)
    assert refusal(checker, presented) == ("unavailable", 503)
    with pytest.raises(InputError, match="not a file of keys"):
        FileKeyChecker(path)
    path.write_bytes(good)
    checker.identify(presented)
    path.unlink()
    assert refusal(checker, presented) == ("unavailable", 503)


def test_what_is_asked_for_must_make_sense(path):
    ring = Keyring(path)
    with pytest.raises(InputError, match="did you mean 'predict'"):
        ring.add("context", scopes=["predct"])
    for wrong in ({"scopes": []}, {"scopes": ["predict"], "seconds": 0}, {"scopes": ["predict"], "rate": float("nan")}):
        with pytest.raises(InputError, match="needs a name"):
            ring.add("context", **wrong)
    with pytest.raises(InputError, match="no such file of keys"):
        FileKeyChecker(path)
    ring.add("context", scopes=["predict"])
    ring.add("context", scopes=["predict"])
    with pytest.raises(InputError, match="2 active keys"):
        ring.revoke("context")


def test_keys_added_at_the_same_time_are_all_there(path):
    threads = [threading.Thread(target=Keyring(path).add, args=(f"k{n}",), kwargs={"scopes": ["predict"]}) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Keyring(path).keys()) == len(json.loads(path.read_text())["keys"]) == 16
