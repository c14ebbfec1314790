"""Writers of feedback that are killed at random moments. Run as a program: URL, file of acknowledgements, kills, writers,
rows of a request, seed.

What a writer was told is on disk goes to the file, one `id label` a line. A new writer starts at the first id without one, so it
sends again what was perhaps stored but never acknowledged.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import psycopg  # noqa: F401 - here, so that each writer need not and is killed while it writes

from refsynth.core.errors import RecordError
from refsynth.service.monitor.record import Feedback, PredictionRecord


def write(where: str, acknowledged: Path, writer: int, rows: int) -> None:
    done = [line.split()[0] for line in acknowledged.read_text().splitlines()]
    number = sum(name.startswith(f"w{writer}-") for name in done)
    stream = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    record = PredictionRecord.open(where)
    while True:
        name, label = f"w{writer}-{number}", f"label{number % 7}"
        record.add_feedback([Feedback(name, row, label, source=f"writer{writer}") for row in range(rows)])
        os.write(stream, f"{name} {label}\n".encode())
        number += 1


def main(where: str, acknowledged: Path, kills: int, writers: int, rows: int, seed: int) -> None:
    rng = random.Random(seed)
    children: dict[int, int] = {}
    for _ in range(kills):
        for writer in range(writers):
            if writer not in children:
                child = os.fork()
                if child == 0:
                    try:
                        write(where, acknowledged, writer, rows)
                    except RecordError as error:
                        print(error, file=sys.stderr, flush=True)
                    os._exit(1)
                children[writer] = child
        time.sleep(rng.uniform(0.01, 0.4))
        victim = rng.randrange(writers)
        _reap(children.pop(victim))
    for child in children.values():
        _reap(child)


def _reap(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "a writer failed by itself"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:7]))
