"""What a container has to itself, and so what can be done with it.

The only place that asks whether a container was started by a recipe, is a pod, or has a
config.json of its client's.
"""

from typing import NamedTuple

from orlop.errors import UnsupportedError
from orlop.model.container import Container

#: The runtime of containers in virtual machines.
VM = "vm"


class Kind(NamedTuple):
    """What all containers that start in the same way have, and what they lack."""

    is_stored: bool  # its record is on disk, and it is kept after its end
    has_snapshot: bool  # its files are in a snapshot; otherwise in the shim's memory
    has_own_cgroup: bool  # made for it and named by its id; otherwise reused by other containers
    has_shared_files: bool  # hosts and resolv.conf are the engine's files, mounted into it
    has_own_command: bool  # its options name its command; otherwise each start names one
    can_be_joined: bool  # others may share its namespaces, which nobody reuses
    shows_pauses: bool  # a short stop is recorded and published, as `docker commit` does


_STORED = Kind(
    is_stored=True,
    has_snapshot=True,
    has_own_cgroup=True,
    has_shared_files=True,
    has_own_command=True,
    can_be_joined=True,
    shows_pauses=True,
)
_BY_RECIPE = Kind(
    is_stored=False,
    has_snapshot=False,
    has_own_cgroup=False,
    has_shared_files=False,
    has_own_command=False,
    can_be_joined=False,
    shows_pauses=False,
)
_GIVEN = Kind(
    is_stored=True,
    has_snapshot=True,
    has_own_cgroup=True,
    has_shared_files=False,
    has_own_command=True,
    can_be_joined=True,
    shows_pauses=True,
)
_POD = Kind(
    is_stored=True,
    has_snapshot=False,
    has_own_cgroup=False,
    has_shared_files=False,
    has_own_command=False,
    can_be_joined=False,
    shows_pauses=False,
)


_IN_MACHINE = _STORED._replace(can_be_joined=False)


def kind_of(container: Container) -> Kind:
    """Return what *container*, which may be a pod, has and lacks."""
    if container.is_pod:
        return _POD
    if container.options.spec:
        return _GIVEN
    if container.recipe:
        return _BY_RECIPE
    return _IN_MACHINE if is_in_machine(container) else _STORED


def is_in_machine(container: Container) -> bool:
    """Whether it runs in a virtual machine: engine/machines.py."""
    return container.options.runtime == VM


def refuse_in_machine(container: Container, what: str) -> None:
    """Raise UnsupportedError if only a guest's kernel could do *what*."""
    if is_in_machine(container):
        raise UnsupportedError(f"the runtime {VM} does not have {what}")


def bundle_of(container: Container) -> str:
    """Return whose bundle and mounted folders it uses: its recipe's id, or its own."""
    return container.recipe or container.id
