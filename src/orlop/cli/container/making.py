"""To make a container, fetching its image if need be: what run and create share."""

from __future__ import annotations

from orlop.cli.container.body import create_body
from orlop.errors import AlreadyExistsError, ImageNotFoundError, InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.cli.container.flags import ContainerArguments
    from orlop.client.client import Client


def create(args: ContainerArguments, client: Client, err: TextIO, *, attached: bool) -> str:
    """Create the container that *args* describe and return its id; warnings go to *err*."""
    if not args.image:
        raise InvalidArgumentError("the image's name is empty")
    if args.cidfile:
        _check_cidfile(args.cidfile)
    body = create_body(args, attached=attached)
    if args.pull == "always":
        _pull(args, client, err)
    platform = args.platform or None
    try:
        made = client.containers.create(body, name=args.name, platform=platform)
    except ImageNotFoundError:
        if args.pull != "missing":
            raise
        _say(err, f"Unable to find image '{_tagged(args.image)}' locally")
        _pull(args, client, err)
        made = client.containers.create(body, name=args.name, platform=platform)
    for warning in made.get("Warnings") or []:
        _say(err, f"WARNING: {warning}")
    identifier = str(made["Id"])
    if args.cidfile:
        _write_id(args.cidfile, identifier)
    return identifier


def _say(err: TextIO, text: str) -> None:
    from orlop.cli.screen import say  # rare

    say(err, text)
    err.flush()


def _check_cidfile(path: str) -> None:
    import os

    if os.path.exists(path):
        raise AlreadyExistsError(
            f"container id file {path} exists", hint="remove it, or name another"
        )


def _tagged(image: str) -> str:
    last = image.rsplit("/", 1)[-1]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _pull(args: ContainerArguments, client: Client, err: TextIO) -> None:
    from orlop.cli.image.transfer import pull

    pull(client, args.image, platform=args.platform, out=err, quiet=args.quiet)


def _write_id(path: str, identifier: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(identifier)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot write container id file {path}: {reason}") from None
