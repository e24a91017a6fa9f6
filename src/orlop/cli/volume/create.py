"""orlop volume create."""

from __future__ import annotations

from orlop.cli.options import Arguments, operand, text, texts
from orlop.cli.values import key_values
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class Args(Arguments):
    description = "Creates a volume, a folder that outlives containers; prints its name."
    examples = (("orlop run -v data:/data alpine", "which also creates it"),)

    driver = text("-d", "--driver", metavar="NAME", default="local", help="default: local")
    label = texts("--label", metavar="KEY=VALUE", help="attach a label")
    option = texts("-o", "--opt", metavar="KEY=VALUE", help="for the driver")
    name = operand("NAME", optional=True)


def run(args: Args, client: Client, out: TextIO, err: TextIO) -> int:
    """Create it and print its name."""
    try:
        body = {
            "Name": args.name,
            "Driver": args.driver,
            "DriverOpts": key_values(args.option, option="--opt"),
            "Labels": key_values(args.label, option="--label"),
        }
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    print(client.volumes.create(body)["Name"], file=out)
    return 0
