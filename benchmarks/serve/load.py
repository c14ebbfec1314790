"""The load: clients that ask as fast as they are answered (closed), or at a rate whatever happens (open). HTTP by aiohttp."""

from __future__ import annotations

import asyncio
import itertools
import json
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import numpy as np

NO_REPLY, REFUSED, BROKEN = "no reply", "refused", "broken"
"""What can come instead of a status: nothing in time; no connection; a connection that ended before the reply."""

FRESH_FROM = tuple((f"127.0.0.{number}", 0) for number in range(2, 18))
"""Where connections for a single request come from, in turn. A closed one keeps its port for a minute: from one address some
hundred new ones a second soon use up all 28,000, and each then costs the kernel a long search for a free one."""


class Reply(NamedTuple):
    """What came back. `failure` is set where there was no reply; then `status` is 0."""

    status: int
    seconds: float
    body: bytes = b""
    retry_after: str = ""
    failure: str = ""

    def json(self) -> Any:
        """Return the body."""
        return json.loads(self.body)


Ask = Callable[[int], Awaitable[Reply]]
"""Sends request number N."""
Take = Callable[[Reply], None]


class Tally:
    """Replies counted: by status or failure, with the seconds of each."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.silent = 0
        """Refusals (429, 503) that do not say when to come back."""
        self._seconds: dict[str, array[float]] = {}

    def __call__(self, reply: Reply) -> None:
        """Count a reply."""
        kind = reply.failure or str(reply.status)
        self.seen[kind] += 1
        self.silent += reply.status in (429, 503) and not reply.retry_after
        self._seconds.setdefault(kind, array("f")).append(reply.seconds)

    def milliseconds(self, kind: str, share: float) -> float:
        """Return a quantile of the time of replies of one kind; NaN where there were none."""
        seconds = self._seconds.get(kind)
        return 1000 * float(np.quantile(np.frombuffer(seconds, np.float32), share)) if seconds else float("nan")

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.seen.values())

    def of_class(self, first: str) -> int:
        """Return how many statuses begin with a digit."""
        return sum(n for kind, n in self.seen.items() if kind.startswith(first))


class Connected:
    """Connections to one server."""

    def __init__(self, sessions: Sequence[aiohttp.ClientSession]) -> None:
        self._sessions = itertools.cycle(sessions)

    async def post(self, path: str, body: Any, *, seconds: float = 30.0, headers: Mapping[str, str] | None = None) -> Reply:
        """Post JSON, or bytes as they are, and return what came back within `seconds`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        head = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with asyncio.timeout(seconds), next(self._sessions).post(path, data=data, headers=head) as answer:
                content = await answer.read()
                return Reply(answer.status, loop.time() - begun, content, answer.headers.get("Retry-After", ""))
        except TimeoutError:
            failure = NO_REPLY
        except aiohttp.ClientConnectorError:
            failure = REFUSED
        except (aiohttp.ClientError, OSError):
            failure = BROKEN
        return Reply(0, loop.time() - begun, failure=failure)


@asynccontextmanager
async def connected(url: str, *, key: str | None = None, fresh: bool = False) -> AsyncIterator[Connected]:
    """Open connections as they are needed; `fresh` ones serve a single request each."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with AsyncExitStack() as stack:
        sessions = []
        for place in FRESH_FROM if fresh else [None]:
            connector = aiohttp.TCPConnector(limit=0, force_close=fresh, local_addr=place)
            # The limits of time are those of `post`.
            session = aiohttp.ClientSession(url, connector=connector, headers=headers, timeout=aiohttp.ClientTimeout())
            sessions.append(await stack.enter_async_context(session))
        yield Connected(sessions)


async def closed(ask: Ask, take: Take, *, clients: int, seconds: float = 0.0, requests: int = 0, first: int = 0) -> float:
    """Let clients ask without pause, for so many seconds or so many requests in all; return the seconds that it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    numbers = iter(range(first, first + requests)) if requests else itertools.count(first)

    async def client() -> None:
        for number in numbers:
            take(await ask(number))
            if seconds and loop.time() - begun >= seconds:
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    return loop.time() - begun


async def open_loop(ask: Ask, take: Take, *, rate: float, seconds: float, first: int = 0) -> float:
    """Send requests at a rate (1/s) however long the replies take, wait for all, and return the seconds that sending took."""
    loop = asyncio.get_running_loop()
    begun, under_way = loop.time(), set()

    async def one(number: int) -> None:
        take(await ask(number))

    for number in range(int(rate * seconds)):
        if (early := begun + number / rate - loop.time()) > 0:
            await asyncio.sleep(early)
        elif number % 8 == 0:
            await asyncio.sleep(0)  # behind time: the replies still have to be read
        task = loop.create_task(one(first + number))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    sent = loop.time() - begun
    await asyncio.gather(*under_way)
    return sent


def predict(server: Connected, text: Callable[[int], str], *, seconds: float = 30.0) -> Ask:
    """Return what asks our server for the label of text number N."""

    async def ask(number: int) -> Reply:
        return await server.post("/v1/predict", {"texts": text(number)}, seconds=seconds)

    return ask
