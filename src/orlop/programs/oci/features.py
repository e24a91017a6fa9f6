"""`orlop-runtime features`: the features of this build, from the tables that implement them.

runtime-spec features.md, features-linux.md.
"""

from __future__ import annotations

import sys

from orlop import __version__
from orlop.cli.options import Arguments
from orlop.kernel.capabilities import NAMES
from orlop.model import jsontext
from orlop.programs.oci.starter import VERSION
from orlop.runtime import hooks, options, seccomp, seccomp_compiler
from orlop.runtime.plan import NAMESPACES
from orlop.runtime.scheduling import MEMORY_FLAGS, MEMORY_MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orlop.programs.oci.main import Settings


#: Those of libseccomp 2.6, which looks them up by name.
_ARCHITECTURES = (
    *("AARCH64", "ARM", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL"),
    *("MIPSEL64", "MIPSEL64N32", "PARISC", "PARISC64", "PPC", "PPC64", "PPC64LE", "RISCV64"),
    *("S390", "S390X", "SH", "SHEB", "X32", "X86", "X86_64"),
)


class Args(Arguments):
    """No arguments."""


def run(args: Args, settings: Settings) -> int:
    """Print the features of this build, whatever the host supports."""
    del args, settings
    sys.stdout.write(jsontext.dumps(features(), indent=4) + "\n")
    return 0


def features() -> dict[str, Any]:
    """Return the features structure."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(hooks.KINDS),
        "mountOptions": _mount_options(),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
            "memoryPolicy": {"modes": [*MEMORY_MODES], "flags": [*MEMORY_FLAGS]},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "org.orlop.version": __version__,
        },
    }


def _mount_options() -> list[str]:
    words = {*options.ATTRIBUTES, *options.RECURSIVE_ATTRIBUTES, *options.PROPAGATION}
    words |= options.IGNORED | options.SUPERBLOCK | {str(word) for word in options.Special}
    return sorted(words)


def _seccomp() -> dict[str, Any]:
    return {
        "enabled": True,
        "actions": sorted(seccomp_compiler.ACTIONS),
        "operators": sorted(seccomp_compiler.OPERATORS),
        "archs": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES],
        "knownFlags": sorted(seccomp.FLAGS),
        "supportedFlags": sorted(seccomp.FLAGS),
    }
