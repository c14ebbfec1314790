"""`refsynth keys`: the API keys of a server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import Argument, Option

from refsynth.cli.once import Commands
from refsynth.cli.screen import Json, err, out, print_json
from refsynth.service.http.auth import SCOPES, Key, Keyring, default_keys

keys = Commands(help="API keys of the server: add, list, revoke.", no_args_is_help=True)

_DAY = 86_400.0

File = Annotated[
    Path | None,
    Option("--keys", help="The key file; default: $REFSYNTH_KEYS, or keys.json in ~/.config/refsynth.", show_default=False),
]


@keys.command("add")
def add(
    name: Annotated[str, Argument(help="Name of the key, such as that of its owner.")],
    scope: Annotated[list[str] | None, Option(help=f"What it may do: {', '.join(SCOPES)}; may be repeated.")] = None,
    days: Annotated[float | None, Option(help="Days until it expires; default: it does not expire.")] = None,
    rate: Annotated[float | None, Option(help="Its quota, in texts per second; default: the server's.")] = None,
    burst: Annotated[float | None, Option(help="How many texts may come at once within its quota.")] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it once. Without --scope it may predict, explain and give feedback.

    Example: refsynth keys add webshop --scope predict --days 90
    """
    made = Keyring(file or default_keys()).add(
        name,
        scopes=scope or ("predict", "explain", "feedback"),
        seconds=None if days is None else days * _DAY,
        rate=rate,
        burst=burst,
    )
    if as_json:
        print_json({"presented": made.presented, **_record(made.key)})
        return
    out.print(made.presented, markup=False)
    err.print("The key is shown only this once. Clients send it as: Authorization: Bearer KEY", markup=False)


@keys.command("list")
def list_(file: File = None, as_json: Json = False) -> None:
    """List the keys: names, scopes, dates and whether they are valid.

    Example: refsynth keys list
    """
    path = file or default_keys()
    found = Keyring(path).keys()
    if as_json:
        print_json({"file": str(path), "keys": [_record(key) for key in found]})
        return
    if not found:
        out.print(f"no keys in {path}; make one with: refsynth keys add NAME", markup=False)
        return
    table = Table("id", "name", "scopes", "made", "until", "state", box=None)
    for key in found:
        until = "" if key.expires is None else _day(key.expires)
        table.add_row(key.id, escape(key.name), " ".join(key.scopes), _day(key.created), until, key.state(time.time()))
    out.print(table)


@keys.command("revoke")
def revoke(
    which: Annotated[str, Argument(help="The id of a key, or its name if no other key has that name.")],
    file: File = None,
    as_json: Json = False,
) -> None:
    """Revoke a key for good. Running servers refuse it within a second.

    Example: refsynth keys revoke webshop
    """
    key = Keyring(file or default_keys()).revoke(which)
    if as_json:
        print_json(_record(key))
        return
    err.print(f"{key.name} ({key.id}): revoked", markup=False)


def _record(key: Key) -> dict[str, object]:
    return {**key.model_dump(exclude={"hash"}), "state": key.state(time.time())}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
