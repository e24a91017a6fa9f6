"""orlop vm: what virtual machines need before the first one starts."""

from __future__ import annotations

import os

from orlop.cli.options import FILE, Command, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class VmSetupCommand(Command):
    description = (
        "Prepares this host for containers in virtual machines: a guest kernel, and a guest\n"
        "system made of this host's Python. Without --kernel, apt-get downloads Debian's cloud\n"
        "kernel; it is not installed. Then a trial boot finds out whether KVM works."
    )
    examples = (
        ("orlop vm setup", "with Debian's kernel"),
        ("orlop vm setup --kernel /boot/vmlinuz", "with a kernel of your own"),
    )

    kernel = text(
        "--kernel", metavar="FILE", help="a bzImage or vmlinux for the guests", completes=FILE
    )

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Build, try, and print what machines will run on."""
        from orlop.microvm import accelerator, machine, setup

        machine.program()
        kernel = os.path.abspath(self.kernel) if self.kernel else None
        image = setup.set_up(client.settings.root, kernel)
        print(image, file=out)
        if accelerator.find(image) == accelerator.KVM:
            print("virtual machines run on KVM", file=out)
        else:
            print("virtual machines are emulated (TCG): KVM runs no guest on this host", file=out)
        return 0
