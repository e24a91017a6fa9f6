"""orlop inspect: whatever has the name, a container first."""

from __future__ import annotations

from orlop.cli.options import CONTAINER, Command, flag, operands, text
from orlop.cli.output.listing import show_objects
from orlop.cli.screen import say
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from orlop.client.client import Client

_KINDS = ("container", "image", "network", "volume")


class InspectCommand(Command):
    description = "Shows all that is known of containers, images, networks or volumes, as JSON."
    examples = (
        ("orlop inspect -f '{{.State.ExitCode}}' work", "one field"),
        ("orlop inspect -f '{{json .Config.Env}}' work", "a part, as JSON"),
    )

    form = text("-f", "--format", metavar="TEMPLATE", help="such as {{.State.Pid}}, or json")
    size = flag("-s", "--size", help="show the sizes of a container's file system")
    kind = text(
        "--type", metavar="KIND", choices=_KINDS, help="container, image, network or volume"
    )
    names = operands("NAME", completes=CONTAINER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Print them; 1 if any was not found."""

        def find(name: str) -> dict[str, Any]:
            return _find(self, client, name)

        return show(self.names, find, (out, err), form=self.form)


def _find(args: InspectCommand, client: Client, name: str) -> dict[str, Any]:
    finders: dict[str, Callable[[str], dict[str, Any]]] = {
        "container": lambda wanted: client.containers.inspect(wanted, size=args.size),
        "image": client.images.inspect,
        "network": client.networks.inspect,
        "volume": client.volumes.inspect,
    }
    for kind in (args.kind,) if args.kind else _KINDS:
        try:
            return finders[kind](name)
        except NotFoundError:
            continue
        except InvalidArgumentError:  # it cannot be the name of such a thing
            if args.kind:
                raise
    raise NotFoundError(f"no such {args.kind or 'object'}: {name}")


def show(
    names: list[str],
    find: Callable[[str], dict[str, Any]],
    streams: tuple[TextIO, TextIO],
    *,
    form: str,
) -> int:
    """Print what *find* finds, then on the second stream what it does not; 1 if there was any."""
    out, err = streams
    found: list[dict[str, Any]] = []
    problems: list[OrlopError] = []
    for name in names:
        try:
            found.append(find(name))
        except OrlopError as error:
            problems.append(error)
    if found or not form:
        show_objects(found, out, form=form)
    for problem in problems:
        say(err, f"orlop: {problem}")
    return 1 if problems else 0
