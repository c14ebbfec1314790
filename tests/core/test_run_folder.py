import os
import signal
import subprocess
import sys
import time

import pytest

from refsynth.core import step as declared
from refsynth.core.errors import InputError
from refsynth.core.files import read_json, read_jsonl, write_json
from refsynth.core.hashes import derive_seed, digest, folder_digest
from refsynth.core.run import RunFolder
from refsynth.core.step import StepSpec

ONE = StepSpec("one", extra=("key",))


def step(folder, make, key=1, name="one"):
    return folder.step(ONE, make, config={}, name=name, extra={"key": key})


def counting(made):
    def make(folder):
        made.append(folder)
        write_json(folder / "value.json", {"n": 1})

    return make


def test_a_step_is_made_once_for_a_key_and_again_for_another(tmp_path):
    folder, made = RunFolder(tmp_path), []
    for key in ({"a": 1}, {"a": 1}, {"a": 2}):
        done = step(folder, counting(made), key)
        assert read_json(done / "value.json") == {"n": 1}
    assert len(made) == 2


def test_a_step_that_fails_leaves_nothing_that_looks_finished(tmp_path):
    folder = RunFolder(tmp_path)

    def fail(path):
        write_json(path / "value.json", {})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        step(folder, fail)
    assert not folder.done("one")
    made = []
    step(folder, counting(made))
    assert len(made) == 1


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="Not a directory"):
        RunFolder(tmp_path / "file")


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_json(tmp_path / "folder", {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_an_interrupted_step_left_behind_is_not_taken_over(tmp_path):
    folder, seen = RunFolder(tmp_path), []

    def interrupted(path):
        (path / "half").write_text("half", "utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(folder, interrupted)
    step(folder, lambda path: seen.append(list(path.iterdir())))
    assert seen == [[]]


def test_the_hash_is_of_the_content_only(tmp_path):
    first, second = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    for folder in (first, second):
        step(folder, counting([]))
    assert first.hash_of("one") == second.hash_of("one")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock(), pytest.raises(InputError, match="another run"), RunFolder(tmp_path).lock():
        pass
    with folder.lock():
        pass


@pytest.mark.parametrize(
    "harm",
    [
        lambda step: (step / "value.json").write_text('{"n": 2}'),
        lambda step: (step / "value.json").unlink(),
        lambda step: (step / "more.json").write_text("{}"),
    ],
)
def test_a_step_that_was_changed_is_made_again(tmp_path, harm):
    made = []
    harm(step(RunFolder(tmp_path), counting(made)))
    done = step(RunFolder(tmp_path), counting(made))
    assert len(made) == 2 and [path.name for path in sorted(done.iterdir())] == ["step.json", "value.json"]
    assert read_json(done / "value.json") == {"n": 1}
    assert '"event": "damaged"' in (tmp_path / "events.jsonl").read_text()


@pytest.mark.parametrize("name", [".lock", "events.jsonl"])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, name):
    (tmp_path / "mine").write_text("mine")
    folder = RunFolder(tmp_path / "run")
    (folder.path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"), folder.lock():
        folder.log("event")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", [".one.partial", "one"])
def test_a_link_in_the_place_of_a_step_is_replaced(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    folder = RunFolder(tmp_path / "run")
    (folder.steps / name).symlink_to(tmp_path / "mine")
    step(folder, counting([]))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    assert not (folder.steps / name).is_symlink()


def test_a_run_is_for_its_user_alone_but_the_bundle_may_be_given_away(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    with folder.lock():
        step(folder, counting([]))
        (folder.path / "bundle").mkdir(mode=0o755)
        (folder.path / "bundle" / "head").write_text("")
        (folder.path / "report.html").write_text("")
    modes = {path.relative_to(folder.path).as_posix(): path.stat().st_mode & 0o777 for path in folder.path.rglob("*")}
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert modes.pop("bundle/head") & 0o044 == 0o044 and modes.pop("bundle") & 0o055 == 0o055
    assert {mode & 0o077 for mode in modes.values()} == {0} and modes["report.html"] == 0o600 and modes["steps/one"] == 0o700


def test_seeds_differ_by_purpose_and_not_by_process():
    assert derive_seed(0, "a", 1) != derive_seed(0, "a", 2) != derive_seed(1, "a", 2)
    assert derive_seed(0, "a") == int(digest([0, "a"])[:8], 16) % 2**31


def because(folder):
    return [event.get("because") for event in read_jsonl(folder.path / "events.jsonl") if event["event"] == "step"]


TRAINED = StepSpec("fit", sections=("task", "training"), inputs=("rows",), optional=("pool",), extra=("texts", "texts.more"))
CONFIG = {"task": "labels", "training": {"epochs": 3, "stop": {"patience": 1}}}
EXTRA = {"texts": "a secret", "texts.more": ["another secret"]}


def trained(folder, *, rows="rows", config=CONFIG, extra=EXTRA, using=()):
    folder.step(StepSpec("rows", extra=("n",)), lambda out: (out / "rows").write_text(rows), config={}, extra={"n": rows})
    folder.step(StepSpec("pool"), lambda out: (out / "pool").write_text(""), config={})
    folder.step(TRAINED, lambda out: None, config=config, extra=extra, using=using)
    return because(folder)[-1]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"config": {**CONFIG, "training": {"epochs": 4, "stop": {"patience": 1}}}}, ["training.epochs"]),
        ({"config": {**CONFIG, "training": {"epochs": 3.0, "stop": {"patience": 1}}}}, ["training.epochs"]),
        ({"config": {"task": "pairs", "training": {"epochs": 3, "stop": {"patience": 2}}}}, ["task", "training.stop.patience"]),
        ({"config": {**CONFIG, "training": None}}, ["training"]),
        ({"config": {**CONFIG, "training": {"epochs": 3, "stop": {}}}}, ["training.stop"]),
        ({"extra": {**EXTRA, "texts.more": ["third secret"]}}, ["extra.texts.more"]),
        ({"extra": {"texts": "b", "texts.more": "b"}}, ["extra.texts", "extra.texts.more"]),
        ({"rows": "other rows"}, ["inputs.rows"]),
        ({"using": ("pool",)}, ["inputs.pool"]),
    ],
)
def test_a_step_that_is_made_again_says_what_changed(tmp_path, change, names):
    folder = RunFolder(tmp_path)
    assert trained(folder) is None  # the first time there is nothing to compare with
    assert trained(folder, **change) == names
    assert trained(folder) == names  # and back


def test_other_code_is_named_and_so_is_a_damaged_or_unknown_step(tmp_path, monkeypatch):
    folder, made = RunFolder(tmp_path), []
    done = step(folder, counting(made))
    monkeypatch.setattr(declared, "code_of", lambda *modules, excluded: "other code")
    step(folder, counting(made))
    step(folder, counting(made), key=2)
    (done / "value.json").write_text("{}")
    folder = RunFolder(tmp_path)
    step(folder, counting(made), key=2)
    for record in ("{", "[]", '{"key": "of an earlier version", "hash": ""}', '{"key": "", "hash": "", "parts": 1}'):
        (done / "step.json").write_text(record)
        step(folder, counting(made), key=2)
    assert because(folder) == [None, ["code"], ["extra.key"], ["damaged"], *[["unknown"]] * 4]
    assert len(made) == 8


def test_neither_step_json_nor_the_events_hold_texts(tmp_path):
    folder = RunFolder(tmp_path)
    for config in (CONFIG, {"task": "a secret task", "training": {"epochs": 4, "stop": ["secret"]}}):
        trained(folder, config=config, extra={"texts": f"secret {config}", "texts.more": {"secret": 1}})
    written = (folder.steps / "fit" / "step.json").read_text() + (folder.path / "events.jsonl").read_text()
    assert "secret" not in written
    parts = read_json(folder.steps / "fit" / "step.json")["parts"]
    assert parts["training.epochs"] == 4 and parts["inputs.rows"] == folder.hash_of("rows")


SCRIPT = """
import sys, time
from pathlib import Path
from refsynth.core.files import write_json
from refsynth.core.run import RunFolder
from refsynth.core.step import StepSpec
def make(path):
    for i in range(40):
        write_json(path / f"{i}.json", {"i": i})
        time.sleep(0.005)
for name in "abc":
    RunFolder(Path(sys.argv[1])).step(StepSpec(name), make, config={})
"""


def test_a_killed_run_ends_with_the_hashes_of_one_that_was_not(tmp_path):
    def start(where):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(where)])

    assert start(tmp_path / "whole").wait() == 0
    for delay in (0.2, 0.35, 0.5, 0.65):
        process = start(tmp_path / "killed")
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert folder_digest(tmp_path / "whole" / "steps") == folder_digest(tmp_path / "killed" / "steps")


def test_steps_of_another_run_are_taken_over_and_checked(tmp_path):
    other, mine = RunFolder(tmp_path / "other"), RunFolder(tmp_path / "mine")
    made = []

    def write(text):
        def make(out):
            made.append(text)
            (out / "file").write_text(text)

        return make

    step(other, write("a1"), {"x": 1}, "a")
    step(other, write("b1"), {"x": 1}, "b")
    step(mine, write("b2"), {"x": 2}, "b")
    mine.adopt(other)
    assert (step(mine, write("again"), {"x": 1}, "a") / "file").read_text() == "a1"
    assert (step(mine, write("again"), {"x": 2}, "b") / "file").read_text() == "b2"
    assert (step(mine, write("a3"), {"x": 3}, "a") / "file").read_text() == "a3"  # what is not what was asked for is made
    assert made == ["a1", "b1", "b2", "a3"]
    assert mine.hash_of("b") != other.hash_of("b")
