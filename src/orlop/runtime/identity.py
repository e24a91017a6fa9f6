"""Steps: user, groups and capabilities of the process."""

import os
import stat

from orlop.kernel import capabilities
from orlop.kernel.namespaces import Namespace
from orlop.kernel.process import set_keep_capabilities, set_no_new_privileges
from orlop.model.light import Sequence
from orlop.runtime import users
from orlop.runtime.child import Child

_NULL = os.makedev(1, 3)
_SETGID = 1 << capabilities.BIT["CAP_SETGID"]
_SYS_ADMIN = 1 << capabilities.BIT["CAP_SYS_ADMIN"]
_SYS_NICE = 1 << capabilities.BIT["CAP_SYS_NICE"]
_SYS_RESOURCE = 1 << capabilities.BIT["CAP_SYS_RESOURCE"]
_FOR_STEPS = sum(
    1 << capabilities.BIT[name]
    for name in ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")
)


def find_user(child: Child) -> None:
    """Look up the process's user; names are the image's."""
    needs_home = not child.process.variable("HOME")
    found = users.find(child.root, child.process.user, needs_home=needs_home)
    child.uid, child.gid, child.groups, child.home = found


def become_root_inside(child: Child) -> None:
    """Become user 0 of the new user namespace, whose mappings the parent has written."""
    _set_groups(child, ())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _set_groups(child: Child, groups: Sequence[int]) -> None:
    """Set the groups. If a user namespace may not, having no groups is as good."""
    try:
        os.setgroups(groups)
    except PermissionError:
        namespace_denies_it = capabilities.capget()[0] & _SETGID
        if set(groups) - {child.gid} or not namespace_denies_it:
            raise


def own_stdio(child: Child) -> None:
    """Give 0, 1 and 2 to the user, so that /dev/stdout can be opened; failures are ignored."""
    for fd in (0, 1, 2):
        status = os.fstat(fd)
        if status.st_uid == child.uid or (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL):
            continue
        try:
            os.fchown(fd, child.uid, -1)
        except OSError:
            continue


def become_user(child: Child) -> None:
    """Change groups and user, keeping the permitted capabilities, and drop the bounding set."""
    keep = child.process.capabilities.bounding
    capabilities.drop_bounding(capabilities.supported() & ~keep)
    set_keep_capabilities(keep=True)
    _set_groups(child, child.groups)
    os.setresgid(child.gid, child.gid, child.gid)
    os.setresuid(child.uid, child.uid, child.uid)
    set_keep_capabilities(keep=False)
    os.umask(child.process.umask)


def limit_capabilities(child: Child) -> None:
    """Keep only the capabilities of the program and those that the remaining steps need."""
    capabilities.drop_bounding(capabilities.supported() & ~child.process.capabilities.bounding)
    effective, permitted, inheritable = capabilities.capget()
    keep = _needed(child, filtered=child.exposed)
    capabilities.capset(effective & keep, permitted & keep, inheritable & keep)


def raise_capabilities(child: Child) -> None:
    """The same as limit_capabilities(), and make them effective."""
    _, permitted, inheritable = capabilities.capget()
    keep = permitted & _needed(child, filtered=False)
    capabilities.capset(keep, keep, inheritable)


def _needed(child: Child, *, filtered: bool) -> int:
    wanted = child.process.capabilities
    needed = wanted.bounding | wanted.permitted | _FOR_STEPS
    filters = child.filter and not filtered and not child.process.no_new_privileges
    if filters or any(kind is Namespace.CGROUP for kind, _ in child.join):
        needed |= _SYS_ADMIN  # to load a filter or join that namespace. seccomp(2), setns(2)
    if child.process.rlimits:
        needed |= _SYS_RESOURCE
    if child.process.scheduler or child.process.io_priority:
        needed |= _SYS_NICE
    return needed


def set_capabilities(child: Child) -> None:
    """Set the program's capabilities, as far as we have them."""
    _, have, _ = capabilities.capget()
    given = child.process.capabilities.within(have)
    capabilities.capset(given.effective, given.permitted, given.inheritable)
    if child.process.capabilities.ambient:
        capabilities.set_ambient(given.ambient)


def forgo_privileges(child: Child) -> None:
    """Set no_new_privs: exec gains no privileges."""
    del child
    set_no_new_privileges()
