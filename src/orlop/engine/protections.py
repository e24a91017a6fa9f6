"""What protects containers, and the host from them, on this machine; and what is missing.

Each answer is that of whoever decides: nothing is guessed from versions.
"""

from collections.abc import Iterator
from pathlib import Path

from orlop.engine.answers import Protection
from orlop.engine.context import Context
from orlop.engine.spec import security
from orlop.engine.spec.resources import DEFAULT_PIDS
from orlop.errors import UnsupportedError
from orlop.lifecycle import unsealed
from orlop.runtime import seccomp_compiler
from orlop.runtime.cgroups.layout import detect

_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")  # without which a limit is refused
_MASKED = "/proc and /sys: Docker's masked and read-only paths"
#: What the host may forbid to all who are not root; file, the values that do, what it is about.
_KNOBS = (
    ("kernel/unprivileged_bpf_disabled", ("1", "2"), "bpf(2) by ordinary users is refused"),
    ("kernel/kptr_restrict", ("1", "2"), "addresses of the kernel are hidden"),
    ("kernel/dmesg_restrict", ("1",), "the kernel's log is for root"),
    ("kernel/kexec_load_disabled", ("1",), "no other kernel can be loaded"),
    ("kernel/yama/ptrace_scope", ("1", "2", "3"), "processes trace their children only"),
)


def protections(context: Context) -> tuple[Protection, ...]:
    """Return all of them, those of every container first."""
    return (
        _of("capabilities", "on", "Docker's 14; a sandbox has no NET_RAW"),
        _seccomp(),
        _of("paths", "on", _MASKED),
        _of("devices", "on", "those of Docker, without /dev/net/tun"),
        _limits(),
        _disk(context),
        _of("no-new-privileges", "off", "an option: --security-opt no-new-privileges"),
        _user_namespaces(),
        _labels(),
        _bridge(context),
        _workers(context),
        _sealed(),
        *_kernel(),
    )


def _of(name: str, state: str, detail: str) -> Protection:
    return Protection(name=name, state=state, detail=detail)


def _seccomp() -> Protection:
    try:
        seccomp_compiler.check()
    except UnsupportedError as error:
        return _of("seccomp", "missing", str(error))
    return _of("seccomp", "on", "Docker's policy; --security-opt seccomp=FILE for another")


def _limits() -> Protection:
    layout = detect()
    version = "1" if layout.v1 else "2"
    missing = [name for name in _CONTROLLERS if name not in layout.controllers]
    if missing:
        lacking = ", ".join(missing)
        hint = "mount it, or enable it in cgroup.subtree_control"
        return _of("limits", "partly", f"cgroup v{version} without {lacking} ({hint})")
    return _of("limits", "on", f"cgroup v{version}; at most {DEFAULT_PIDS} processes")


def _disk(context: Context) -> Protection:
    limit = context.settings.container_disk_bytes
    if limit:
        return _of("disk quota", "on", f"{limit:,} bytes a container, 1 GiB a sandbox")
    hint = "ORLOP_CONTAINER_DISK, or --storage-opt size="
    return _of("disk quota", "partly", f"1 GiB a sandbox; none for containers ({hint})")


def _user_namespaces() -> Protection:
    if _sysctl("user/max_user_namespaces") == "0":
        return _of("user namespaces", "missing", "user.max_user_namespaces is 0")
    return _of("user namespaces", "off", "an option: --userns, Sandbox(userns=…)")


def _labels() -> Protection:
    if security.has_apparmor():
        return _of("AppArmor", "off", "an option: --security-opt apparmor=PROFILE")
    return _of("AppArmor", "missing", "this host has no AppArmor")


def _bridge(context: Context) -> Protection:
    if why := context.lacks.get("bridge"):
        return _of("bridge ports", "missing", why)
    told = "no false addresses, no metadata service; sandboxes are apart"
    return _of("bridge ports", "on", told)


def _workers(context: Context) -> Protection:
    if missing := context.workers.missing:
        return _of("image workers", "partly", f"without {', '.join(missing)}")
    return _of("image workers", "on", "own user, landlock, seccomp, memory cgroup, no network")


def _sealed() -> Protection:
    for program, reason in unsealed.reasons().items():
        return _of("orlop-runtime", "partly", f"{program} is not sealed, but copied: {reason}")
    return _of("orlop-runtime", "on", "runs from a sealed copy of the interpreter")


def _kernel() -> Iterator[Protection]:
    for path, wanted, about in _KNOBS:
        value = _sysctl(path)
        name = path.replace("/", ".")
        if value is None:
            yield _of(name, "missing", "this kernel has no such setting")
        elif value in wanted:
            yield _of(name, "on", about)
        else:
            yield _of(name, "off", f"sysctl -w {name}={wanted[0]}: {about} then")


def _sysctl(path: str) -> str | None:
    try:
        return Path("/proc/sys", path).read_text().strip()
    except OSError:
        return None
