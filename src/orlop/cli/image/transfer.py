"""orlop pull and push."""

from __future__ import annotations

from orlop.cli.options import IMAGE, Command, flag, operand, text
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class PullCommand(Command):
    description = "Fetches an image and everything it needs from its registry."
    examples = (
        ("orlop pull alpine:3.22", "from docker.io/library"),
        ("orlop pull --platform linux/arm64 registry.example/team/app@sha256:…", "exactly this"),
    )

    all_tags = flag("-a", "--all-tags", help="all images of the repository")
    platform = text("--platform", metavar="OS/ARCH", help="choose the image's platform")
    quiet = flag("-q", "--quiet", help="print only the digest")
    image = operand("IMAGE")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Pull it; OrlopError if it cannot be."""
        if self.all_tags and ("@" in self.image or ":" in self.image.rsplit("/", 1)[-1]):
            raise InvalidArgumentError("tag can't be used with --all-tags/-a")
        pull(
            client,
            self.image,
            platform=self.platform,
            out=out,
            quiet=self.quiet,
            all_tags=self.all_tags,
        )
        return 0


def pull(
    client: Client,
    image: str,
    *,
    platform: str,
    out: TextIO,
    quiet: bool,
    all_tags: bool = False,
) -> None:
    """Pull *image*, drawing progress on *out*; OrlopError if it cannot be."""
    from orlop.cli.output.progress import show
    from orlop.client.credentials import header_for

    messages = client.images.pull(
        image, platform=platform or None, auth=header_for(image), all_tags=all_tags
    )
    show(messages, out, quiet=quiet)


class PushCommand(Command):
    description = "Sends an image to the registry that its name says."
    examples = (("orlop tag app registry.example/team/app:1", "first give it such a name"),)

    quiet = flag("-q", "--quiet", help="print only the digest")
    platform = text("--platform", metavar="OS/ARCH", help="only this platform's image")
    image = operand("NAME[:TAG]", completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Push it; OrlopError if it cannot be."""
        from orlop.cli.output.progress import show
        from orlop.client.credentials import header_for

        messages = client.images.push(
            self.image, auth=header_for(self.image), platform=self.platform or None
        )
        show(messages, out, quiet=self.quiet)
        return 0
