"""How long work will take: rough words, from what was measured, and right as it goes on."""

import json

import pytest

from refsynth.cli import screen
from refsynth.core.duration import Pace, about
from refsynth.core.forecast import gate_forecast, run_forecast
from refsynth.core.run import RunFolder


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "about 10 seconds"),
        (38, "about 40 seconds"),
        (54, "about 50 seconds"),
        (56, "about 1 minute"),
        (171, "about 3 minutes"),
        (29 * 60, "about 30 minutes"),
        (2.5 * 3600, "about 2.5 hours"),
    ],
)
def test_a_rough_time(seconds, words):
    assert about(seconds) == words


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([(40, 1), (80, 2), (120, 3)], ["about 2 minutes left", "about 1 minute left", "about 40 seconds left"]),
        ([(0, 2), (45, 3)], ["", "about 40 seconds left"]),  # the first two were there already
        ([(10, 1), (110, 2)], ["about 30 seconds left", "about 3 minutes left"]),  # it became slower
        ([(1, 1), (2, 2)], ["", ""]),  # short
        ([(40, 4)], [""]),  # done
        ([(40, 0), (50, 0)], ["", ""]),  # nothing was timed: no number
    ],
)
def test_the_rest_is_told_from_the_last_units(calls, said):
    now = [0.0]
    pace = Pace(4, clock=lambda: now[0])
    found = []
    for seconds, done in calls:
        now[0] = seconds
        found.append(pace.left(done))
    assert found == said


def test_lines_of_progress_say_it(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(screen, "Pace", lambda total: Pace(total, clock=lambda: now[0]))
    with screen.ticker("gate", 4) as show:
        for done in (1, 2):
            now[0] += 60
            show(done)
    assert capsys.readouterr().err == "   gate: 1 of 4, about 3 minutes left\n   gate: 2 of 4, about 2 minutes left\n"


STEPS = [("rows", 1.0), ("drafts", 91.0), ("judge", 41.0), ("gate-0-0", 43.0)]


@pytest.mark.parametrize(
    ("steps", "run", "gate"),
    [
        (
            STEPS,
            "the steps here took about 3 minutes when they were last made",
            "about 5 minutes or more for the gate, which fits 4 times",
        ),
        ([*STEPS, ("judge", 410.0)], "about 9 minutes", "about 55 minutes or more for the gate, which fits 4 times"),
        ([("rows", 1.0), ("judge", 0.7)], "", ""),  # short
        ([("drafts", 91.0)], "about 2 minutes", ""),  # no fit was measured: no number
        ([], "", ""),
    ],
)
def test_what_comes_is_told_from_what_was_measured(tmp_path, steps, run, gate):
    folder = RunFolder(tmp_path / "run")
    for name, seconds in steps:
        folder.log("step", name=name, seconds=seconds)
    folder.log("damaged", name="fit")
    for found, part in ((run_forecast(folder), run), (gate_forecast(folder, 4, models=2), gate)):
        assert part in found and bool(found) is bool(part)
    assert all(json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines())
