"""The attachments, on disk: for a DEL, CHECK or GC after a restart.

    FOLDER/results/NETWORK@CONTAINER@INTERFACE.json    one attachment
    FOLDER/locks/                                      locks for running plugins (locks.py)

A record is written before the first plugin runs, and after each one, so everything that a
killed ADD has left is found. A file is replaced by rename. It is not flushed to disk: after a
power failure the interfaces are lost too, and the name of an empty file is enough to free the
addresses.
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

_SEPARATOR = "@"  # not allowed in names of networks and containers
_SUFFIX = ".json"


class Key(NamedTuple):
    """The key of an attachment: network, container, and interface."""

    network: str
    container: str
    interface: str


class Record(NamedTuple):
    """An attachment, or the part of it that was made.

    *namespace* is a path, *identity* the namespace that it then led to. *result* is JSON of
    the network's version, from the last plugin that succeeded; it is *complete* after the
    last plugin.
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
    """The records of one folder. The holder of a container's lock may change its records."""

    def __init__(self, folder: Path) -> None:
        self.locks = folder / "locks"
        self._results = folder / "results"
        for path in (self.locks, self._results):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, record: Record) -> None:
        """Write *record*, replacing an older one with the same key."""
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
        """Return the record of *key*; only the key if the file cannot be read."""
        try:
            text = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        with contextlib.suppress(OrlopError, UnicodeError, ValueError, TypeError):
            return _decoded(key, jsontext.loads(text))
        return Record(key)

    def forget(self, key: Key) -> None:
        """Remove the record of *key*; a missing one is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    def keys(self) -> Iterator[Key]:
        """Yield the keys of all attachments, complete or not."""
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
