"""From a container's record to its cgroup."""

from orlop.engine.spec import cgroups_path
from orlop.model.container import Container
from orlop.runtime import cgroups


def cgroup_of(container: Container) -> cgroups.Cgroup:
    """Return a handle of it, which is not looked for."""
    path = container.cgroup or cgroups_path(container.options.cgroup_parent, container.id)
    return cgroups.open(path)
