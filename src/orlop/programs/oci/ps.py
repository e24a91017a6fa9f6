"""`orlop-runtime ps`."""

from __future__ import annotations

import os
import subprocess
import sys

from orlop.cli.options import Arguments, operand, operands, text
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.lifecycle.folder import Folder
from orlop.lifecycle.processes import pids
from orlop.model import jsontext
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orlop.programs.oci.main import Settings


class Args(Arguments):
    interspersed = False

    format = text(
        "-f", "--format", default="table", choices=("table", "json"), help="table or json"
    )
    container = operand("container-id")
    options = operands("ps options", optional=True)


def run(args: Args, settings: Settings) -> int:
    """Print the processes of a container: their pids, or the output of ps(1)."""
    found = pids(Folder(settings.folder, args.container).load())
    if args.format == "json":
        sys.stdout.write(jsontext.dumps(found or None) + "\n")
    else:
        sys.stdout.write(_table(found, args.options or ["-ef"]))
    return 0


def _table(pids: Collection[int], options: Sequence[str]) -> str:
    """Return the head and the lines of ps(1) for *pids*."""
    try:
        listed = subprocess.run(
            ["ps", *options],
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},  # ours is C
        )
    except FileNotFoundError:
        raise UnsupportedError("there is no ps here", hint="--format json needs none") from None
    except subprocess.CalledProcessError as error:
        raise InvalidArgumentError(f"ps {' '.join(options)} failed: {error}") from None
    head, *lines = listed.stdout.split("\n")
    try:
        place = head.split().index("PID")
    except ValueError:
        raise InvalidArgumentError(f"ps {' '.join(options)} shows no PID") from None
    wanted = [head]
    for line in lines:
        words = line.split(None, place + 1)
        if len(words) > place and words[place].isdigit() and int(words[place]) in pids:
            wanted.append(line)
    return "".join(f"{one_line(line)}\n" for line in wanted)
