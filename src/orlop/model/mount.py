"""A mount, as snapshots hand it to the runtime. Light: the shim imports this."""

from orlop.model.light import NamedTuple


class Mount(NamedTuple):
    """One mount to make, in the words of mount(8).

    The mounts of a root file system come as a list, to be made in order inside
    the container's own mount namespace. The one whose *target* is "/" is the
    root; a mount with an empty *target* is made detached (fsmount(2)), and an
    overlay above it refers to it by its place in the list:

        Mount("erofs", "/…/a.erofs", "", ("ro",)),
        Mount("erofs", "/…/b.erofs", "", ("ro",)),
        Mount("overlay", "overlay", "/", ("lowerdir+=mount:1", "lowerdir+=mount:0",
                                          "upperdir=/…/fs", "workdir=/…/work")),

    Lower layers are named top-most first. A `lowerdir+=` that is a path is a
    plain directory. `mount:N/NAME` is the folder NAME in the N-th mount. The
    source of a detached "ext4" is a file. A bind mount is type "bind" with
    option "rbind" or "bind".
    """

    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()
