"""Label or synthesise: curves with a known law are found again, and a command tells what comes of a run's own."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from refsynth.cli.app import app
from refsynth.core.errors import InputError
from refsynth.core.observe import Silent
from refsynth.core.types import Metric
from refsynth.labels import curves as stage
from refsynth.labels.worth import LearningCurve, fit_powers, verdict, worth
from refsynth.models.store import ModelStore
from refsynth.pipeline.flow import run, synthesize, writers_of
from refsynth.pipeline.reopen import reopened
from refsynth.synthesis.rounds import screened
from tests.support.runs import make_task, write_rows

SIZES = np.array([20.0, 40.0, 80.0, 160.0, 320.0])


@given(st.floats(0, 0.3), st.floats(0.1, 1.5), st.integers(1, 20))
def test_a_power_law_is_found_again(a, b, tenths):
    """The curve that made the errors, at any size, to within what a grid of exponents leaves."""
    c = tenths / 10
    found = fit_powers(SIZES, (a + b * SIZES**-c)[None], falls=True)
    for n in (320.0, 1000.0, 5000.0):
        assert found.at(n)[0] == pytest.approx(a + b * n**-c, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(1, 1e4))
def test_more_labels_never_hurt_and_no_error_is_negative(errors, more):
    found = fit_powers(SIZES, np.array([errors]), falls=True)
    assert found.at(320 + more)[0] <= found.at(320)[0] + 1e-9
    assert found.at(320 + more)[0] >= 0


def test_drafts_may_hurt():
    found = fit_powers(SIZES, (0.4 - 0.5 * SIZES**-0.5)[None], falls=False)
    assert found.at(1000)[0] > found.at(320)[0]


def drawn(law, rows, models, seed):
    rng = np.random.default_rng(seed)
    return LearningCurve(SIZES, (rng.random((len(SIZES), models, rows)) > law(SIZES)[:, None, None]).astype(float))


def test_intervals_hold_the_true_gain():
    """Errors drawn from a known law: 95% intervals hold its gain in all but a few of 40 samples."""
    law = lambda n: 0.05 + 2.0 * n**-0.5  # noqa: E731
    true = law(320) - law(640)
    gains = [worth("gain", drawn(law, 200, 4, seed), now=320, more=320, falls=True, seed=seed) for seed in range(40)]
    assert sum(gain.low <= true <= gain.high for gain in gains) >= 34
    assert all(gain.n == 200 and gain.low <= gain.value <= gain.high for gain in gains)


def test_a_curve_on_which_no_row_differs_is_not_certain():
    """All right at every size, or all wrong: no draw differs, and still ten rows are few."""
    for score in (0.0, 1.0):
        scores = np.full((len(SIZES), 4, 10), score)
        labels = worth("labels", LearningCurve(SIZES, scores), now=320, more=320, falls=True, seed=0)
        assert (labels.value, labels.low, labels.high) == pytest.approx((0, 0, 1.96 / 12), abs=1e-3)
        drafts = worth("drafts", LearningCurve(SIZES, scores), now=320, more=320, falls=False, seed=0)
        assert (drafts.low, drafts.high) == pytest.approx((-1.96 / 12, 1.96 / 12), abs=1e-3)
        twice = worth("labels", LearningCurve(SIZES, scores), now=320, more=320, falls=True, seed=0, groups=np.arange(10) // 2)
        assert twice.high == pytest.approx(1.96 / 7, abs=1e-3)


def test_copies_of_rows_do_not_make_a_curve_surer():
    curve = drawn(lambda n: 2.0 * n**-0.5, 30, 4, 0)
    alone = worth("gain", curve, now=320, more=320, falls=True, seed=0)
    copied = LearningCurve(SIZES, np.repeat(curve.scores, 3, axis=2))
    grouped = worth("gain", copied, now=320, more=320, falls=True, seed=0, groups=np.repeat(np.arange(30), 3))
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_many_rows_tell_and_few_cannot():
    steep, flat = lambda n: 3.0 * n**-0.5, lambda n: 0.2 + 0 * n
    for rows, expected in ((4000, "labels"), (12, "cannot tell")):
        labels = worth("labels", drawn(steep, rows, 4, 0), now=320, more=320, falls=True, seed=0)
        drafts = worth("drafts", drawn(flat, rows, 4, 1), now=320, more=320, falls=False, seed=0)
        assert verdict(labels, drafts) == expected
        assert verdict(drafts, labels) == {"labels": "drafts"}.get(expected, expected)


def test_overlapping_intervals_cannot_tell():
    assert verdict(Metric("a", 0.05, 0.02, 0.08, 9), Metric("b", 0.01, 0.0, 0.02, 9)) == "cannot tell"
    assert verdict(Metric("a", 0.05, 0.021, 0.08, 9), Metric("b", 0.01, 0.0, 0.02, 9)) == "labels"


def test_two_sizes_are_no_curve():
    with pytest.raises(InputError, match="a curve of 2 sizes"):
        worth("gain", LearningCurve(SIZES[:2], np.ones((2, 1, 5))), now=40, more=20, falls=True, seed=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_cache):
    where = tmp_path_factory.mktemp("worth")
    task = make_task(where / "data", synthesis={"drafts": 120, "per_prompt": 4}, learners=["tfidf"])
    write_rows(where / "data" / "train.jsonl", 14, 1)
    run(task, where / "out", store=ModelStore(tiny_cache))
    return where / "out"


@pytest.mark.slow
def test_nothing_is_fitted_to_what_it_is_asked_about(finished, tiny_cache, monkeypatch):
    seen = []

    def watched(learner, train, dev, *, seed):
        seen.append({row.id for row in train})
        drafts = [row for row in train if row.provenance is not None]
        assert not any(row.provenance.seen & held_now[0] for row in drafts)
        assert not seen[-1] & held_now[0]
        return plain(learner, train, dev, seed=seed)

    held_now = [frozenset()]
    plain, folds = stage.FrozenLearner.fit, stage._Bench._folds

    def told(bench):
        for fold in folds(bench):
            held_now[0] = frozenset(row.id for row in fold.held)
            yield fold

    monkeypatch.setattr(stage.FrozenLearner, "fit", watched)
    monkeypatch.setattr(stage._Bench, "_folds", told)
    with reopened(finished, (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        writers = writers_of(begun)
        written, _ = synthesize(job, writers)
        drafts = screened(job, writers, written)
        found = stage.answer(job, drafts, asked=written.asked, labels=20, more=100)
        again = stage.answer(job, drafts, asked=written.asked, labels=20, more=100)
    assert found == again
    assert found.now == {"labels": 28, "drafts": written.asked}
    sizes = list(found.errors["labels"])
    assert sizes == sorted(sizes) and len(sizes) == len(stage.SHARES) and sizes[-1] <= 28
    assert max(found.errors["drafts"]) <= written.asked
    assert any(name.startswith("draft") for rows in seen for name in rows)
    assert found.labels.value >= 0


def test_the_command_says_it_in_words_and_as_json(finished, tiny_cache, monkeypatch):
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    told = CliRunner().invoke(app, ["label", "worth", str(finished), "--labels", "30", "--drafts", "500"])
    assert told.exit_code == 0, told.output
    assert "500 drafts" in told.output or "cannot tell" in told.output
    assert "120 models to fit: less than a minute" in told.output and "learning curves: 120 of 120" in told.output
    record = json.loads(CliRunner().invoke(app, ["label", "worth", str(finished), "--json"]).stdout)
    assert record["verdict"] in ("labels", "drafts", "cannot tell")
    assert record["labels"]["low"] <= record["labels"]["value"] <= record["labels"]["high"]
    assert record["now"]["labels"] == 28


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "less than a minute"), (60, "less than a minute"), (61, "about 1 minute"), (3599, "about 60 minutes")],
)
def test_how_long_it_takes_is_said_in_minutes(seconds, said):
    assert stage.roughly(seconds) == said


@pytest.mark.slow
def test_a_run_without_drafts_or_with_few_rows_has_no_curves(finished, tiny_cache, tmp_path):
    with reopened(finished, (), Silent(), store=ModelStore(tiny_cache)) as begun:
        job = begun.job
        with pytest.raises(InputError, match="drafts"):
            stage.answer(job, [], asked=0, labels=20, more=100)
        few = make_task(tmp_path / "data")
    result = run(few, tmp_path / "out", store=ModelStore(tiny_cache)).evidence
    with (
        reopened(tmp_path / "out", (), Silent(), store=ModelStore(tiny_cache)) as few_begun,
        pytest.raises(InputError, match="12 labeled"),
    ):
        stage.answer(few_begun.job, result.learned.screened, asked=200, labels=20, more=100)


def test_an_unfinished_run_is_refused(tmp_path):
    told = CliRunner().invoke(app, ["label", "worth", str(tmp_path)])
    assert isinstance(told.exception, InputError) or told.exit_code == 2
