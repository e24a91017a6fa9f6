"""Convert a seccomp profile in Docker's format to the policy of one container.

A profile is config.json's "seccomp" with conditions: each rule may name the
capabilities, machines and kernel version that it applies to ("includes") or does not
apply to ("excludes"); "archMap" replaces "architectures".
https://docs.docker.com/engine/security/seccomp/
"""

import os

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.light import Any, Collection, Mapping
from orlop.model.oci import Seccomp, SeccompSyscall

#: uname's machine -> its name in conditions (Go's), its name in archMap (libseccomp's)
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}


def resolve(
    profile: Mapping[str, Any],
    capabilities: Collection[str],
    *,
    machine: str | None = None,
    kernel: str | None = None,
) -> Seccomp:
    """Return the policy of *profile* for a container with *capabilities* ("CAP_…").

    *machine* and *kernel* are this host's unless given, as uname(2) spells them.

    Raises:
        InvalidArgumentError: the profile does not have the right form.
        UnsupportedError: it has an agent, for whom the engine would have to wait.
    """
    if profile.get("listenerPath"):
        raise UnsupportedError(
            "a seccomp profile with a listenerPath is not supported",
            hint="orlop-runtime runs bundles that have one",
        )
    host = os.uname()
    go_name, scmp_name = _MACHINES.get(machine or host.machine, ("", ""))
    version = _version(kernel or host.release)
    policy: Seccomp = {"defaultAction": _text(profile, "defaultAction")}
    if "defaultErrnoRet" in profile:
        policy["defaultErrnoRet"] = _number(profile, "defaultErrnoRet")
    if architectures := _architectures(profile, scmp_name):
        policy["architectures"] = architectures
    if "flags" in profile:
        policy["flags"] = [str(flag) for flag in _list(profile, "flags")]
    policy["syscalls"] = [
        _rule(rule)
        for rule in _list(profile, "syscalls")
        if _applies(_mapping(rule), capabilities, go_name, version)
    ]
    return policy


def _architectures(profile: Mapping[str, Any], scmp_name: str) -> list[str]:
    plain, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if plain and mapped:
        raise InvalidArgumentError("a seccomp profile has either architectures or archMap")
    for entry in mapped:
        if _mapping(entry).get("architecture") == scmp_name:
            return [scmp_name, *(str(name) for name in _list(entry, "subArchitectures"))]
    return [str(name) for name in plain]


def _applies(
    rule: Mapping[str, Any],
    capabilities: Collection[str],
    machine: str,
    version: tuple[int, int],
) -> bool:
    includes, excludes = _mapping(rule.get("includes")), _mapping(rule.get("excludes"))
    machines = _list(includes, "arches")
    return (
        all(name in capabilities for name in _list(includes, "caps"))
        and not any(name in capabilities for name in _list(excludes, "caps"))
        and (not machines or machine in machines)
        and machine not in _list(excludes, "arches")
        and ("minKernel" not in includes or version >= _version(str(includes["minKernel"])))
        and ("minKernel" not in excludes or version < _version(str(excludes["minKernel"])))
    )


def _rule(rule: Mapping[str, Any]) -> SeccompSyscall:
    """Keep the keys of config.json; very old profiles have "name" in place of "names"."""
    names = [str(name) for name in _list(rule, "names")]
    if "name" in rule:
        names.append(_text(rule, "name"))
    if not names:
        raise InvalidArgumentError("a rule of the seccomp profile names no system call")
    result: SeccompSyscall = {"names": names, "action": _text(rule, "action")}
    if rule.get("errnoRet") is not None:
        result["errnoRet"] = _number(rule, "errnoRet")
    if args := _list(rule, "args"):
        result["args"] = [
            {
                "index": _number(argument, "index"),
                "value": _number(argument, "value"),
                "valueTwo": _number(argument, "valueTwo"),
                "op": _text(argument, "op"),
            }
            for argument in args
        ]
    return result


def _version(release: str) -> tuple[int, int]:
    """Parse "6.18.44-something" or "4.8"."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if not (major.isdigit() and minor.isdigit()):
        raise InvalidArgumentError(f"{release!r} is no kernel version", hint='such as "4.8"')
    return int(major), int(minor)


def _mapping(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgumentError("a seccomp profile has an object where this one has none")
    return value


def _list(mapping: object, key: str) -> list[Any]:
    value = _mapping(mapping).get(key) or []
    if not isinstance(value, list):
        raise InvalidArgumentError(f"{key} of a seccomp profile must be a list")
    return value


def _text(mapping: object, key: str) -> str:
    value = _mapping(mapping).get(key)
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{key} of a seccomp profile must be a string")
    return value


def _number(mapping: object, key: str) -> int:
    value = _mapping(mapping).get(key, 0)
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise InvalidArgumentError(f"{key} of a seccomp profile must be a number, not negative")
    return value
