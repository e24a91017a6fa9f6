"""A mount, as snapshots pass it to the runtime. Imports little, for the shim."""

from orlop.model.light import NamedTuple


class Mount(NamedTuple):
    """One mount to make, in mount(8)'s terms.

    The mounts of a root file system come as a list, to be made in order inside
    the container's own mount namespace. The one whose *target* is "/" is the
    root; a mount with an empty *target* is made detached (fsmount(2)), and an
    overlay above it refers to it by its place in the list:

        Mount("erofs", "/…/a.erofs", "", ("ro",)),
        Mount("erofs", "/…/b.erofs", "", ("ro",)),
        Mount("overlay", "overlay", "/", ("lowerdir+=mount:1", "lowerdir+=mount:0",
                                          "upperdir=/…/fs", "workdir=/…/work")),

    Lower layers are listed top-most first. A path after `lowerdir+=` is a plain
    directory. `mount:N/NAME` is the folder NAME in the N-th mount. The source of
    a detached "ext4" is a file. A bind mount has the type "bind" and the option
    "rbind" or "bind".
    """

    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()
