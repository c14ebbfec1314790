"""`refsynth serve` and `refsynth reload`: a bundle over HTTP, and another bundle for a server that runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from refsynth.cli.opening import Bundle, bundle_of
from refsynth.cli.screen import out
from refsynth.core.errors import MissingError
from refsynth.core.extras import check_installed

NO_SERVER = "is it running, with this port or --state?"


def serve(
    bundle: Bundle,
    host: Annotated[str, typer.Option(help="Address to listen on. Other than loopback only with keys, or --open.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(help="Processes; each has the bundle in memory.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads that compute in each process; 0 shares the cores.")] = 0,
    deadline: Annotated[float, typer.Option(help="Seconds to answer a request in, else 504.")] = 10.0,
    queue_rows: Annotated[int, typer.Option(help="Texts that may wait in a process, else 503.")] = 2048,
    batch_rows: Annotated[int, typer.Option(help="Most texts of a batch; 1 turns batching off.")] = 64,
    batch_tokens: Annotated[int, typer.Option(help="Most tokens of a batch, by estimate.")] = 1024,
    requests: Annotated[int, typer.Option(help="Requests under way in a process, else 503.")] = 1024,
    key_requests: Annotated[int, typer.Option(help="How many of these may be of one key, else 429.")] = 256,
    body_bytes: Annotated[int, typer.Option(help="Largest body, else 413.")] = 1 << 20,
    texts: Annotated[int, typer.Option(help="Most texts of a request, else 413.")] = 256,
    characters: Annotated[int, typer.Option(help="Longest text, else 413.")] = 20_000,
    drain: Annotated[float, typer.Option(help="Seconds to finish what was accepted when told to end.")] = 30.0,
    notice: Annotated[float, typer.Option(help="Seconds to say `not ready` before connections are refused.")] = 0.0,
    hang: Annotated[float, typer.Option(help="Seconds after which a silent process is replaced.")] = 4.0,
    state: Annotated[Path | None, typer.Option(help="Folder for what the server needs while it runs.")] = None,
    keys: Annotated[
        Path | None, typer.Option(envvar="REFSYNTH_KEYS", help="The file of `refsynth keys`; without it this machine may call.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Without keys, let everybody in who reaches the port.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Without keys: a further name of this machine that requests may call it by.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Quota of keys without their own: texts a second, else 429.")
    ] = None,
    burst: Annotated[float | None, typer.Option(min=1, help="How many of these may come at once.")] = None,
    record: Annotated[
        str | None, typer.Option(envvar="REFSYNTH_RECORD", help="Keep predictions and feedback here: a SQLite file or a URL.")
    ] = None,
    keep_texts: Annotated[bool, typer.Option("--keep-texts", help="Keep texts in the record too, redacted.")] = False,
    redact_names: Annotated[
        str | None, typer.Option(help="Redact names of persons too, with this spaCy pipeline (name or folder).")
    ] = None,
    traces: Annotated[str | None, typer.Option(help="Send a span for each request here by OTLP over HTTP.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Confidence below which it is unsure; the bundle's own if left out.")
    ] = None,
    log_requests: Annotated[bool, typer.Option(help="Log a line for each request, without texts.")] = True,
) -> None:
    """Answer requests over HTTP until SIGTERM or Ctrl-C. Logs are JSON lines on stderr and never hold a text.

    SIGHUP, or `refsynth reload`, loads the bundle again; requests do not notice, and a bundle that fails its test is not used.

    Example: refsynth serve runs/tickets --workers 2
    """
    check_installed("fastapi", "uvicorn", "httptools", "prometheus_client", "pybreaker", extra="serve")
    from refsynth.cli.guards import prepare
    from refsynth.service.http.logs import configure
    from refsynth.service.http.settings import Settings, check_exposure
    from refsynth.service.http.supervisor import Supervisor

    options = {name: value for name, value in locals().items() if name in Settings.model_fields}
    settings = Settings.of(**{**options, "bundle": bundle_of(bundle).resolve(), "allow_host": tuple(allow_host or ())})
    check_exposure(host, keyed=keys is not None, open_=open_, allowed=settings.allow_host)
    guards = {"keys": keys and str(keys.resolve()), "rate": rate, "burst": burst, "record": record, "texts": keep_texts}
    guards |= {"names": redact_names, "traces": traces}
    prepare(guards)
    configure()

    def started(actual: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        if out.is_terminal:  # a person: stderr is for the log
            out.print(f"serving {bundle} at http://{shown}:{actual}   ({workers} workers; Ctrl-C ends)", markup=False)

    command = (sys.executable, "-m", "refsynth.cli.worker")
    asyncio.run(Supervisor(settings, command=command, guards=guards, started=started).run())


def reload(
    bundle: Annotated[Path | None, typer.Argument(help="Another bundle or run; the one of the start if left out.")] = None,
    port: Annotated[int, typer.Option(help="Port of the server.")] = 8080,
    state: Annotated[Path | None, typer.Option(help="The server's --state, if it has one.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the bundle before the last reload.")] = False,
) -> None:
    """Give a running server another bundle. All its workers test it first; if one refuses, the old one stays (exit code 3).

    Example: refsynth reload runs/tickets
    """
    from refsynth.service.http.state import CONTROL, default_folder
    from refsynth.service.http.switch import SwitchError, order

    control = (state or default_folder(port)) / CONTROL
    wanted = (
        {"do": "rollback"} if rollback else {"do": "reload", **({"bundle": str(bundle_of(bundle).resolve())} if bundle else {})}
    )
    try:
        reply = asyncio.run(order(control, wanted))
    except OSError as error:
        raise MissingError(f"no server at {control} ({error.strerror})", remedy=NO_SERVER) from error
    if not reply.get("ok"):
        raise SwitchError(str(reply.get("message", "the server ended")), remedy="the bundle before stays in use")
    out.print(f"serving {reply['version']}", markup=False)
