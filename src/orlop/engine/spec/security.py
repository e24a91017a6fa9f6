"""Parse --security-opt, --privileged, --cap-add and --cap-drop."""

import functools
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import ContainerOptions
from orlop.model.oci import Seccomp
from orlop.runtime import capability_sets, seccomp_default, seccomp_profile

_MOST_BYTES = 1 << 20
_APPARMOR = "/sys/kernel/security/apparmor"

#: Docker's list: paths that show the host's hardware and secrets in every namespace.
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Security(NamedTuple):
    capabilities: tuple[str, ...]
    seccomp: Seccomp | None
    no_new_privileges: bool
    apparmor: str
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    writable_system: bool  # /sys
    writable_cgroups: bool

    @classmethod
    def of(cls, options: ContainerOptions) -> "Security":
        """Parse *options*; InvalidArgumentError for an unknown one."""
        chosen = dict(_choices(options.security_opt))
        privileged = options.privileged
        names = (
            capability_sets.everything()
            if privileged
            else capability_sets.adjusted(options.cap_add, options.cap_drop)
        )
        masked, readonly = closed_paths(options)
        return cls(
            capabilities=names,
            seccomp=_seccomp(chosen.get("seccomp"), names, privileged=privileged),
            no_new_privileges=chosen.get("no-new-privileges") == "true",
            apparmor=_apparmor(chosen.get("apparmor", "unconfined")),
            masked_paths=masked,
            readonly_paths=readonly,
            writable_system=privileged,
            writable_cgroups=privileged or chosen.get("writable-cgroups") == "true",
        )


def closed_paths(options: ContainerOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the masked paths and the read-only paths of the container."""
    choices = dict(_choices(options.security_opt))
    open_paths = options.privileged or choices.get("systempaths") == "unconfined"
    masked, readonly = options.masked_paths, options.readonly_paths
    return (
        masked if masked is not None else () if open_paths else MASKED,
        readonly if readonly is not None else () if open_paths else READONLY,
    )


def _choices(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Split "key=value", and Docker's old "key:value"; of equal keys the last counts."""
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            key, separator, value = word.partition(":")
        if key in ("no-new-privileges", "writable-cgroups"):
            value = value or "true"
            _one_of(word, value, ("true", "false"))
        elif key == "systempaths":
            _one_of(word, value, ("unconfined",))
        elif key == "label":
            _one_of(word, value, ("disable",))
        elif key not in ("seccomp", "apparmor") or not value:
            raise InvalidArgumentError(f"invalid --security-opt {word[:100]!r}")
        yield key, value


def _one_of(word: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidArgumentError(
            f"invalid --security-opt {word[:100]!r}", hint=f"known values: {', '.join(known)}"
        )


def _seccomp(
    choice: str | None, capabilities: tuple[str, ...], *, privileged: bool
) -> Seccomp | None:
    if choice == "unconfined" or (choice is None and privileged):
        return None
    if choice in (None, "builtin", "default"):
        return _default_seccomp(capabilities)
    return seccomp_profile.resolve(_profile(str(choice)), capabilities)


@functools.lru_cache(maxsize=32)
def _default_seccomp(capabilities: tuple[str, ...]) -> Seccomp:
    """Return the default policy, which is shared and never changed."""
    return seccomp_profile.resolve(seccomp_default.profile(), capabilities)


def _profile(choice: str) -> dict[str, Any]:
    """Return the profile *choice*, or the one in the file with that path."""
    text = choice if choice.lstrip().startswith("{") else _file(choice)
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(f"seccomp profile is not JSON: {error}") from None
    if not isinstance(profile, dict):
        raise InvalidArgumentError("seccomp profile is not a JSON object")
    return profile


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)  # of a pipe nobody may be the writer


def _file(path: str) -> str:
    if not os.path.isabs(path):
        raise InvalidArgumentError(
            f"seccomp profile {path[:100]!r} is neither JSON nor an absolute path"
        )
    try:
        with open(path, encoding="utf-8", opener=_open_at_once) as file:
            text = file.read(_MOST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"cannot read seccomp profile {path}: {error}") from error
    if len(text) > _MOST_BYTES:
        raise InvalidArgumentError(f"seccomp profile {path} is larger than 1 MiB")
    return text


def has_apparmor() -> bool:
    """Whether this host has AppArmor."""
    return os.path.isdir(_APPARMOR)


def _apparmor(profile: str) -> str:
    """Return the profile to request; "" if there is none, or the host has no AppArmor."""
    if profile == "unconfined":
        return ""
    if not has_apparmor():
        raise UnsupportedError(
            f"apparmor profile {profile!r} cannot be used: this host has no AppArmor"
        )
    return profile
