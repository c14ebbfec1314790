"""A network namespace of one's own: the kernel counts each packet and each failed route in it, whatever library asked for it.

As a script: `alone.py COMMAND ...` runs a command in it, with the loopback up, and prints the counts as the last line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

UNSHARE = ("unshare", "--net", "--map-root-user")
LOOPBACK = "import fcntl, socket, struct; s = socket.socket(); fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x41))"


class Counts(NamedTuple):
    """What left, or tried to leave, since the namespace was made.

    `astray` are sends and connects for which there is no route: all that are not to the loopback. `datagrams` are UDP packets, so
    look-ups too where the resolver is on the loopback. `connects` are TCP connects, those to the loopback among them.
    """

    astray: int
    datagrams: int
    connects: int


def possible() -> bool:
    """Tell whether this process may make such a namespace."""
    return shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@contextmanager
def start(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a namespace of its own; what still runs at the end is killed, with all that it started."""
    own = [*UNSHARE, sys.executable, __file__, *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(own, env=dict(env), cwd=cwd, text=True, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str], seconds: float) -> tuple[Counts, int, str]:
    """Wait for a command; return the counts, its exit code, and what it printed on both streams."""
    out, err = process.communicate(timeout=seconds)
    *printed, last = out.splitlines()
    found = json.loads(last)
    return Counts(**found["counts"]), found["code"], "\n".join([*printed, err])


def _counters() -> dict[str, int]:
    found: dict[str, int] = {}
    lines = Path("/proc/self/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        name = names.split(":")[0]
        found |= {f"{name}.{key}": int(value) for key, value in zip(names.split()[1:], values.split()[1:], strict=True)}
    for line in Path("/proc/self/net/snmp6").read_text().splitlines():
        key, value = line.split()
        found[key] = int(value)
    return found


def _main(command: Sequence[str]) -> None:
    subprocess.run([sys.executable, "-c", LOOPBACK], check=True)
    code = subprocess.run(command).returncode
    found = _counters()
    counts = {
        "astray": found["Ip.OutNoRoutes"] + found["Ip6OutNoRoutes"],
        "datagrams": found["Udp.OutDatagrams"] + found["Udp6OutDatagrams"],
        "connects": found["Tcp.ActiveOpens"],
    }
    print("\n" + json.dumps({"counts": counts, "code": code}), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
