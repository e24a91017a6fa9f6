"""orlop build."""

from __future__ import annotations

import os

from orlop.cli.options import FILE, FOLDER, Command, flag, operand, text, texts
from orlop.cli.values import key_values
from orlop.errors import InvalidArgumentError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client

_LIMITS = "Limits of RUN"


class BuildCommand(Command):
    description = (
        "Builds an image from a Dockerfile and the files in FOLDER, and prints its id.\n"
        "A step is taken only if one of its inputs has changed; --explain says which."
    )
    examples = (
        ("orlop build -t app .", "from ./Dockerfile"),
        (
            "orlop build --target test --build-arg V=3 --explain .",
            "one stage, and why it was built",
        ),
        ("orlop build --secret id=token,src=token.txt .", "for RUN --mount=type=secret,id=token"),
    )

    file = text("-f", "--file", metavar="FILE", help="the Dockerfile", completes=FILE)
    tags = texts("-t", "--tag", metavar="NAME[:TAG]", help="a name for the image")
    arguments = texts("--build-arg", metavar="NAME=VALUE", help="the value of an ARG")
    target = text("--target", metavar="STAGE", help="build this stage, and what it needs")
    labels = texts("--label", metavar="NAME=VALUE", help="a label of the image")
    secrets = texts("--secret", metavar="id=ID,src=FILE", help="a file, or env=NAME, for RUN")
    platform = text("--platform", metavar="OS/ARCH", help="the platform of base images")
    network = text("--network", metavar="NETWORK", help="the network of RUN: none, host, a name")
    add_host = texts("--add-host", metavar="NAME:ADDRESS", help="a line of /etc/hosts for RUN")
    pull = flag("--pull", help="ask registries for newer base images")
    no_cache = flag("--no-cache", help="take every step again")
    explain = flag("--explain", help="say why a step was taken: which input has changed")
    progress = text("--progress", metavar="FORM", help="plain (default), json or quiet")
    quiet = flag("-q", "--quiet", help="print only the id")
    iidfile = text("--iidfile", metavar="FILE", help="write the id to FILE", completes=FILE)
    memory = text("-m", "--memory", metavar="SIZE", help="memory", group=_LIMITS)
    shm_size = text("--shm-size", metavar="SIZE", help="size of /dev/shm", group=_LIMITS)
    folder = operand("FOLDER", completes=FOLDER)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Build, showing the steps on *err*, and print the image's id."""
        from orlop.cli.image.build_output import follow
        from orlop.client.builds import Context, secrets_header

        form = "quiet" if self.quiet else self.progress or "plain"
        if form not in ("plain", "json", "quiet"):
            raise InvalidArgumentError(f"--progress {form}: expected plain, json or quiet")
        if not os.path.isdir(self.folder):
            raise NotFoundError(f"no folder {self.folder}")
        context = Context(self.folder, self.file)
        messages = client.builds.build(
            context.pieces(),
            query={"dockerfile": context.dockerfile, "t": self.tags, **self._query()},
            secrets=secrets_header(self.secrets),
        )
        image = follow(messages, out=out, err=err, form=form, explains=self.explain)
        if self.iidfile:
            with open(self.iidfile, "w", encoding="ascii") as file:
                file.write(image)
        return 0

    def _query(self) -> dict[str, str | bool | int | None]:
        import json

        from orlop.model.sizes import parse_size

        given: dict[str, str | None] = {}
        for word in self.arguments:
            name, equals, value = word.partition("=")
            given[name] = value if equals else os.environ.get(name)
        return {
            "buildargs": json.dumps(given),
            "labels": json.dumps(key_values(self.labels, option="--label")),
            "target": self.target or None,
            "platform": self.platform or None,
            "networkmode": self.network or None,
            "extrahosts": json.dumps(self.add_host) if self.add_host else None,
            "pull": self.pull,
            "nocache": self.no_cache,
            "memory": parse_size(self.memory) if self.memory else None,
            "shmsize": parse_size(self.shm_size) if self.shm_size else None,
            "events": True,
        }
