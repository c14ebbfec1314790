"""The process that `refsynth serve` starts for each worker: `python -m refsynth.cli.worker LISTENER CHANNEL`. Not for users."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from refsynth.service.http.logs import configure

    configure(whole=True)  # first: what follows may fail, and the log should say how
    from refsynth.cli.guards import compose
    from refsynth.service.http.worker import main

    main(int(sys.argv[1]), int(sys.argv[2]), compose)
