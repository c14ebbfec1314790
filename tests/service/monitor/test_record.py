"""The record, on SQLite and on a real PostgreSQL: nothing acknowledged is lost or doubled, no text is kept that should not be."""

import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refsynth.core.errors import InputError, RecordError
from refsynth.core.sections import Columns
from refsynth.data.io import read_examples
from refsynth.service.http.redact import Redactor
from refsynth.service.monitor import migrate
from refsynth.service.monitor.export import export
from refsynth.service.monitor.record import Feedback, FeedbackOutcome, Predicted, PredictionRecord
from refsynth.service.monitor.schema import metadata
from refsynth.service.monitor.writer import PredictionWriter
from tests.support import record_kills
from tests.support.postgres import account, programs, running

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Clock:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture(scope="session")
def postgres():
    binaries, user = programs(), account()
    if binaries is None or user is None:
        pytest.skip("PostgreSQL is not installed, or there is no account but root to run it")
    with running(binaries, user) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    return str(tmp_path / "record.sqlite") if request.param == "sqlite" else request.getfixturevalue("postgres").url()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def record(where, clock):
    opened = PredictionRecord.open(where, redact=Redactor().redact, clock=clock)
    yield opened
    opened.close()


def predicted(request_id, row=0, label="a", *, text="where is it?", abstained=False, model="1", probability=0.5, none=False):
    return Predicted(request_id, row, label, probability, abstained, model, "int8", "key1", text, none)


def test_feedback_is_there_once_however_often_it_is_sent(record):
    assert record.add_feedback([]) == []
    assert record.add_feedback([Feedback("q", 0, "a"), Feedback("q", 1, "b")]) == [FeedbackOutcome.stored, FeedbackOutcome.stored]
    assert record.add_feedback([Feedback("q", 1, "b"), Feedback("r", 0, "a")]) == [
        FeedbackOutcome.repeated,
        FeedbackOutcome.stored,
    ]
    assert record.add_feedback([Feedback("q", 0, "b"), Feedback("q", 1, "b")]) == [
        FeedbackOutcome.changed,
        FeedbackOutcome.repeated,
    ]
    stored = sorted((each.request_id, each.row, each.label) for each in record.recent_feedback(10))
    assert stored == [("q", 0, "b"), ("q", 1, "b"), ("r", 0, "a")]


def test_of_two_in_one_request_the_later_counts(record):
    record.add_feedback([Feedback("q", 0, "a"), Feedback("q", 0, "b")])
    assert [each.label for each in record.recent_feedback(10)] == ["b"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 2), st.sampled_from("ab")), max_size=5), max_size=6))
def test_it_holds_what_a_dictionary_would(record, batches):
    with record._engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM feedback"))
    model = {}
    for batch in batches:
        outcomes = record.add_feedback([Feedback(*each) for each in batch])
        final = {(name, row): label for name, row, label in batch}
        for (name, row, _), outcome in zip(batch, outcomes, strict=True):
            old, new = model.get((name, row)), final[name, row]
            assert outcome == (
                FeedbackOutcome.stored if old is None else FeedbackOutcome.repeated if old == new else FeedbackOutcome.changed
            )
        model |= final
    assert {(each.request_id, each.row): each.label for each in record.recent_feedback(100)} == model


def test_writers_at_once_do_not_wait_for_each_other_in_a_circle(record):
    def write(seed):
        rng = random.Random(seed)
        for _ in range(15):
            rows = [Feedback(f"q{n}", 0, rng.choice("abc")) for n in range(12)]
            rng.shuffle(rows)
            record.add_feedback(rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(record.recent_feedback(100)) == 12


def test_counts(record, clock):
    record.add_predictions([predicted("q", 0, "a"), predicted("q", 1, "b", abstained=True), predicted("r", 0, "a", none=True)])
    record.add_predictions([predicted("q", 0, "b")])  # there already
    record.add_feedback([Feedback("q", 0, "a"), Feedback("q", 1, "a"), Feedback("unknown", 0, "a")])
    assert record.summary(since=LONG_AGO) == ({"a": 2, "b": 1}, 1, 1, 3, 2, 1)
    assert record.summary(since=clock.now + timedelta(seconds=1)) == ({}, 0, 0, 0, 0, 0)


def test_feedback_comes_with_its_prediction(record, clock):
    record.add_feedback([Feedback("early", 0, "b", source="key1")])
    clock.now += timedelta(seconds=1)
    record.add_predictions([predicted("early", 0, "a", text="a text")])
    record.add_feedback([Feedback("late", 0, "b")])
    late, early = record.recent_feedback(2)
    assert (late.request_id, late.predicted, late.text) == ("late", None, None)
    assert early == ("early", 0, "b", "key1", Clock.now, "a", 0.5, "1", "a text")
    assert early.updated.tzinfo is not None


@pytest.mark.parametrize(
    "row",
    [
        Feedback("", 0, "a"),
        Feedback("q q", 0, "a"),
        Feedback("joe@example.com", 0, "a"),
        Feedback("q" * 129, 0, "a"),
        Feedback("q", 0, "a", source="s" * 65),
        Feedback("q", -1, "a"),
        Feedback("q", 2**31, "a"),
        Feedback("q", 0, ""),
        Feedback("q", 0, "a\0"),
        Feedback("q", 0, "a" * 20_001),
        Feedback("q", 0, "a", source="a b"),
        predicted("q", probability=float("nan")),
        predicted("q", model="m" * 65),
        predicted("q", label="\ud800"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_the_database(record, row):
    good = Feedback("good", 0, "a") if isinstance(row, Feedback) else predicted("good")
    with pytest.raises(InputError, match=r"stored|needs"):
        (record.add_feedback if isinstance(row, Feedback) else record.add_predictions)([good, row])
    assert record.recent_feedback(10) == []
    assert record.summary(since=LONG_AGO).predictions == {}


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000, "👍 你好", "'; DROP TABLE feedback; --", ""])
def test_any_text_can_be_stored(record, text):
    record.add_predictions([predicted("q", text=text)])
    record.add_feedback([Feedback("q", 0, "a")])
    (given,) = record.recent_feedback(1)
    assert given.text == text.replace("\0", "").replace("\ud800", "\ufffd")


def test_texts_are_stored_redacted_or_not_at_all(where, tmp_path):
    secret = "mail joe.canary@example.com or call +49 30 1234567"
    for redact, expected in ((None, None), (Redactor().redact, "mail [EMAIL] or call [PHONE]")):
        record = PredictionRecord.open(where, redact=redact)
        record.add_predictions([predicted(f"q-{redact is None}", text=secret)])
        record.add_feedback([Feedback(f"q-{redact is None}", 0, "a")])
        assert record.recent_feedback(1)[0].text == expected
        record.close()
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.iterdir())


def test_what_is_purged_is_gone_from_the_disk(tmp_path, clock):
    record = PredictionRecord.open(tmp_path / "record.sqlite", redact=str, clock=clock)
    record.add_predictions([predicted("old", n, text=f"canary {n}") for n in range(2500)])
    clock.now += timedelta(days=10)
    record.add_predictions([predicted("new", text="newer")])
    record.add_feedback([Feedback("old", 0, "a")])
    assert any(b"canary" in path.read_bytes() for path in tmp_path.iterdir())
    assert record.purge(before=clock.now) == (2500, 0, True)
    assert not any(b"canary" in path.read_bytes() for path in tmp_path.iterdir())
    assert any(b"newer" in path.read_bytes() for path in tmp_path.iterdir())
    record.close()


def test_retention_deletes_what_is_older_and_nothing_else(record, clock):
    record.add_predictions([predicted("old", n) for n in range(5)])
    record.add_feedback([Feedback("old", 0, "a"), Feedback("old", 1, "a")])
    clock.now += timedelta(days=10)
    record.add_predictions([predicted("new")])
    record.add_feedback([Feedback("old", 1, "b")])  # a person has said something about it lately
    assert record.purge(before=clock.now)[:2] == (5, 1)
    assert record.summary(since=LONG_AGO) == ({"a": 1}, 0, 0, 1, 0, 0)
    assert record.purge(before=clock.now)[:2] == (0, 0)


def test_the_export_can_be_trained_on(record, tmp_path, clock):
    record.add_predictions([predicted("q", n, "a", text=f"where is parcel number {n}?") for n in range(6)])
    record.add_feedback([Feedback("q", n, "ab"[n % 2]) for n in range(4)] + [Feedback("gone", 0, "a")])
    clock.now += timedelta(days=1)
    record.add_feedback([Feedback("q", n, "ab"[n % 2]) for n in (4, 5)])
    path = tmp_path / "feedback.parquet"
    assert export(record, path) == (6, 1)
    loaded = read_examples(path, labels=("a", "b"), columns=Columns())
    assert [(example.text, example.label) for example in loaded.examples][:2] == [
        ("where is parcel number 0?", "a"),
        ("where is parcel number 1?", "b"),
    ]
    assert len(loaded.examples) == 6
    assert export(record, path, since=clock.now) == (2, 0)
    with pytest.raises(InputError, match="cannot be written"):
        export(record, tmp_path / "nowhere" / "feedback.parquet")
    assert {path.name for path in tmp_path.iterdir() if "parquet" in path.name} == {"feedback.parquet"}


def test_the_revisions_make_the_tables_of_the_code(record):
    with record._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_an_older_record_is_brought_up_to_date_with_its_rows(where):
    opened = PredictionRecord.open(where)
    opened.add_feedback([Feedback("q", 0, "a")])
    config = migrate._config()
    with opened._engine.begin() as connection:  # back to the first revision: none goes down by itself
        connection.execute(sa.text("DROP TABLE predictions"))
        connection.execute(sa.text("ALTER TABLE feedback RENAME TO later"))
        connection.execute(sa.text("DROP INDEX ix_feedback_updated"))
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("ALTER TABLE later DROP CONSTRAINT pk_feedback"))
        connection.execute(sa.text("DELETE FROM alembic_version"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text("INSERT INTO feedback SELECT * FROM later"))
        connection.execute(sa.text("DROP TABLE later"))
        old = "'q', 0, CURRENT_TIMESTAMP, 'key1', '1', 'int8', 'a', 0.5, FALSE, NULL"
        connection.execute(sa.text(f"INSERT INTO predictions VALUES ({old})"))
    opened.close()
    with pytest.raises(RecordError, match="revision 0001"):
        PredictionRecord.open(where, tables="check")
    with closing(PredictionRecord.open(where)) as record:
        long = " + ".join(f"label number {n}" for n in range(100))
        record.add_feedback([Feedback("q", 1, long)])
        assert sorted(row.label for row in record.recent_feedback(9)) == ["a", long]
        record.add_predictions([predicted("r", 0, "a", none=True)])
        assert record.summary(since=LONG_AGO)[:3] == ({"a": 2}, 0, 1)  # of that of before nobody knows it
        with record._engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_tables_of_another_version_are_not_touched(where):
    with pytest.raises(RecordError, match=r"no tables yet(.|\n)*refsynth record upgrade|No such file"):
        PredictionRecord.open(where, tables="check")
    record = PredictionRecord.open(where)
    with record._engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    record.close()
    with pytest.raises(RecordError, match=r"revision 9999(.|\n)*newer refsynth"):
        PredictionRecord.open(where)
    with pytest.raises(RecordError, match="revision 9999"):
        PredictionRecord.open(where, tables="check")


def test_workers_may_all_open_a_new_record_at_once(where):
    code = (
        "import sys; from refsynth.service.monitor.record import Feedback, PredictionRecord\n"
        "PredictionRecord.open(sys.argv[1]).add_feedback([Feedback(sys.argv[2], 0, 'a')])"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, where, f"q{n}"], stderr=-1, text=True) for n in range(4)]
    assert [worker.communicate(timeout=60)[1] for worker in workers] == [""] * 4
    record = PredictionRecord.open(where, tables="check")
    assert len(record.recent_feedback(10)) == 4
    record.close()


def test_a_new_file_that_another_writes_to_is_waited_for(tmp_path):
    path = tmp_path / "record.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.3, other.commit)
    end.start()
    PredictionRecord.open(path).close()
    end.join()
    other.close()


def kill_writers(where, tmp_path, *, kills, writers, rows=3, seed=0):
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    script = Path(record_kills.__file__)
    arguments = [sys.executable, script, where, acknowledged, *map(str, (kills, writers, rows, seed))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=1200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split() for line in acknowledged.read_text().splitlines())
    record = PredictionRecord.open(where)
    with record._engine.connect() as connection:
        found = connection.execute(sa.text("SELECT request_id, row, label, revision FROM feedback")).all()
    record.close()
    stored = {(name, row): label for name, row, label, _ in found}
    lost = [name for name, label in said.items() if any(stored.get((name, row)) != label for row in range(rows))]
    assert lost == []
    assert len(stored) == len(found)  # none is doubled
    assert {revision for *_, revision in found} <= {1}  # nor written again
    per_request = Counter(name for name, *_ in found)
    assert set(per_request.values()) <= {rows}  # a request is there whole or not at all
    assert len(per_request) - len(said) <= writers  # only what was under way at the end may be there without a word
    return len(said) * rows


def test_no_acknowledged_feedback_is_lost_when_writers_are_killed(where, tmp_path):
    assert kill_writers(where, tmp_path, kills=12, writers=3) > 60


@pytest.mark.slow
def test_fifty_kills(where, tmp_path):
    assert kill_writers(where, tmp_path, kills=50, writers=4, rows=250, seed=1) >= 100_000


def test_a_server_that_was_down_is_used_again(postgres):
    record = PredictionRecord.open(postgres.url())
    record.add_feedback([Feedback("q", 0, "a")])
    postgres.stop()
    try:
        with pytest.raises(RecordError, match="is it there"):
            record.add_feedback([Feedback("r", 0, "a")])
    finally:
        postgres.start()
    assert record.add_feedback([Feedback("r", 0, "a"), Feedback("q", 0, "a")]) == [
        FeedbackOutcome.stored,
        FeedbackOutcome.repeated,
    ]
    record.close()


def test_a_worker_can_start_while_the_server_is_down(postgres):
    url = postgres.url()
    PredictionRecord.open(url).close()
    postgres.stop()
    try:
        record = PredictionRecord.open(url, tables="trust")
        with pytest.raises(RecordError):
            record.add_feedback([Feedback("q", 0, "a")])
    finally:
        postgres.start()
    assert record.add_feedback([Feedback("q", 0, "a")]) == [FeedbackOutcome.stored]
    record.close()


def test_errors_say_no_text_and_no_password(where, tmp_path):
    record = PredictionRecord.open(where, redact=str)
    with record._engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE predictions"))
    with pytest.raises(RecordError) as caught:
        record.add_predictions([predicted("q", text="my canary text")])
    assert "canary" not in str(caught.value)
    chain = caught.value
    while chain := chain.__cause__:
        assert "canary" not in str(chain)
    record.close()
    with pytest.raises(RecordError) as caught:
        PredictionRecord.open("postgresql://joe:hunter2@localhost:1/x")
    assert "hunter2" not in str(caught.value)


def test_other_files_and_urls_are_refused(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes, " * 1000)
    with pytest.raises(RecordError, match="NOTADB"):
        PredictionRecord.open(notes)
    assert notes.read_text() == "my notes, " * 1000
    for wrong in ("mysql://a@b/c", "sqlite://", "://", "postgresql://joe:hunter2@host"):
        with pytest.raises(InputError) as caught:
            PredictionRecord.open(wrong)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(RecordError, match="No such file"):
        PredictionRecord.open(tmp_path / "nowhere" / "record.sqlite")


def test_only_the_owner_reads_the_file(tmp_path):
    record = PredictionRecord.open(tmp_path / "record.sqlite")
    record.add_feedback([Feedback("q", 0, "a")])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    record.close()


def test_the_writer_writes_what_it_took(record):
    writer = PredictionWriter(record, interval=0.01)
    for n in range(50):
        assert writer.put([predicted(f"q{n}", row) for row in range(3)])
    assert writer.put([predicted("bad", 0, label="\0"), predicted("good", 0)])
    assert writer.close() == (152, 151, 1, 0, "")
    assert not writer.put([predicted("late")])
    assert record.summary(since=LONG_AGO).predictions == {"a": 151}


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("raised", [RuntimeError, UnicodeError, MemoryError, ValueError])
def test_a_row_that_breaks_the_redactor_is_dropped_and_the_writer_lives(tmp_path, raised):
    def redact(text):
        if "bad" in text:
            raise raised
        return text

    record = PredictionRecord.open(tmp_path / "record.sqlite", redact=redact)
    writer = PredictionWriter(record, interval=0.01)
    for n in range(5):
        writer.put([predicted("q", n, text="bad" if n == 2 else "good")])
    assert wait_for(lambda: writer.counts.written == 4)
    writer.put([predicted("r", 0, text="good")])
    assert writer.close() == (6, 5, 1, 0, "")
    record.close()


@pytest.mark.parametrize("readers", [0, 1, 2])
def test_a_purge_says_when_a_reader_keeps_the_rows(tmp_path, clock, readers, monkeypatch):
    monkeypatch.setattr("refsynth.service.monitor.database.BUSY", 0.2)
    record = PredictionRecord.open(tmp_path / "record.sqlite", redact=str, clock=clock)
    record.add_predictions([predicted("q", n, text=f"canary{n}x") for n in range(100)])
    clock.now += timedelta(days=1)
    held = [sqlite3.connect(tmp_path / "record.sqlite", isolation_level=None) for _ in range(readers)]
    for reader in held:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM predictions").fetchone()
    assert record.purge(before=clock.now) == (100, 0, not readers)
    for reader in held:
        reader.close()
    assert record.purge(before=clock.now) == (0, 0, True)
    assert not [path for path in tmp_path.iterdir() if b"canary" in path.read_bytes()]
    record.close()


def test_the_writer_drops_and_counts_where_the_database_is_away(tmp_path):
    record = PredictionRecord.open(tmp_path / "record.sqlite")
    with record._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE predictions RENAME TO elsewhere"))
    writer = PredictionWriter(record, capacity=10, interval=0.01)
    assert writer.put([predicted("q", n) for n in range(10)])
    assert not writer.put([predicted("r", 0)])
    assert wait_for(lambda: writer.counts.errors > 1)
    assert "no such table" in writer.counts.failing
    with record._engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE elsewhere RENAME TO predictions"))
    assert writer.close()[:3] == (11, 10, 1)
    assert writer.counts.failing == ""
    assert record.summary(since=LONG_AGO).predictions == {"a": 10}
    record.close()
