"""The type and the bounds of every field in a foreign config.json.

    str, bool       that type
    (low, high)     an integer within these bounds
    [shape]         a list of this shape
    {"*": shape}    an object with any names
    {name: shape}   an object; a name with "!" is required, unknown names are ignored

Bounds are those of the specification's types, or tighter if the kernel's are.
runtime-spec config.md and schema/; a test compares the names with oci.py.
"""

from __future__ import annotations

from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Shape = Any  # it contains itself

_I64 = (-(1 << 63), (1 << 63) - 1)
_U64 = (0, (1 << 64) - 1)
_I32 = (-(1 << 31), (1 << 31) - 1)
_U32 = (0, (1 << 32) - 1)
_U16 = (0, (1 << 16) - 1)
_SIZE = (-1, (1 << 63) - 1)  # -1 means no limit
_NUMBER = (-1, (1 << 32) - 1)  # of a device; -1 means any
_WORDS = [str]
_TABLE = {"*": str}

_ID_MAPPINGS = [{"containerID!": _U32, "hostID!": _U32, "size!": _U32}]

PROCESS: Shape = {
    "terminal": bool,
    "consoleSize": {"height!": _U16, "width!": _U16},
    "user": {
        "uid": _U32,
        "gid": _U32,
        "umask": (0, 0o7777),
        "additionalGids": [_U32],
        "username": str,
        "additionalGroups": _WORDS,
        "groupsPolicy": str,
    },
    "args": _WORDS,
    "env": _WORDS,
    "cwd": str,
    "capabilities": dict.fromkeys(
        ("bounding", "effective", "inheritable", "permitted", "ambient"), _WORDS
    ),
    "rlimits": [{"type!": str, "soft!": _U64, "hard!": _U64}],
    "noNewPrivileges": bool,
    "apparmorProfile": str,
    "selinuxLabel": str,
    "oomScoreAdj": (-1000, 1000),
    "scheduler": {
        "policy!": str,
        "nice": _I32,
        "priority": _I32,
        "flags": _WORDS,
        "runtime": _U64,
        "deadline": _U64,
        "period": _U64,
    },
    "ioPriority": {"class!": str, "priority": (0, 7)},
    "execCPUAffinity": {"initial": str, "final": str},
}

_BLOCK_DEVICE_WEIGHTS = [{"major!": _NUMBER, "minor!": _NUMBER, "weight": _U16, "leafWeight": _U16}]
_BLOCK_DEVICE_RATES = [{"major!": _NUMBER, "minor!": _NUMBER, "rate!": _U64}]

RESOURCES: Shape = {
    "devices": [
        {
            "allow": bool,
            "type": str,
            "major": _NUMBER,
            "minor": _NUMBER,
            "access": str,
        }
    ],
    "memory": {
        "limit": _SIZE,
        "reservation": _SIZE,
        "swap": _SIZE,
        "kernel": _SIZE,
        "kernelTCP": _SIZE,
        "swappiness": _U64,
        "disableOOMKiller": bool,
        "useHierarchy": bool,
        "checkBeforeUpdate": bool,
    },
    "cpu": {
        "shares": _U64,
        "quota": _I64,
        "burst": _U64,
        "period": _U64,
        "realtimeRuntime": _I64,
        "realtimePeriod": _U64,
        "cpus": str,
        "mems": str,
        "idle": _I64,
    },
    "pids": {"limit": _I64},
    "blockIO": {
        "weight": _U16,
        "leafWeight": _U16,
        "weightDevice": _BLOCK_DEVICE_WEIGHTS,
        "throttleReadBpsDevice": _BLOCK_DEVICE_RATES,
        "throttleWriteBpsDevice": _BLOCK_DEVICE_RATES,
        "throttleReadIOPSDevice": _BLOCK_DEVICE_RATES,
        "throttleWriteIOPSDevice": _BLOCK_DEVICE_RATES,
    },
    "hugepageLimits": [{"pageSize!": str, "limit!": _U64}],
    "network": {"classID": _U32, "priorities": [{"name!": str, "priority!": _U32}]},
    "rdma": {"*": {"hcaHandles": _U32, "hcaObjects": _U32}},
    "unified": _TABLE,
}

_HOOKS = [{"path!": str, "args": _WORDS, "env": _WORDS, "timeout": (1, (1 << 31) - 1)}]

_SECCOMP = {
    "defaultAction!": str,
    "defaultErrnoRet": _U32,
    "architectures": _WORDS,
    "flags": _WORDS,
    "listenerPath": str,
    "listenerMetadata": str,
    "syscalls": [
        {
            "names!": _WORDS,
            "action!": str,
            "errnoRet": _U32,
            "args": [{"index!": _U32, "value!": _U64, "valueTwo": _U64, "op!": str}],
        }
    ],
}

CONFIG: Shape = {
    "ociVersion": str,
    "root": {"path": str, "readonly": bool},
    "mounts": [
        {
            "destination!": str,
            "type": str,
            "source": str,
            "options": _WORDS,
            "uidMappings": _ID_MAPPINGS,
            "gidMappings": _ID_MAPPINGS,
        }
    ],
    "process": PROCESS,
    "hostname": str,
    "domainname": str,
    "hooks": dict.fromkeys(
        (
            *("prestart", "createRuntime", "createContainer"),
            *("startContainer", "poststart", "poststop"),
        ),
        _HOOKS,
    ),
    "annotations": _TABLE,
    "linux": {
        "namespaces": [{"type!": str, "path": str}],
        "uidMappings": _ID_MAPPINGS,
        "gidMappings": _ID_MAPPINGS,
        "timeOffsets": {"*": {"secs": _I64, "nanosecs": _U32}},
        "devices": [
            {
                "type!": str,
                "path!": str,
                "major": _NUMBER,
                "minor": _NUMBER,
                "fileMode": _U32,
                "uid": _U32,
                "gid": _U32,
            }
        ],
        "netDevices": {"*": {"name": str}},
        "cgroupsPath": str,
        "resources": RESOURCES,
        "rootfsPropagation": str,
        "seccomp": _SECCOMP,
        "sysctl": _TABLE,
        "maskedPaths": _WORDS,
        "readonlyPaths": _WORDS,
        "mountLabel": str,
        "personality": {"domain": str, "flags": _WORDS},
        "intelRdt": {
            "closID": str,
            "schemata": _WORDS,
            "l3CacheSchema": str,
            "memBwSchema": str,
            "enableMonitoring": bool,
        },
        "memoryPolicy": {"mode": str, "nodes": str, "flags": _WORDS},
    },
}

_LONGEST_SHOWN = 60
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}


def check(value: Any, shape: Shape, name: str = "") -> None:
    """Check that *value*, from JSON, has the *shape*; an error's path begins with *name*.

    A null counts as missing, and is removed. InvalidArgumentError names the first field
    that does not fit.
    """
    if isinstance(shape, dict):
        _check_object(value, shape, name)
    elif isinstance(shape, list):
        _check_list(value, shape[0], name)
    elif isinstance(shape, tuple):
        _check_integer(value, shape, name)
    elif type(value) is not shape:
        raise _unfit(value, _KINDS[shape], name)
    elif shape is str:
        _check_text(value, name)


def _check_object(value: Any, shape: Shape, name: str) -> None:
    if not isinstance(value, dict):
        raise _unfit(value, _KINDS[dict], name)
    for key in [key for key, item in value.items() if item is None]:
        del value[key]
    prefix = f"{name}." if name else ""
    if (each := shape.get("*")) is not None:
        for key, item in value.items():
            _check_text(key, f"a name in {name}")
            check(item, each, prefix + key)
        return
    for key, part in shape.items():
        word = key.removesuffix("!")
        if word in value:
            check(value[word], part, prefix + word)
        elif word is not key:
            raise InvalidArgumentError(f"{prefix}{word} is missing")


def _check_list(value: Any, shape: Shape, name: str) -> None:
    if not isinstance(value, list):
        raise _unfit(value, _KINDS[list], name)
    if shape is str and set(map(type, value)) <= {str}:
        joined = "".join(value)  # most lists consist of many short words
        if joined.isascii() and "\0" not in joined:
            return
    for index, item in enumerate(value):
        check(item, shape, f"{name}[{index}]")


def _check_integer(value: Any, bounds: tuple[int, int], name: str) -> None:
    low, high = bounds
    if type(value) is not int or not low <= value <= high:
        raise _unfit(value, f"an integer from {low} to {high}", name)


def _check_text(value: str, name: str) -> None:
    if "\0" in value:
        raise InvalidArgumentError(f"{name} holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidArgumentError(f"{name} is no text: half of a surrogate pair") from None


def _unfit(value: Any, wanted: str, name: str) -> InvalidArgumentError:
    kind = _KINDS.get(type(value))
    shown = kind if kind and not isinstance(value, bool) else str(value).lower()[:_LONGEST_SHOWN]
    return InvalidArgumentError(f"{name or 'the configuration'} is to be {wanted}, not {shown}")
