"""From what is asked of a template to the container whose first process it is."""

import base64
import json
from typing import Any

import msgspec
from msgspec.structs import replace

from orlop.engine.spec.security import MASKED
from orlop.errors import InvalidArgumentError
from orlop.model.container import ContainerOptions, LogOptions, MountPoint
from orlop.runtime import seccomp, seccomp_default, seccomp_profile
from orlop.zygote.source import BOOTSTRAP, SOCKET

#: What the setup may do in its user namespace; runs can do nothing of it.
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SETPCAP", "SYS_ADMIN",
)  # fmt: skip
_CALLS = ("mount", "pivot_root", "setns", "umount2")
_NEWUSER = 0x10000000  # CLONE_NEWUSER
_ADMIN = "CAP_SYS_ADMIN"

#: Libraries that start a thread for each processor when they are imported: a fork has but one.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a template is beside a container."""

    python: str = "python3"
    imports: tuple[str, ...] = ()
    setup: str = ""


def container_options(options: ContainerOptions, wanted: Wanted, door: str) -> ContainerOptions:
    """Return those of the template's container, which finds us by the socket at *door*.

    It has a user namespace of its own, so that what it may do it may do to itself alone.
    """
    if not wanted.python:
        raise InvalidArgumentError("a template needs a Python")
    if options.privileged or options.cap_add:
        raise InvalidArgumentError("a template's runs have no capabilities")
    own_network = options.network in ("", "none")
    known = {line.partition("=")[0] for line in options.environment}
    extra = tuple(f"{name}=1" for name in _ONE_THREAD if name not in known)
    control = MountPoint(type="bind", source=door, target=SOCKET)
    return replace(
        options,
        entrypoint=(wanted.python, "-c", BOOTSTRAP),
        command=(),
        environment=(*options.environment, *extra),
        user="0:0",
        working_dir="/",
        userns=options.userns or "auto",
        cap_drop=("ALL",),
        cap_add=(*_CAPABILITIES, *(["NET_ADMIN"] if own_network else [])),
        security_opt=(*options.security_opt, f"seccomp={json.dumps(_policy())}"),
        masked_paths=tuple(path for path in MASKED if not path.startswith("/proc/")),
        readonly_paths=(),
        mounts=(*options.mounts, control),
        log=LogOptions(driver="none"),
        auto_remove=True,
    )


def zygote_options(options: ContainerOptions, wanted: Wanted, *, filters: str) -> dict[str, Any]:
    """Return what the zygote is told; *options* are those that were asked for.

    The folder *filters* keeps compiled policies.
    """
    policy = seccomp_profile.resolve(seccomp_default.profile(), ())  # without capabilities
    program = seccomp.compile(policy, cache=filters).program
    writable = [mount.target for mount in options.mounts if not mount.read_only]
    return {
        "socket": SOCKET,
        "imports": list(wanted.imports),
        "setup": wanted.setup,
        "user": options.user,
        "workdir": options.working_dir,
        "read_only": options.read_only,
        "writable": writable,
        "own_network": options.network in ("", "none"),
        "hidden": [path for path in MASKED if path.startswith("/proc/")],
        "filter": base64.b64encode(program).decode(),
    }


def _policy() -> dict[str, Any]:
    """Return the default policy, with a few calls of CAP_SYS_ADMIN's in place of all of them."""
    profile = seccomp_default.profile()
    rules = []
    for rule in profile["syscalls"]:
        if _ADMIN in rule.get("includes", {}).get("caps", ()):
            continue
        excludes = {k: v for k, v in rule.get("excludes", {}).items() if k != "caps"}
        rules.append({**rule, "excludes": excludes})
    no_user = {"index": 0, "value": _NEWUSER, "op": "SCMP_CMP_MASKED_EQ"}
    rules.append({"names": list(_CALLS), "action": "SCMP_ACT_ALLOW"})
    rules.append({"names": ["unshare"], "action": "SCMP_ACT_ALLOW", "args": [no_user]})
    return {**profile, "syscalls": rules}
