"""What exists: images, containers, volumes, networks, layers, snapshots. SQLite keeps it.

Every method is one transaction: when it returns the change is there, when it
raises it is not. Safe in threads. Writing costs some 30 microseconds; a full or
read-only disk raises ExhaustedError or WrongStateError and changes nothing.
"""

import logging
import sqlite3
import threading
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from orlop.errors import AlreadyExistsError, NotFoundError, OrlopError
from orlop.model.container import Container, Volume
from orlop.model.digest import Digest
from orlop.model.image import Descriptor
from orlop.model.network import Network
from orlop.model.reference import Reference, parse_reference
from orlop.store.builds import Builds
from orlop.store.content import Content
from orlop.store.database import Database
from orlop.store.leases import Leases
from orlop.store.memberships import Memberships
from orlop.store.namespaces import Namespaces
from orlop.store.objects import has_objects

if TYPE_CHECKING:
    from orlop.store.clients import ClientRecords

log = logging.getLogger(__name__)


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """A name, and the image that it means now.

    *name* is a canonical reference; `dangling@sha256:…` (see dangling_name())
    is the record of an image that lost its last name.
    """

    name: str
    target: Descriptor  # what the registry calls it: an index or a manifest
    manifest: Descriptor  # of the platform that is here; the same as target if that is a manifest
    config: Digest  # Docker's image id
    created_ns: int  # when it got this name
    labels: dict[str, str] = {}

    @property
    def dangling(self) -> bool:
        return self.name.startswith("dangling@")

    @cached_property
    def reference(self) -> Reference:
        """The name as a value. Only for an image that is not dangling."""
        return parse_reference(self.name, default_tag=None)


class LayerRecord(NamedTuple):
    driver: str
    key: str
    size: int  # bytes on disk
    created_ns: int


def dangling_name(config: Digest) -> str:
    """Return the record name of an image without a name; no reference is spelled so."""
    return f"dangling@{config}"


class Metadata:
    """All records of one engine, by kind."""

    def __init__(self, path: Path, content: Content, *, spare: Path | None = None) -> None:
        self._database = Database(path, spare=spare)
        self.images = Images(self._database, content)
        self.containers = Containers(self._database)
        self.volumes = Volumes(self._database)
        self.networks = Networks(self._database)
        self.layers = Layers(self._database)
        self.leases = Leases()
        self.builds = Builds(self._database)
        self.memberships = Memberships(self._database)
        self.namespaces = Namespaces(self._database)

    @property
    def has_reserve(self) -> bool:
        """Whether records can still be changed and removed when the disk is full."""
        return self._database.has_reserve

    @property
    def is_read_only(self) -> bool:
        """Whether a copy is read, because its disk cannot be written."""
        return self._database.is_read_only

    @cached_property
    def clients(self) -> "ClientRecords":
        """What containerd's clients keep; loaded when it is needed."""
        from orlop.store.clients import ClientRecords

        return ClientRecords(self._database)

    @property
    def has_clients(self) -> bool:
        """Whether containerd's clients keep anything."""
        return has_objects(self._database)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Images:
    """Images by name. The content's index.json follows each change.

    Where that file cannot be written, the change stands, and *is_behind* is true
    until publish() is called with success. It is so at first, too: an engine
    that was killed may have left it undone.
    """

    def __init__(self, database: Database, content: Content) -> None:
        self._database = database
        self._content = content
        self._publishing = threading.Lock()
        self.is_behind = True
        self._decode = msgspec.json.Decoder(ImageRecord).decode

    def put(self, record: ImageRecord) -> ImageRecord | None:
        """Give the name to this image, and return the one that had it.

        An image that so loses its last name stays, as a dangling record.
        """
        with self._database.write(adds=True) as connection:
            before = self._find(connection, record.name)
            _put_image(connection, record)
            if before is not None and before.config != record.config:
                self._leave(connection, before)
            if not record.dangling:
                connection.execute(
                    "DELETE FROM images WHERE name = ?", (dangling_name(record.config),)
                )
        self._follow()
        return before

    def get(self, name: str) -> ImageRecord:
        """Return the image of this exact name; NotFoundError if there is none."""
        with self._database.read() as connection:
            record = self._find(connection, name)
        if record is None:
            raise NotFoundError(f"no image {name}")
        return record

    def list(self) -> list[ImageRecord]:
        """Return every record, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM images ORDER BY name").fetchall()
        return [self._decode(record) for (record,) in rows]

    def remove(self, name: str) -> None:
        """Take the name away; a name that is gone is no error. The collector does the rest."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM images WHERE name = ?", (name,))
        self._follow()

    def publish(self) -> None:
        """Write the content's index.json anew."""
        with self._publishing:  # so that the last one to write has read last
            self.is_behind = True
            self._content.publish({image.name: image.manifest for image in self.list()})
            self.is_behind = False

    def _follow(self) -> None:
        try:
            self.publish()
        except OrlopError as error:
            log.warning("index.json does not follow the images", extra={"why": str(error)})

    def _find(self, connection: sqlite3.Connection, name: str) -> ImageRecord | None:
        row = connection.execute("SELECT record FROM images WHERE name = ?", (name,)).fetchone()
        return self._decode(row[0]) if row else None

    def _leave(self, connection: sqlite3.Connection, image: ImageRecord) -> None:
        rows = connection.execute("SELECT record FROM images").fetchall()
        if all(self._decode(record).config != image.config for (record,) in rows):
            _put_image(connection, msgspec.structs.replace(image, name=dangling_name(image.config)))


def _put_image(connection: sqlite3.Connection, record: ImageRecord) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO images VALUES (?, ?)", (record.name, msgspec.json.encode(record))
    )


class Containers:
    """Containers by id; a name is held by one of them at most."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decode = msgspec.json.Decoder(Container).decode

    def add(self, container: Container) -> None:
        """Record a new container; AlreadyExistsError if its name or id is taken."""
        row = (container.id, container.name, msgspec.json.encode(container))
        try:
            with self._database.write(adds=True) as connection:
                connection.execute("INSERT INTO containers VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise self._taken(container.name) from None

    def save(self, container: Container) -> None:
        """Record a change, of the name too; NotFoundError, AlreadyExistsError."""
        row = (container.name, msgspec.json.encode(container), container.id)
        try:
            with self._database.write() as connection:
                done = connection.execute(
                    "UPDATE containers SET name = ?, record = ? WHERE id = ?", row
                )
        except sqlite3.IntegrityError:
            raise self._taken(container.name) from None
        if done.rowcount == 0:
            raise NotFoundError(f"no container {container.id[:12]}")

    def get(self, id: str) -> Container:  # noqa: A002 (the domain's word)
        """Return the container with this whole id; NotFoundError if there is none."""
        with self._database.read() as connection:
            row = connection.execute("SELECT record FROM containers WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFoundError(f"no container {id[:64]}")
        return self._decode(row[0])

    def list(self) -> list[Container]:
        """Return every container."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM containers").fetchall()
        return [self._decode(record) for (record,) in rows]

    def remove(self, id: str) -> None:  # noqa: A002 (the domain's word)
        """Forget the container; one that is gone is no error."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM containers WHERE id = ?", (id,))

    def _taken(self, name: str) -> AlreadyExistsError:
        return AlreadyExistsError(
            f"the container name {name} is in use", hint="remove that container, or rename it"
        )


class Volumes:
    """Volumes by name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._decode = msgspec.json.Decoder(Volume).decode

    def add(self, volume: Volume) -> None:
        """Record a new volume; AlreadyExistsError if the name is taken."""
        row = (volume.name, msgspec.json.encode(volume))
        try:
            with self._database.write(adds=True) as connection:
                connection.execute("INSERT INTO volumes VALUES (?, ?)", row)
        except sqlite3.IntegrityError:
            raise AlreadyExistsError(f"the volume {volume.name} exists") from None

    def get(self, name: str) -> Volume:
        """Return the volume; NotFoundError if there is none."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT record FROM volumes WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise NotFoundError(f"no volume {name}")
        return self._decode(row[0])

    def list(self) -> list[Volume]:
        """Return every volume, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM volumes ORDER BY name").fetchall()
        return [self._decode(record) for (record,) in rows]

    def remove(self, name: str) -> None:
        """Forget the volume; one that is gone is no error."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))


class Networks:
    """Networks by id; a name is held by one of them at most."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, network: Network) -> None:
        """Record a new network or a change; AlreadyExistsError if another has its name."""
        row = (network.id, network.name, msgspec.json.encode(network))
        try:
            with self._database.write(adds=True) as connection:
                connection.execute(
                    "INSERT INTO networks VALUES (?, ?, ?) ON CONFLICT (id)"
                    " DO UPDATE SET name = excluded.name, record = excluded.record",
                    row,
                )
        except sqlite3.IntegrityError:
            raise AlreadyExistsError(f"network with name {network.name} already exists") from None

    def list(self) -> list[Network]:
        """Return every network."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT record FROM networks").fetchall()
        return [msgspec.json.decode(record, type=Network) for (record,) in rows]

    def remove(self, id: str) -> None:  # noqa: A002 (the domain's word)
        """Forget the network; one that is gone is no error."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM networks WHERE id = ?", (id,))


class Layers:
    """Unpacked or indexed layers, by driver and key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, layer: LayerRecord) -> None:
        with self._database.write(adds=True) as connection:
            connection.execute("INSERT OR REPLACE INTO layers VALUES (?, ?, ?, ?)", layer)

    def list(self) -> list[LayerRecord]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT driver, key, size, created_ns FROM layers").fetchall()
        return [LayerRecord(*row) for row in rows]

    def remove(self, driver: str, key: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM layers WHERE driver = ? AND key = ?", (driver, key))
