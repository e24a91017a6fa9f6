"""What is attached, on disk: for the DEL, CHECK and GC that come after a restart.

    FOLDER/results/NETWORK@CONTAINER@INTERFACE.json    one attachment
    FOLDER/locks/                                      who works (locks.py)

A record is there before the first plugin is run and says after each what there is, so
whatever a killed ADD has left is found. A file is replaced whole, by rename. It is not
synchronized to the disk: a machine that loses power has lost its interfaces too, and
the name of a file that came back empty says enough to give addresses free.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orlop.errors import CorruptError, OrlopError
from orlop.model import jsontext
from orlop.network.cni import configuration, names
from orlop.network.cni.configuration import Configuration

_SEPARATOR = "@"  # in no name of a network or container
_SUFFIX = ".json"


class Key(NamedTuple):
    """Which attachment: of a container to a network, by an interface."""

    network: str
    container: str
    interface: str


class Record(NamedTuple):
    """An attachment, or as much of it as was made.

    *namespace* is a path, *identity* what it then led to. *result* is JSON of the
    network's version, that of the last plugin that has ended well; it is *complete* once
    all have.
    """

    key: Key
    network: Configuration | None = None
    namespace: str = ""
    identity: str = ""
    arguments: str = ""
    capabilities: Mapping[str, Any] = {}
    result: Mapping[str, Any] | None = None
    complete: bool = False


class Cache:
    """The records of one folder. Who holds a container's lock may change its own."""

    def __init__(self, folder: Path) -> None:
        self.locks = folder / "locks"
        self._results = folder / "results"
        for path in (self.locks, self._results):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, record: Record) -> None:
        """Write *record* in place of what there was of its key."""
        document = record._asdict()
        document["key"] = list(record.key)
        document["network"] = record.network and record.network.document()
        path = self._path(record.key)
        beside = path.with_suffix(".new")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(jsontext.dumps(document))
        beside.replace(path)

    def get(self, key: Key) -> Record | None:
        """Return the record of *key*: with nothing but the key where the file cannot be read."""
        try:
            text = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        with contextlib.suppress(OrlopError, UnicodeError, ValueError, TypeError):
            return _decoded(key, jsontext.loads(text))
        return Record(key)

    def forget(self, key: Key) -> None:
        """Remove the record of *key*; none is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def keys(self) -> Iterator[Key]:
        """Yield which attachments there are, or may be."""
        for name in sorted(os.listdir(self._results)):
            parts = name.removesuffix(_SUFFIX).split(_SEPARATOR, 2)
            if name.endswith(_SUFFIX) and len(parts) == 3:
                yield Key(*parts)

    def _path(self, key: Key) -> Path:
        names.check_network(key.network)
        names.check_container(key.container)
        names.check_interface(key.interface)
        return self._results / f"{_SEPARATOR.join(key)}{_SUFFIX}"


def _decoded(key: Key, document: Any) -> Record:
    if not isinstance(document, dict) or document.pop("key", None) != list(key):
        raise CorruptError(f"the record of {key} is of another")
    network = document.pop("network")
    record = Record(key, **document)
    kinds = {"namespace": str, "identity": str, "arguments": str, "capabilities": dict}
    if not all(isinstance(getattr(record, name), kind) for name, kind in kinds.items()):
        raise CorruptError(f"the record of {key} is not one")
    return record._replace(network=network and configuration.parse(network))
