"""The process that `refsynth serve` starts for each worker: `python -m refsynth.cli.worker LISTENER CHANNEL`. Not for people."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from refsynth.cli.guards import compose
    from refsynth.serve.logs import configure
    from refsynth.serve.worker import main

    configure()
    main(int(sys.argv[1]), int(sys.argv[2]), compose)
