"""Generate config.json from options, with Docker's defaults.

    config(given)                       a container's
    exec_process(config, options)       the `process` of a later process in it
    command(options, image)             argv[0] and the rest, for inspect

The engine resolves names first (volumes, containers to join, the user's id range); this room
then reads nothing from the host except numbers of devices.
"""

from orlop.engine.spec.devices import devices
from orlop.engine.spec.given import Given
from orlop.engine.spec.mounts import mounts, propagation
from orlop.engine.spec.namespaces import namespaces, sysctls
from orlop.engine.spec.process import command, exec_process, process
from orlop.engine.spec.resources import resources
from orlop.engine.spec.security import Security
from orlop.errors import InvalidArgumentError
from orlop.model.oci import Config, Linux

__all__ = ["Given", "cgroups_path", "command", "config", "exec_process"]

_VERSION = "1.2.1"  # of the runtime specification
_RESERVED = ("orlop.", "io.orlop.", "org.opencontainers.", "io.kubernetes.", "run.oci.")


def config(given: Given) -> Config:
    """Return config.json of the container *given*.

    Raises:
        InvalidArgumentError: an option, named in the message, is invalid.
        UnsupportedError: this build does not support it.
    """
    options = given.options
    security = Security.of(options)
    result: Config = {
        "ociVersion": _VERSION,
        "root": {"path": "rootfs", "readonly": options.read_only},
        "process": process(given, security),
        "mounts": mounts(given, security),
        "linux": _linux(given, security),
    }
    if options.uts in ("", "private"):
        result["hostname"] = given.hostname
        if domain := options.domainname or given.image.domainname:
            result["domainname"] = domain
    if options.annotations:
        result["annotations"] = _annotations(options.annotations)
    return result


def _linux(given: Given, security: Security) -> Linux:
    nodes, rules = devices(given.options)
    linux: Linux = {
        "namespaces": namespaces(given),
        "cgroupsPath": cgroups_path(given.options.cgroup_parent, given.id),
        "resources": {**resources(given.options.resources), "devices": rules},
        "devices": nodes,
        "sysctl": sysctls(given),
        "maskedPaths": list(security.masked_paths),
        "readonlyPaths": list(security.readonly_paths),
        "rootfsPropagation": propagation(given.mounts),
    }
    if given.uid_mappings:
        linux["uidMappings"] = list(given.uid_mappings)
        linux["gidMappings"] = list(given.gid_mappings)
    if security.seccomp is not None:
        linux["seccomp"] = security.seccomp
    return linux


def cgroups_path(parent: str, container_id: str) -> str:
    """Return the path of the container's cgroup: below *parent*, or below ours."""
    names = [name for name in (parent or "/orlop").split("/") if name not in ("", ".")]
    if not names or ".." in names or ":" in parent or "\0" in parent:
        raise InvalidArgumentError(f"invalid cgroup parent {parent!r}", hint='such as "/batch"')
    return "/" + "/".join((*names, container_id))


def _annotations(wanted: dict[str, str]) -> dict[str, str]:
    """Pass annotations on, except those that a runtime would take for an instruction."""
    for key in wanted:
        if key.startswith(_RESERVED):
            raise InvalidArgumentError(f"annotation {key!r} is reserved")
    return dict(wanted)
