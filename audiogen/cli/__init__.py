"""The command line: thin, every import that weighs anything inside the command that needs it."""

from __future__ import annotations

import sys

import typer

from audiogen.cli import about, evaluate, generate, recordings, tag, train  # noqa: F401  (they add their commands)
from audiogen.cli.app import app
from audiogen.interfaces import AudiogenError


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 1; Ctrl-C is 130 and leaves nothing half-written."""
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into the code 130
        if code:
            print("stopped; nothing half-written was left", file=sys.stderr)
            sys.exit(code)
    except AudiogenError as error:
        sys.exit(f"error: {error}")
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # typer's usage errors know how to show themselves
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise
