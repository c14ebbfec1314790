"""The queue: every row gets its own answer or its own error, whatever is cancelled, fails or expires around it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.service.http.batching import Batcher, BatchFigures, QueueFullError, RowError


def double(items: Sequence[int]) -> list[int]:
    if any(item < 0 for item in items):
        raise ValueError("a negative row")
    return [2 * item for item in items]


def with_batcher(
    test: Callable[[Batcher[int, int]], Coroutine[None, None, None]],
    run: Callable[[Sequence[int]], Sequence[int]] = double,
    **options: object,
) -> None:
    async def main() -> None:
        defaults = {"batch_rows": 8, "batch_cost": 100, "queue_rows": 100, "longest_wait": 60.0}
        batcher: Batcher[int, int] = Batcher(run, **{**defaults, **options})
        try:
            await asyncio.wait_for(test(batcher), 30)
        finally:
            await batcher.close()
        assert batcher.queued == 0

    asyncio.run(main())


def soon(seconds: float = 20.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def ask(batcher: Batcher[int, int], items: Sequence[int], **options: object) -> list[int | RowError]:
    return await batcher.submit(items, [1] * len(items), **{"deadline": soon(), **options})


class Gate:
    """A model that works only while it is open."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.opened.wait(20)
        return double(items)


calls = st.lists(st.lists(st.integers(-3, 50), min_size=1, max_size=12), min_size=1, max_size=25)


@settings(max_examples=60)
@given(calls, st.integers(1, 9), st.integers(1, 30), st.sets(st.integers(0, 24)))
def test_every_row_gets_its_own_answer_whatever_is_cancelled_or_fails(
    rows: list[list[int]], batch_rows: int, batch_cost: int, cancelled: set[int]
) -> None:
    async def test(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(ask(batcher, items)) for items in rows]
        await asyncio.sleep(0)
        for number in cancelled:
            if number < len(tasks):
                tasks[number].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (items, answer) in enumerate(zip(rows, answers, strict=True)):
            if number in cancelled:
                assert isinstance(answer, asyncio.CancelledError)
                continue
            assert isinstance(answer, list)
            assert [isinstance(one, RowError) or one for one in answer] == [item < 0 or 2 * item for item in items]

    with_batcher(test, batch_rows=batch_rows, batch_cost=batch_cost, queue_rows=1000)


def test_an_idle_model_takes_a_lone_row_at_once_and_what_waits_is_the_next_batch() -> None:
    gate = Gate()

    async def test(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(ask(batcher, [1]))
        while not gate.batches:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(ask(batcher, [number])) for number in range(2, 13)]
        await asyncio.sleep(0.01)
        gate.opened.set()
        assert await asyncio.gather(first, *rest) == [[2 * number] for number in range(1, 13)]
        assert gate.batches == [[1], [2, 3, 4, 5, 6, 7, 8, 9], [10, 11, 12]]

    with_batcher(test, gate)


def test_a_batch_holds_what_the_budget_allows_and_a_costly_row_goes_alone() -> None:
    gate = Gate()

    async def test(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(ask(batcher, [0]))
        await asyncio.sleep(0.01)
        rest = asyncio.create_task(batcher.submit([1, 2, 3, 4, 5], [40, 40, 40, 500, 1], deadline=soon()))
        await asyncio.sleep(0.01)
        gate.opened.set()
        await asyncio.gather(first, rest)
        assert gate.batches == [[0], [1, 2], [3], [4], [5]]

    with_batcher(test, gate)


def test_a_full_queue_refuses_the_whole_call_and_says_when_to_come_back() -> None:
    gate = Gate()

    async def test(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(ask(batcher, [0]))
        await asyncio.sleep(0.01)
        rest = asyncio.create_task(ask(batcher, list(range(9))))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError) as caught:
            await ask(batcher, [1, 2])
        assert caught.value.wait >= 1
        assert batcher.queued == 9
        gate.opened.set()
        assert len(await rest) == 9
        await first
        assert await ask(batcher, [1, 2]) == [2, 4]

    with_batcher(test, gate, queue_rows=10)


def test_a_call_that_would_wait_too_long_is_refused_by_measured_speed() -> None:
    def slow(items: Sequence[int]) -> list[int]:
        time.sleep(0.02 * len(items))
        return double(items)

    async def test(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(ask(batcher, [number] * 8)) for number in range(10)]
        await asyncio.wait(tasks[:2])
        assert batcher.wait > 0.4  # about 8 calls of 8 rows of 20 ms
        with pytest.raises(QueueFullError) as caught:
            await ask(batcher, [1])
        assert caught.value.wait == pytest.approx(batcher.wait, rel=0.5)
        await asyncio.wait(tasks)
        assert batcher.wait == 0
        assert await ask(batcher, [1]) == [2]

    with_batcher(test, slow, longest_wait=0.3)


def test_a_deadline_frees_the_slot_and_later_calls_are_answered() -> None:
    gate = Gate()

    async def test(batcher: Batcher[int, int]) -> None:
        with pytest.raises(TimeoutError):
            await ask(batcher, [1], deadline=soon(0.05))  # the model has this one
        with pytest.raises(TimeoutError):
            await ask(batcher, [2], deadline=soon(0.05))  # and this one waits
        assert (batcher.queued, batcher.wait) == (0, 0)
        gate.opened.set()
        assert await ask(batcher, [3]) == [6]
        assert gate.batches == [[1], [3]]

    with_batcher(test, gate)


def test_an_urgent_row_goes_first_even_past_a_full_queue() -> None:
    gate = Gate()

    async def test(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(ask(batcher, [0]))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(ask(batcher, [number])) for number in (1, 2)]
        await asyncio.sleep(0)
        assert batcher.full >= 1
        canary = asyncio.create_task(ask(batcher, [9], urgent=True))
        await asyncio.sleep(0)
        gate.opened.set()
        assert await canary == [18]
        assert gate.batches[1][0] == 9
        await asyncio.gather(*tasks)

    with_batcher(test, gate, queue_rows=2)


@pytest.mark.parametrize("wrong", [lambda items: [], lambda items: [*items, 1], lambda items: items[:1]])
def test_a_model_that_answers_another_number_of_rows_never_shifts_answers(
    wrong: Callable[[Sequence[int]], list[int]],
) -> None:
    async def test(batcher: Batcher[int, int]) -> None:
        answers = await asyncio.gather(*(ask(batcher, [number]) for number in range(5)))
        assert all(isinstance(answer, RowError) or answer == number for number, (answer,) in enumerate(answers))

    with_batcher(test, wrong)


def test_an_error_names_what_was_raised_and_not_what_it_said() -> None:
    async def test(batcher: Batcher[int, int]) -> None:
        (error,) = await ask(batcher, [-1])
        assert isinstance(error, RowError)
        assert "ValueError" in str(error)
        assert "negative" not in str(error)

    with_batcher(test)


def test_batches_are_observed() -> None:
    seen: list[BatchFigures] = []

    async def test(batcher: Batcher[int, int]) -> None:
        await ask(batcher, [1, 2, 3])
        assert [batch.rows for batch in seen] == [3]
        assert seen[0].took >= 0 <= seen[0].waited
        assert batcher.batches == 1

    with_batcher(test, observe=seen.append)
