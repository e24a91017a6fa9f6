"""From a container's record to its cgroup."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.engine.records import short
from orlop.engine.spec import cgroups_path
from orlop.errors import NotRunningError, WrongStateError
from orlop.model.container import Container
from orlop.runtime import cgroups


def cgroup_of(container: Container) -> cgroups.Cgroup:
    """Return a handle of it, which is not looked for."""
    path = container.cgroup or cgroups_path(container.options.cgroup_parent, container.id)
    return cgroups.open(path)


@contextmanager
def running_cgroup(container: Container) -> Iterator[cgroups.Cgroup]:
    """Give its cgroup. WrongStateError for what fails because the container ends meanwhile.

    Its processes and its cgroup go before its record says so.
    """
    try:
        yield cgroup_of(container)
    except TimeoutError as error:
        raise WrongStateError(f"Container {short(container.id)} does not freeze") from error
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        raise NotRunningError(f"Container {short(container.id)} is not running") from error
