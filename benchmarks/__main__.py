"""The command line of the benchmarks: `python -m benchmarks NAME --data DIR`, and `python -m benchmarks tables`."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench import BENCHES, Options, run
from benchmarks.figures import told
from refsynth.cli.endings import system_error_message
from refsynth.cli.screen import err, out, print_anything, print_json
from refsynth.core.errors import RefsynthError
from refsynth.models.quiet import quiet

REQUIREMENTS = "pip install -e '.[dev]' -r benchmarks/requirements.txt"
USUAL = Options()

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def _command(name: str) -> Callable[..., None]:
    def command(
        data: Annotated[Path, typer.Option(help="Folder of data sets: NAME/train.jsonl, test.jsonl, labels.json.")] = USUAL.data,
        results: Annotated[Path, typer.Option(help="Folder that measured cells are appended to.")] = USUAL.results,
        seeds: Annotated[
            int | None, typer.Option(min=1, help="Draws or repeats, instead of the usual number, of benches that have some.")
        ] = None,
        only: Annotated[str, typer.Option(help="Comma-separated data sets, or parts of serve, instead of all.")] = "",
        quick: Annotated[bool, typer.Option("--quick", help="The same checks on less, in under ten minutes.")] = False,
        again: Annotated[bool, typer.Option("--again", help="Measure what this version has measured already.")] = False,
        bundle: Annotated[
            Path | None, typer.Option(exists=True, file_okay=False, help="What serve serves; else the example.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    ) -> None:
        if bundle is not None and name != "serve":
            raise typer.BadParameter(f"{name} serves nothing; leave it out", param_hint="--bundle")
        chosen = tuple(part.strip() for part in only.split(",") if part.strip())
        options = Options(data, results, seeds, chosen, quick, again, bundle, say=lambda line: err.print(line, markup=False))
        try:
            with quiet(), redirect_stdout(sys.stderr):  # what libraries print is no result
                found = run(name, options)
        except KeyboardInterrupt:
            err.print("stopped; what was measured is kept. Run the same command to go on.", markup=False)
            raise typer.Exit(130) from None
        if as_json:
            print_json(found)
            return
        out.print(found["table"], markup=False)
        for check in found["checks"]:
            out.print(told(check), markup=False)

    return command


def about(name: str) -> tuple[str, int]:
    """Return the question of a bench and its minutes, without importing it: that takes seconds."""
    source = (Path(__file__).parent / f"{BENCHES[name].replace('.', '/')}.py").read_text("utf-8")
    question = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    budget = re.search(r"^BUDGET = (\d+)$", source, re.MULTILINE)
    return question, int(budget[1]) if budget else 0


for _name in BENCHES:
    _question, _minutes = about(_name)
    app.command(_name, help=f"{_question} {_minutes} minutes on two cores.")(_command(_name))


@app.command("tables")
def tables(
    root: Annotated[Path, typer.Option(help="The repository.")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 3 where a document differs.")] = False,
) -> None:
    """Print the tables of README and docs from the measured cells, between their marks."""
    from benchmarks.tables import stale, write

    found = stale(root) if check else write(root)
    for path in found:
        out.print(f"{path}: {'differs from the cells' if check else 'written'}", markup=False)
    raise typer.Exit(3 if check and found else 0)


def main() -> None:
    """Run the command line and exit: 0 done, 2 wrong input, 3 a table differs, 4 a package is missing, 130 interrupted."""
    print_anything()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except RefsynthError as error:
        err.print(f"error: {error}", markup=False)
        sys.exit(error.exit_code)
    except OSError as error:
        err.print(f"error: {system_error_message(error)}", markup=False)
        sys.exit(2)
    except ModuleNotFoundError as error:
        err.print(f"error: the package '{error.name}' is not installed\n  {REQUIREMENTS}", markup=False)
        sys.exit(4)


if __name__ == "__main__":
    main()
