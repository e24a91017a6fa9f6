"""What all containers of one request have in common, and all processes of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orlop.runtime.child import ContainerPlan
    from orlop.runtime.plan import ProcessPlan
    from orlop.runtime.seccomp import Filter
    from orlop.runtime.users import Identity


class ProcessRecipe(NamedTuple):
    """What all processes of one kind have in common; command and environment are each one's."""

    plan: ProcessPlan  # with no more capabilities than we have to give
    who: Identity
    filter: Filter | None
    permitted: int  # capabilities that we have
    dropped: int  # those to be taken out of the bounding set
    steps: tuple[str, ...]  # in order; the table has all of them


class Layer(NamedTuple):
    """An overlay: of descriptors, by their place, topmost first; and what is set besides."""

    destination: str
    lowers: tuple[int, ...]
    options: tuple[tuple[str, str | None], ...]
    attributes: int
    mode: int  # of the folder that takes what is written
    uid: int
    gid: int


class Recipe(NamedTuple):
    """Descriptors are named by their place among those that come with it."""

    container: ContainerPlan
    process: ProcessRecipe
    layers: tuple[Layer, ...]  # that of the root first
    binds: dict[int, int]  # place of a mount in the plan: descriptor
    files: dict[str, str]  # what is in the files that each start gets of its own
    given: dict[int, bool]  # place of a mount that each start brings along: whether it is a file
    durable: bool  # it outlives the shim, which notes it before its program runs
    targets: tuple[tuple[str, ...], ...]  # folders above each mount's that are to be made
    folders: tuple[str, ...]  # to be made: the working directory and those above it
    masked: tuple[tuple[str, bool], ...]  # path, whether it is a folder
    readonly: tuple[str, ...]
