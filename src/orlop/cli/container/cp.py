"""orlop cp: between a container and this machine, with cp's rules for the destination."""

from __future__ import annotations

from orlop.cli.options import FILE, Command, flag, operand
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class CpCommand(Command):
    description = (
        "Copies files out of a container or into one, which need not run. A source that ends\n"
        "in /. means what is in the folder. - is a tar archive on the input or the output."
    )
    examples = (
        ("orlop cp web:/etc/nginx .", "a folder out of it"),
        ("orlop cp index.html web:/srv/", "a file into it"),
        ("orlop cp web:/var/log - | tar -t", "as an archive"),
    )

    archive = flag("-a", "--archive", help="keep owners")
    follow = flag("-L", "--follow-link", help="follow a link in the source")
    quiet = flag("-q", "--quiet", help="print no summary")
    source = operand("SOURCE", help="[CONTAINER:]PATH or -", completes=FILE)
    target = operand("TARGET", help="[CONTAINER:]PATH or -", completes=FILE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Copy; OrlopError if source or destination are not what they should be."""
        from orlop.cli.container import copying

        source, target = split(self.source), split(self.target)
        if bool(source[0]) == bool(target[0]):
            raise InvalidArgumentError(
                "copying is between a container and this machine",
                hint="write one as CONTAINER:PATH",
            )
        if source[0]:
            count = copying.out_of(
                client,
                source,
                target=target[1],
                out=out,
                follow=self.follow,
                keep_owners=self.archive,
            )
            place = target[1]
        else:
            keep = self.archive
            count = copying.into(
                client, *target, source=source[1], follow=self.follow, keep_owners=keep
            )
            place = f"{target[0]}:{target[1]}"
        if not self.quiet and self.target != "-":
            from orlop.cli.output.units import size

            print(f"Successfully copied {size(count)} to {place}", file=err)
        return 0


def split(text: str) -> tuple[str, str]:
    """Split CONTAINER:PATH; the container is "" for a path of this machine."""
    if text.startswith(("/", ".")) or text == "-":
        return "", text
    container, colon, path = text.partition(":")
    if not colon or "/" in container:
        return "", text
    if not path:
        raise InvalidArgumentError(f"{text!r} has no path", hint="write CONTAINER:PATH")
    return container, path
