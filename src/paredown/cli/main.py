"""The `paredown` command: its commands, and one line for whatever goes wrong."""

import errno
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from paredown.cli import bench, compress, demo, experiment, export, pack, profile, report, scan, search, setup
from paredown.errors import ParedownError

USER_ERROR, UNEXPECTED, INTERRUPTED = 2, 1, 130

#: Failures of the machine that a user can mend, unlike other errors of the operating system.
_MENDABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

app = typer.Typer(
    name="paredown",
    help="Makes trained Keras networks small and fast on a phone, and measures what came of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(profile.profile)
app.command()(scan.scan)
app.command()(compress.compress)
app.command()(search.search)
app.command()(export.export)
app.command()(bench.bench)
app.command()(report.report)
app.command()(pack.pack)
app.command()(pack.unpack)
app.command()(setup.setup)
app.command()(experiment.experiment)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"paredown {version('paredown')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: Without the program's name; None takes the process's own.
    Returns:
        The exit status: 0, 2 for a user's error, 3 for a search that did not meet its limits, 130 when interrupted,
        1 for a fault of paredown.
    """
    try:
        # Outside standalone mode typer hands back the code of an early exit, or whatever the command returned.
        status = app(args=arguments, prog_name="paredown", standalone_mode=False)
        return _interrupted() if status == INTERRUPTED else status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        # Whoever read our output has left (`| head`): nothing to say, and nothing left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    if os.environ.get("PAREDOWN_DEBUG"):
        traceback.print_exception(error)
    usage = getattr(error, "format_message", None)
    if usage is not None:
        # `paredown` alone shows its help this way, over several lines.
        if type(error).__name__ == "NoArgsIsHelpError":
            return _say(usage(), USER_ERROR)
        context = getattr(error, "ctx", None)
        hint = f" See {context.command_path} --help." if context else ""
        return _say(f"Error: {_sentence(_one_line(usage()))}{hint}", USER_ERROR)
    if isinstance(error, ParedownError):
        return _say(f"Error: {_one_line(str(error))}", USER_ERROR)
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        where = f": {error.filename}" if error.filename else ""
        return _say(f"Error: {error.strerror}{where}", USER_ERROR)
    kind = type(error).__name__
    hint = "" if os.environ.get("PAREDOWN_DEBUG") else "; run with PAREDOWN_DEBUG=1 for the traceback"
    return _say(f"Error: unexpected {kind}: {_one_line(str(error))[:300]}{hint}", UNEXPECTED)


def _interrupted() -> int:
    return _say("Interrupted.", INTERRUPTED)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _say(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status


def main() -> None:
    """Entry point of the `paredown` script."""
    sys.exit(run())
