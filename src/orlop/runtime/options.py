"""Parse mount options: from the words of mount(8) and the OCI specification to flags.

The tables list the known words; every other word is passed to the file system.
runtime-spec config.md, "Linux mount options".
"""

from orlop.kernel.mount import ATIME_MASK, MountAttr, MountFlag
from orlop.model.light import Iterable, Mapping, NamedTuple
from orlop.model.light_enum import StrEnum

_A = MountAttr

#: Word: attributes to set, attributes to clear. With an "r" in front, a word
#: applies to the whole tree of mounts.
ATTRIBUTES: Mapping[str, tuple[int, int]] = {
    "ro": (int(_A.RDONLY), 0),
    "rw": (0, int(_A.RDONLY)),
    "nosuid": (int(_A.NOSUID), 0),
    "suid": (0, int(_A.NOSUID)),
    "nodev": (int(_A.NODEV), 0),
    "dev": (0, int(_A.NODEV)),
    "noexec": (int(_A.NOEXEC), 0),
    "exec": (0, int(_A.NOEXEC)),
    "nodiratime": (int(_A.NODIRATIME), 0),
    "diratime": (0, int(_A.NODIRATIME)),
    "relatime": (0, ATIME_MASK),
    "norelatime": (0, ATIME_MASK),
    "noatime": (int(_A.NOATIME), ATIME_MASK),
    "atime": (0, ATIME_MASK),
    "strictatime": (int(_A.STRICTATIME), ATIME_MASK),
    "nostrictatime": (0, ATIME_MASK),
    "nosymfollow": (int(_A.NOSYMFOLLOW), 0),
    "symfollow": (0, int(_A.NOSYMFOLLOW)),
}

RECURSIVE_ATTRIBUTES: Mapping[str, tuple[int, int]] = {
    f"r{word}": bits for word, bits in ATTRIBUTES.items()
}

#: Word: the propagation, and whether it applies to the whole tree.
PROPAGATION: Mapping[str, tuple[int, bool]] = {
    f"{prefix}{flag.name.lower()}": (int(flag), bool(prefix))
    for flag in (MountFlag.SHARED, MountFlag.SLAVE, MountFlag.PRIVATE, MountFlag.UNBINDABLE)
    if flag.name
    for prefix in ("", "r")
}

#: Words that only mount(8) uses, and words for the kernel's defaults.
IGNORED = frozenset(("defaults", "loud", "silent", "async", "nomand", "nolazytime", "noiversion"))

#: Words for a whole file system; a bind mount keeps those that its file system was mounted with.
SUPERBLOCK = frozenset(("sync", "dirsync", "mand", "lazytime", "iversion", "acl", "noacl"))


class Special(StrEnum):
    """Words about how the mount is made."""

    BIND = "bind"
    RBIND = "rbind"
    COPY_UP = "tmpcopyup"
    IDMAP = "idmap"
    RIDMAP = "ridmap"
    REMOUNT = "remount"


_SPECIAL = frozenset(str(word) for word in Special)


class Options(NamedTuple):
    """Mount options, sorted by the system call that takes them."""

    set_: int = 0
    clear: int = 0
    tree_set: int = 0
    tree_clear: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    special: frozenset[str] = frozenset()
    filesystem: tuple[tuple[str, str | None], ...] = ()  # for fsconfig, in order


def parse(words: Iterable[str]) -> Options:
    """Sort *words*; of two that contradict, the later one counts."""
    here, tree = (0, 0), (0, 0)
    propagation: list[tuple[int, bool]] = []
    special: list[str] = []
    filesystem: list[tuple[str, str | None]] = []
    for word in words:
        if word in ATTRIBUTES:
            here = _then(here, ATTRIBUTES[word])
        elif word in RECURSIVE_ATTRIBUTES:
            tree = _then(tree, RECURSIVE_ATTRIBUTES[word])
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word in _SPECIAL:
            special.append(word)
        elif word and word not in IGNORED:
            key, equals, value = word.partition("=")
            filesystem.append((key, value if equals else None))
    return Options(*here, *tree, tuple(propagation), frozenset(special), tuple(filesystem))


def for_new(options: Options) -> Options:
    """Return *options* for a mount with none below it, where options for the tree apply too."""
    if not options.tree_set and not options.tree_clear:
        return options
    here = _then((options.set_, options.clear), (options.tree_set, options.tree_clear))
    return options._replace(set_=here[0], clear=here[1])


def _then(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    set_, clear = after
    return before[0] & ~clear | set_, before[1] & ~set_ | clear
