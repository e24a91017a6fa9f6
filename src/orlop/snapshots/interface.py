"""What a snapshot driver promises; what others may extend.

A driver keeps unpacked layers by key, and writable snapshots by name, and says
which mounts put the two together. It mounts nothing that outlives a call. The
contract is tests/integration/snapshots/contract.py; a driver of another package
registers in the entry-point group `orlop.snapshots`, as the built-in ones do.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NewType, Protocol

from orlop.layers.budget import DEFAULT, Budget
from orlop.layers.diff import Change
from orlop.layers.tar import Stream
from orlop.layers.write import Output
from orlop.model.digest import DiffID, parse_digest
from orlop.model.mount import Mount
from orlop.model.pool import Stock

#: Names an unpacked layer: its DiffID, since one that leaves attributes of
#: folders to the layers below is mended per stack by the driver (stacks.py),
#: so that shared layers are unpacked once, and all in parallel.
LayerKey = NewType("LayerKey", str)


def layer_key(diff_id: DiffID | str) -> LayerKey:
    """Return the key of the layer; InvalidArgumentError if *diff_id* is no digest."""
    return LayerKey(parse_digest(diff_id))


class Snapshots(Protocol):
    """A driver. *layers* are bottom first, as in an image's configuration.

    Methods raise NotFoundError for what is not there, ExhaustedError for a full
    disk, InvalidArgumentError for a name that is none. Any number of processes
    may add layers and stack them at once; one (the engine) uses the rest, from any thread.
    """

    name: str
    copies: bool  # prepare() copies files, and takes long

    def show_everywhere(self, name: str) -> None:
        """Show the empty file *name* in the root of all snapshots, where their layers have none.

        It is no change of a snapshot. A driver that *copies* ignores this. Call it first.
        """

    def has_layer(self, key: LayerKey) -> bool:
        """Whether the layer is here, whole, and was so before any power cut since."""

    def add_layer(self, key: LayerKey, tar: Stream, *, budget: Budget = DEFAULT) -> int:
        """Make a layer of an uncompressed tar; returns the bytes it takes on disk.

        It appears whole or not at all; one that is there already is left as it
        is, the stream read to its end. CorruptError if the archive is bad, ExhaustedError
        if it asks for more than its *budget*.
        Call sync() some time after, or a power cut takes the layer away again.
        """

    def remove_layer(self, key: LayerKey) -> None:
        """Remove the layer; one that is already gone is no error. Quick: see collect()."""

    def layers(self) -> set[LayerKey]:
        """Return the keys of the layers that are here."""

    def layer_usage(self, key: LayerKey) -> int:
        """Return the bytes the layer takes on disk."""

    def is_stacked(self, layers: Sequence[LayerKey]) -> bool:
        """Whether the layers are here, and prepare() and mounts() of them quick. No I/O."""

    def find_stack(self, layers: Sequence[LayerKey]) -> bool:
        """As is_stacked(), but look at the disk too, for what stack() of another process made."""

    def stack(self, layers: Sequence[LayerKey], *, budget: Budget = DEFAULT) -> None:
        """Make ready what *layers* need together; prepare() and mounts() else do so first.

        It may take long. Its time and size count against the *budget*: ExhaustedError.
        """

    def prepare(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        *,
        base: Sequence[Mount] = (),
        size_bytes: int = 0,
    ) -> None:
        """Make a writable snapshot on *layers*. AlreadyExistsError if the name is taken.

        *base*: more mounts inside the root, after it. An overlay there with only
        `lowerdir+=` gets a writable upper layer of this snapshot (images/host.py).
        With *size_bytes* it takes no more; UnsupportedError where that cannot be.
        """

    def copy(self, snapshot: str, source: str) -> None:
        """Give *snapshot*, just prepared, the files of *source*: of the same layers and base.

        Nothing in *source* changes meanwhile. Data is shared where the file system can.
        """

    def mounts(
        self, snapshot: str, layers: Sequence[LayerKey], *, readonly: bool = False
    ) -> tuple[Mount, ...]:
        """Return the mounts that make the snapshot's root; with *readonly*, none can be written."""

    def remove(self, snapshot: str) -> None:
        """Remove the snapshot; one that is already gone is no error. Quick: see collect()."""

    def snapshots(self) -> set[str]:
        """Return the names of the snapshots that are here."""

    def ahead(self) -> Stock:
        """Return how the pool of writable snapshots stands, which have no name yet."""

    def usage(self, snapshot: str) -> int:
        """Return the bytes the snapshot's own changes take on disk."""

    def changes(
        self, snapshot: str, layers: Sequence[LayerKey], *, mount_points: Collection[str] = ()
    ) -> Iterator[Change]:
        """Yield what differs from *layers*, in order of path.

        *mount_points* are left out where they are empty and *layers* do not have them.
        """

    def export_diff(
        self,
        snapshot: str,
        layers: Sequence[LayerKey],
        out: Output,
        *,
        mount_points: Collection[str] = (),
    ) -> None:
        """Write what changes() yields as the tar of a layer."""

    def sync(self) -> None:
        """Return when every layer added so far would outlive a power cut."""

    def collect(self) -> int:
        """Delete what remove_layer(), remove() and killed processes left; returns how many trees.

        Slow, safe at any time, and touches nothing that a live process is making.
        """
