"""orlop save, load and import: images in archives."""

from __future__ import annotations

from orlop.cli.archive import read_archive, write_archive
from orlop.cli.options import FILE, IMAGE, Command, flag, operand, operands, text, texts
from orlop.cli.output.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class SaveCommand(Command):
    description = "Writes images to one tar archive, which load, docker load and skopeo read."
    examples = (("orlop save -o app.tar app:1 app:2", "two of them"),)

    output = text(
        "-o", "--output", metavar="FILE", help="write to FILE, not to stdout", completes=FILE
    )
    names = operands("IMAGE", completes=IMAGE)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Write the archive."""
        write_archive(lambda: client.images.save(self.names), self.output, out)
        return 0


class LoadCommand(Command):
    description = "Reads the images of an archive of docker save, or of an OCI image layout."
    examples = (
        ("orlop load < app.tar", "from the input"),
        ("orlop load -i layout/", "a folder that is an OCI layout, or a tar of one"),
    )

    source = text("-i", "--input", metavar="FILE", help="a file or folder to read", completes=FILE)
    quiet = flag("-q", "--quiet", help="no progress")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Load them and say what they are called."""
        messages = client.images.load(read_archive(self.source), quiet=self.quiet)
        show(messages, out)
        return 0


class ImportCommand(Command):
    description = "Makes an image of one layer from a tar archive of a file system."
    examples = (("tar -C root -c . | orlop import -c 'CMD [\"sh\"]' - small:1", "from a folder"),)

    change = texts("-c", "--change", metavar="LINE", help="a Dockerfile line: CMD, ENV, USER, …")
    message = text("-m", "--message", metavar="TEXT", help="commit message")
    platform = text("--platform", metavar="OS/ARCH", help="its platform")
    source = operand("FILE|URL|-", completes=FILE)
    reference = operand("NAME[:TAG]", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Import it and print its id."""
        remote = self.source.startswith(("http://", "https://"))
        messages = client.images.import_(
            self.source if remote else read_archive(self.source),
            reference=self.reference,
            message=self.message or None,
            changes=self.change,
            platform=self.platform or None,
        )
        show(messages, out)
        return 0
