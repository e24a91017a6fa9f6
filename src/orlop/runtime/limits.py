"""Steps: names, limits and scheduling; a refusal that a container can tolerate is no failure."""

import os
import resource

from orlop.kernel.keyring import join_session_keyring
from orlop.kernel.namespaces import setdomainname, sethostname
from orlop.kernel.process import personality, set_io_priority, set_scheduler
from orlop.model.light_context import suppress
from orlop.runtime.allowance import within
from orlop.runtime.child import Child
from orlop.runtime.scheduling import MemoryPolicy


def set_oom_score(child: Child) -> None:
    """Set our OOM score; lowering it needs CAP_SYS_RESOURCE, without which it stays."""
    score = child.process.oom_score_adj
    if score is None:
        return
    with suppress(PermissionError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)


def set_names(child: Child) -> None:
    """Set host name and domain name in our UTS namespace."""
    if child.plan.hostname:
        sethostname(child.plan.hostname)
    if child.plan.domainname:
        setdomainname(child.plan.domainname)


def set_rlimits(child: Child) -> None:
    """Set the limits; one above what we may set becomes the highest that we may: allowance.py."""
    for limit in child.process.rlimits:
        try:
            resource.setrlimit(limit.number, (limit.soft, limit.hard))
        except (ValueError, PermissionError):
            number, soft, hard = within(limit)
            resource.setrlimit(number, (soft, hard))


def set_scheduling(child: Child) -> None:
    """Set execution domain, scheduler and I/O priority, if the bundle has them."""
    if child.personality is not None:
        personality(child.personality)
    if child.process.scheduler:
        policy, flags, nice, priority, deadline = child.process.scheduler
        set_scheduler(policy, flags=flags, nice=nice, priority=priority, deadline=deadline)
    if child.process.io_priority:
        set_io_priority(*child.process.io_priority)
    if child.memory_policy:
        _set_memory_policy(child.memory_policy)
    if child.container is None and child.process.affinity and child.process.affinity.final:
        os.sched_setaffinity(0, child.process.affinity.final)


def set_initial_affinity(child: Child) -> None:
    """Move to the processors that a later process uses until it is in its cgroup."""
    if child.process.affinity and child.process.affinity.initial:
        os.sched_setaffinity(0, child.process.affinity.initial)


def _set_memory_policy(policy: MemoryPolicy) -> None:
    from orlop.kernel.numa import set_memory_policy  # the parent has loaded it

    try:
        set_memory_policy(policy.mode, policy.nodes)
    except OSError as error:
        raise OSError(error.errno, f"linux.memoryPolicy: {error.strerror}") from None


def join_keyring(child: Child) -> None:
    """Join a new session keyring, not the caller's; the host may have no keys left.

    Other processes must not find it: otherwise anybody who knows the id could join it.
    """
    if child.keyring:
        with suppress(OSError):
            join_session_keyring(child.keyring)
