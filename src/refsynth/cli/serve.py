"""`refsynth serve` and `refsynth reload`: serve a bundle over HTTP, and give a running server another bundle."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from refsynth.cli.opening import Bundle, Threshold, bundle_of
from refsynth.cli.screen import out
from refsynth.core.errors import MissingError
from refsynth.core.extras import check_installed
from refsynth.service.http.settings import Settings, check_exposure, usual

NO_SERVER = "check that it is running, and that --port or --state is the one it was started with"


def serve(
    bundle: Bundle,
    host: Annotated[str, Option(help="Address to listen on; other than loopback only with --keys or --open.")] = usual("host"),
    port: Annotated[int, Option(help="Port; 0 takes a free one.")] = usual("port"),
    workers: Annotated[int, Option(help="Processes; each has the bundle in memory.")] = usual("workers"),
    threads: Annotated[int, Option(help="Threads that compute in each process; 0 shares the cores.")] = usual("threads"),
    deadline: Annotated[float, Option(help="Seconds to answer a request in, else 504.")] = usual("deadline"),
    queue_rows: Annotated[int, Option(help="Texts that may wait in a process, else 503.")] = usual("queue_rows"),
    batch_rows: Annotated[int, Option(help="The most texts in a batch; 1 turns batching off.")] = usual("batch_rows"),
    batch_tokens: Annotated[int, Option(help="The most tokens in a batch, by estimate.")] = usual("batch_tokens"),
    requests: Annotated[int, Option(help="Concurrent requests in a process, else 503.")] = usual("requests"),
    key_requests: Annotated[int, Option(help="Concurrent requests of one key in a process, else 429.")] = usual("key_requests"),
    body_bytes: Annotated[int, Option(help="The largest body, else 413.")] = usual("body_bytes"),
    texts: Annotated[int, Option(help="The most texts in a request, else 413.")] = usual("most_texts"),
    characters: Annotated[int, Option(help="The longest text, else 413.")] = usual("characters"),
    drain: Annotated[float, Option(help="Seconds to finish accepted requests after the signal to stop.")] = usual("drain"),
    notice: Annotated[float, Option(help="Seconds to report `not ready` before connections are refused.")] = usual("notice"),
    hang: Annotated[float, Option(help="Seconds after which a process that does not respond is replaced.")] = usual("hang"),
    state: Annotated[Path | None, Option(help="Folder for the server's files while it runs.")] = None,
    keys: Annotated[
        Path | None, Option(envvar="REFSYNTH_KEYS", help="Key file of `refsynth keys`; without it only this machine may call.")
    ] = None,
    open_: Annotated[bool, Option("--open", help="Without keys, answer everybody who reaches the port.")] = False,
    allow_host: Annotated[list[str] | None, Option(help="Without keys: another host name that requests may use.")] = None,
    rate: Annotated[float | None, Option(min=0.001, help="Quota of keys without their own: texts per second, else 429.")] = None,
    burst: Annotated[float | None, Option(min=1, help="How many texts may come at once within this quota.")] = None,
    record: Annotated[
        str | None, Option(envvar="REFSYNTH_RECORD", help="Record predictions and feedback in a SQLite file or at a URL.")
    ] = None,
    keep_texts: Annotated[bool, Option("--keep-texts", help="Record texts too, redacted.")] = False,
    redact_names: Annotated[str | None, Option(help="Redact names of persons too, by this spaCy pipeline or folder.")] = None,
    traces: Annotated[str | None, Option(help="Address that gets a span for each request, by OTLP over HTTP.")] = None,
    threshold: Threshold = None,
    log_requests: Annotated[bool, Option(help="Log a line for each request, without texts.")] = usual("log_requests"),
) -> None:
    """Serve a bundle over HTTP.

    The server runs until SIGTERM or Ctrl-C. Its logs are JSON lines on stderr and never hold a text. SIGHUP, or `refsynth
    reload`, loads the bundle again without disturbing requests. A bundle that fails its test is not used.

    Example: refsynth serve runs/tickets --workers 2
    """
    check_installed("fastapi", "uvicorn", "httptools", "prometheus_client", "pybreaker", extra="serve")
    from refsynth.cli.guards import prepare
    from refsynth.service.http.logs import configure
    from refsynth.service.http.supervisor import Supervisor

    settings = Settings.of(
        bundle=bundle_of(bundle).resolve(),
        host=host,
        allow_host=tuple(allow_host or ()),
        port=port,
        workers=workers,
        threads=threads,
        state=state,
        deadline=deadline,
        queue_rows=queue_rows,
        batch_rows=batch_rows,
        batch_tokens=batch_tokens,
        requests=requests,
        key_requests=key_requests,
        body_bytes=body_bytes,
        most_texts=texts,
        characters=characters,
        drain=drain,
        notice=notice,
        hang=hang,
        log_requests=log_requests,
        threshold=threshold,
    )
    check_exposure(host, keyed=keys is not None, open_=open_, allowed=settings.allow_host)
    guards = {"keys": keys and str(keys.resolve()), "rate": rate, "burst": burst, "record": record, "keep_texts": keep_texts}
    guards |= {"names": redact_names, "traces": traces}
    prepare(guards)
    configure()

    def started(actual: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        if out.is_terminal:  # the line is for a person; the log goes to stderr
            out.print(f"serving {bundle} at http://{shown}:{actual}   ({workers} workers; Ctrl-C ends)", markup=False)

    command = (sys.executable, "-m", "refsynth.cli.worker")
    asyncio.run(Supervisor(settings, command=command, guards=guards, started=started).run())


def reload(
    bundle: Annotated[Path | None, Argument(help="A bundle or run folder; default: that of the server's start.")] = None,
    port: Annotated[int, Option(help="Port of the server.")] = usual("port"),
    state: Annotated[Path | None, Option(help="The server's --state, if it has one.")] = None,
    rollback: Annotated[bool, Option("--rollback", help="Go back to the bundle before the last reload.")] = False,
) -> None:
    """Give a running server another bundle.

    All its workers test the bundle first. If one refuses it, the old bundle stays, and the exit code is 3.

    Example: refsynth reload runs/tickets
    """
    from refsynth.service.http.state import CONTROL, default_folder
    from refsynth.service.http.switch import SwitchError, order

    control = (state or default_folder(port)) / CONTROL
    message = (
        {"do": "rollback"} if rollback else {"do": "reload", **({"bundle": str(bundle_of(bundle).resolve())} if bundle else {})}
    )
    try:
        reply = asyncio.run(order(control, message))
    except OSError as error:
        raise MissingError(f"no server at {control} ({error.strerror})", remedy=NO_SERVER) from error
    if not reply.get("ok"):
        raise SwitchError(str(reply.get("message", "the server ended")), remedy="the old bundle stays in use")
    out.print(f"serving {reply['version']}", markup=False)
