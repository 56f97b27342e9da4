"""The command line: ``python -m vizcore COMMAND --help``. One file a command, as the app has one a page.

What a command answers goes to standard output; progress, refusals and which files were written, to standard error. It
exits with 0; with 1 where something could not be done, which a sentence says; with 2 where the command is not
understood; with 130 where Ctrl-C stopped it. Nothing but the parser is imported before a command is understood:
``--help`` comes at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from commands import batch, embed, filters, heatmap, layers, lists, report, survey

STOPPED = 130  # as shells say of what Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the ``arguments`` say, by default those of the process, and return the exit status."""
    parser = make_parser()
    asked = parser.parse_args(arguments)
    from vizcore.records import LensError

    def say(sentence: str) -> None:
        print(f"{parser.prog} {asked.command}: {sentence}", file=sys.stderr)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # × on a screen that knows ASCII only
    try:
        asked.do(asked)
        sys.stdout.flush()
    except LensError as refusal:
        say(str(refusal))
    except BrokenPipeError:  # who read the answer has had enough of it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain on its way out
    except OSError as error:  # no folder, no right to write, no room
        say(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
    except KeyboardInterrupt:
        say("stopped.")
        return STOPPED
    else:
        return 0
    return 1


def make_parser() -> argparse.ArgumentParser:
    """The grammar of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m vizcore",
        description="See what a trained convolutional network sees in a picture.",
        epilog="Each command explains itself: python -m vizcore heatmap --help",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (report, heatmap, layers, filters, embed, survey, batch, lists):
        command.add(commands)
    return parser
