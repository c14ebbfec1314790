"""The command `refsynth`: puts the groups together and turns errors into exit codes.

Commands live in one module per group and are imported when their module is cheap; heavy work is imported inside the commands, so
that `refsynth --help` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer

import refsynth
from refsynth.cli import (
    compare,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    init,
    keys,
    label,
    models,
    parts,
    predict,
    record,
    run,
    serve,
    trace,
)
from refsynth.cli.endings import WRONG, flushed, of_the_system, say
from refsynth.cli.once import Commands
from refsynth.cli.screen import print_anything
from refsynth.core.errors import RefsynthError
from refsynth.core.extras import needs

app = Commands(
    name="refsynth",
    help="From a handful of labelled texts to a small, fast, audited text model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("run")(run.run)
app.command("synthesize")(parts.synthesize)
app.command("filter")(parts.filter_drafts)
app.command("reinforce")(parts.reinforce)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("trace")(trace.trace)
app.command("serve")(serve.serve)
app.command("reload")(serve.reload)
app.add_typer(keys.keys, name="keys")
app.add_typer(record.record, name="record")
app.add_typer(label.label, name="label")
app.add_typer(models.models, name="models")
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"refsynth {refsynth.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if debug:
        os.environ["REFSYNTH_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit: 0 done, 2 wrong input, 3 a gate said no, 4 something is missing, 130 interrupted."""
    print_anything()
    # Threads that spin while they wait for each other double the time of a fit on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(flushed(_ended()))


def _ended() -> int:
    """Run the command and return its exit code."""
    try:
        with needs("train"):  # commands that need another extra say so themselves
            app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except RefsynthError as error:
        if os.environ.get("REFSYNTH_DEBUG"):
            raise
        say(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 0  # the reader has what it wants
    except Exception as error:
        said = of_the_system(error)
        if said is None or os.environ.get("REFSYNTH_DEBUG"):
            raise
        say(said)
        return WRONG
    return 0
