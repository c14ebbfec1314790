"""JSON lines between supervisor, workers and the reload command, over local sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any, Self

Message = dict[str, Any]
LONGEST = 1 << 20
"""Maximum bytes of a line."""


class Link:
    """One end of a connection. Both ends are ours, so a line that is not a JSON object ends the link like a closed socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, connection: socket.socket) -> Self:
        """Return a link over a connected socket."""
        return cls(*await asyncio.open_connection(sock=connection, limit=LONGEST))

    def send(self, **message: Any) -> None:
        """Send a message. Does nothing if the other end is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> Message | None:
        """Return the next message, or None when the other end is gone."""
        try:
            line = await self._reader.readline()
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    async def close(self) -> None:
        """Send what is buffered, and close."""
        self._writer.close()
        with contextlib.suppress(OSError):  # the other end may be gone already
            await self._writer.wait_closed()
