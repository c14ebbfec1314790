"""The command `refsynth`: registers the commands and turns errors into exit codes.

Command modules are cheap to import. They import heavy libraries inside the commands, so that `refsynth --help` answers at once.
"""

from __future__ import annotations

import os
import sys

import typer
from typer import Option

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
from refsynth.cli.endings import EXIT_INPUT, flush_output, print_error, system_error_message
from refsynth.cli.once import Commands
from refsynth.cli.screen import print_anything
from refsynth.core.errors import RefsynthError
from refsynth.core.extras import needs

app = Commands(
    name="refsynth",
    help="From a handful of labeled texts to a small, fast, audited text model.",
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


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"refsynth {refsynth.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
    debug: bool = Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    if debug:
        os.environ["REFSYNTH_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit: 0 done, 2 wrong input, 3 refused by a gate, 4 something is missing, 130 interrupted."""
    print_anything()
    # OpenMP threads that spin while they wait double the time of a fit when the machine is busy with anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(flush_output(_exit_code()))


def _exit_code() -> int:
    try:
        with needs("train"):  # commands that need another extra say so themselves
            app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except RefsynthError as error:
        if os.environ.get("REFSYNTH_DEBUG"):
            raise
        print_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        return 0  # the reader has closed the pipe and needs no more
    except Exception as error:
        message = system_error_message(error)
        if message is None or os.environ.get("REFSYNTH_DEBUG"):
            raise
        print_error(message)
        return EXIT_INPUT
    return 0
