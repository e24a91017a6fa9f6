"""CNI as a runtime: run plugins that connect network namespaces to networks.

Calls block, and are safe from several threads and processes (locks.py). Whatever is killed, the
cache has what was made, and delete() or collect() removes it.
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orlop.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnsupportedError,
    WrongStateError,
)
from orlop.network.cni import locks, names, program, result, versions
from orlop.network.cni.cache import Cache, Key, Record
from orlop.network.cni.configuration import Configuration
from orlop.network.cni.locks import Held
from orlop.network.cni.program import Plugins
from orlop.network.cni.result import Result

#: Variables of our environment that a plugin does not get.
_OURS = "CNI_"


class Attachment(NamedTuple):
    """A network namespace, by path, that gets an interface.

    /proc/PID/ns/net and /proc/PID/fd/N work as paths. *arguments* are CNI_ARGS,
    *capabilities* the result of capabilities.arguments().
    """

    container: str
    namespace: str
    interface: str = "eth0"
    arguments: Mapping[str, str] = {}
    capabilities: Mapping[str, Any] = {}


class Cni:
    """Plugins from some folders, and a folder that records their attachments.

    Plugins run in the network and mount namespace of the calling thread: the host's.
    """

    def __init__(self, folder: Path, plugins: Sequence[str], *, timeout_s: float = 60.0) -> None:
        """Use *folder*, /var/lib/… of one engine; *timeout_s* is each plugin's timeout."""
        self._cache = Cache(folder)
        self._plugins = Plugins(tuple(plugins), timeout_s)
        self._wait_s = 2 * timeout_s
        for path in plugins:
            if not path.startswith("/") or ":" in path or "\0" in path:
                raise InvalidArgumentError(f"folder of plugins {path!r} is not an absolute path")

    def add(self, network: Configuration, attachment: Attachment) -> Result:
        """Attach a namespace; if a plugin fails, DEL removes what is left.

        AlreadyExistsError if the attachment exists. The remains of a killed add() are
        removed first.
        """
        key = Key(network.name, attachment.container, attachment.interface)
        record = _new(network, attachment, key)
        with self._alone(key) as held:
            before = self._cache.get(key)
            if before is not None:
                if before.complete:
                    raise AlreadyExistsError(
                        f"container {key.container} is attached to network {key.network}"
                        f" by {key.interface} already"
                    )
                self._delete(before._replace(network=before.network or network), held)
            self._cache.save(record)
            return self._add(record, held)

    def _add(self, record: Record, held: Held) -> Result:
        network, command = _network(record), "ADD"
        try:
            for index, plugin in enumerate(network.plugins):
                out = self._call(record, plugin, command, held)
                document = program.document_of(plugin["type"], command, out)
                where = f"CNI plugin {plugin['type']}"
                current = result.parse(document, where=where)
                record = record._replace(
                    result=result.render(current, network.version),
                    complete=index + 1 == len(network.plugins),
                )
                self._cache.save(record)
        except BaseException as error:
            self._undo(record, held, error)
            raise
        return current

    def _undo(self, record: Record, held: Held, reason: BaseException) -> None:
        try:
            self._delete(record, held)
        except (OrlopError, OSError) as error:
            if isinstance(reason, OrlopError):
                more = f"and what it had done could not be undone: {error}"
                reason.hint = f"{reason.hint}; {more}" if reason.hint else more

    def delete(
        self, key: Key, *, namespace: str = "", fallback: Configuration | None = None
    ) -> None:
        """Detach, with the plugins that made the attachment; a missing one is no error.

        They run with add()'s configuration, even if the file has changed since. *fallback* is
        for an attachment that was made elsewhere. *namespace* is a path that leads to it now,
        if add()'s does not. When a plugin fails the rest stays, and is tried again the next
        time.
        """
        with self._alone(key) as held:
            record = self._cache.get(key) or Record(key)
            if record.network is None:
                record = record._replace(network=fallback)
            if record.network is None:
                if self._cache.get(key) is not None:
                    raise NotFoundError(
                        f"what container {key.container} has of network {key.network} is not"
                        " known any more",
                        hint="its record is damaged; give the network's configuration",
                    )
                return
            if namespace and not record.identity:
                record = record._replace(identity=_identity(namespace))
            self._delete(record, held, namespace)

    def _delete(self, record: Record, held: Held, namespace: str = "") -> None:
        network = _network(record)
        path = _path(record, namespace)
        if not versions.has_check(network.version):
            record = record._replace(result=None)
        for plugin in reversed(network.plugins):
            self._call(record, plugin, "DEL", held, path)
        self._cache.forget(record.key)

    def check(self, key: Key, *, namespace: str = "") -> None:
        """Raise a plugin's complaint about an attachment, NotFoundError if there is none."""
        with self._alone(key) as held:
            record = self._known(key)
            network = _network(record)
            if network.disable_check:
                return
            if not versions.has_check(network.version):
                raise UnsupportedError(
                    f"network {network.name} is of CNI version {network.version}, without CHECK"
                )
            path = _path(record, namespace)
            if not path:
                raise WrongStateError(f"the network namespace of container {key.container} is gone")
            for plugin in network.plugins:
                self._call(record, plugin, "CHECK", held, path)

    def result(self, key: Key) -> Result:
        """Return the result of add(); NotFoundError if there is no such attachment."""
        return result.parse(self._known(key).result, where=f"the record of {key.container}")

    def attachments(self) -> list[Key]:
        """Return all attachments, including incomplete ones."""
        return list(self._cache.keys())

    def collect(self, network: Configuration, keep: Collection[tuple[str, str]]) -> None:
        """Remove everything that no attachment in *keep* (containers and interfaces) needs.

        Our own attachments by DEL, the rest by the plugins' GC, if they have it. All are
        tried; the first error is raised at the end.
        """
        errors: list[OrlopError] = []
        with self._network(network.name, alone=True) as held:
            for key in self.attachments():
                if key.network == network.name and (key.container, key.interface) not in keep:
                    with _collected(errors), self._container(key.container) as own:
                        found = self._cache.get(key) or Record(key)
                        self._delete(found._replace(network=found.network or network), own)
            if versions.has_collection(network.version) and not network.disable_gc:
                valid = [{"containerID": c, "ifname": i} for c, i in sorted(keep)]
                # The second name is from the specification's first drafts.
                more = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
                for plugin in network.plugins:
                    with _collected(errors):
                        self._call_for_network(network, plugin, "GC", more, held)
        if errors:
            raise errors[0]

    def status(self, network: Configuration) -> None:
        """Raise the error that attaching to *network* would have now."""
        for plugin in network.plugins:
            self._plugins.find(plugin["type"])
            if versions.has_collection(network.version):
                self._call_for_network(network, plugin, "STATUS", {})

    def versions(self, plugin: str) -> tuple[str, ...]:
        """Return the versions of CNI that a plugin supports."""
        given = {"cniVersion": versions.LATEST}
        out = self._plugins.call(plugin, "VERSION", _environment(), given)
        told = program.document_of(plugin, "VERSION", out).get("supportedVersions")
        if not isinstance(told, list) or not all(isinstance(version, str) for version in told):
            raise UnsupportedError(f"CNI plugin {plugin} does not say which versions it has")
        return tuple(told)

    def validate(self, network: Configuration) -> None:
        """Raise UnsupportedError if a plugin does not support the network's version."""
        for plugin in network.plugins:
            have = self.versions(plugin["type"])
            if network.version not in have:
                raise UnsupportedError(
                    f"CNI plugin {plugin['type']} does not have version {network.version}",
                    hint=f"it has {', '.join(have)}",
                )

    def _known(self, key: Key) -> Record:
        record = self._cache.get(key)
        if record is None or not record.complete or record.result is None:
            raise NotFoundError(
                f"container {key.container} is not attached to network {key.network}"
                f" by {key.interface}"
            )
        return record

    @contextlib.contextmanager
    def _alone(self, key: Key) -> Iterator[Held]:
        names.check_network(key.network)
        names.check_container(key.container)
        names.check_interface(key.interface)
        with self._network(key.network), self._container(key.container) as held:
            yield held

    def _network(
        self, name: str, *, alone: bool = False
    ) -> contextlib.AbstractContextManager[Held]:
        return locks.network(self._cache.locks, name, wait_s=self._wait_s, alone=alone)

    def _container(self, name: str) -> contextlib.AbstractContextManager[Held]:
        return locks.container(self._cache.locks, name, wait_s=self._wait_s)

    def _call(
        self,
        record: Record,
        plugin: Mapping[str, Any],
        command: str,
        held: Held,
        namespace: str | None = None,
    ) -> bytes:
        path = record.namespace if namespace is None else namespace
        environment = _environment(
            CNI_CONTAINERID=record.key.container,
            CNI_NETNS=path,
            CNI_IFNAME=record.key.interface,
            CNI_ARGS=record.arguments,
        )
        given = _network(record).for_plugin(plugin, record.capabilities, record.result)
        return self._run(plugin["type"], command, environment, given, held)

    def _call_for_network(
        self,
        network: Configuration,
        plugin: Mapping[str, Any],
        command: str,
        more: Mapping[str, Any],
        held: Held | None = None,
    ) -> None:
        given = {**network.for_plugin(plugin, {}, None), **more}
        self._run(plugin["type"], command, _environment(), given, held)

    def _run(
        self,
        plugin: str,
        command: str,
        environment: Mapping[str, str],
        given: Mapping[str, Any],
        held: Held | None,
    ) -> bytes:
        try:
            began = held.began if held else None
            return self._plugins.call(plugin, command, environment, given, began=began)
        finally:
            if held:
                held.ended()


def _new(network: Configuration, attachment: Attachment, key: Key) -> Record:
    names.check_container(key.container)
    names.check_interface(key.interface)
    path = attachment.namespace
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"network namespace {path!r} is not an absolute path")
    identity = _identity(path)
    if not identity:
        raise NotFoundError(f"there is no network namespace {path}")
    arguments = _arguments(attachment.arguments)
    return Record(key, network, path, identity, arguments, attachment.capabilities)


def _identity(path: str) -> str:
    """Return the identity of the namespace at a path; "" if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _path(record: Record, namespace: str) -> str:
    """Return a path to the attached namespace, "" if none leads there any more.

    A path may lead to another namespace by now, as /proc/PID does after the pid is reused;
    plugins would remove interfaces that are not ours.
    """
    for path in (namespace, record.namespace):
        if path and record.identity and _identity(path) == record.identity:
            return path
    return ""


def _arguments(arguments: Mapping[str, str]) -> str:
    for key, value in arguments.items():
        if not key or any(c in ";=\0" for c in key) or any(c in ";\0" for c in value):
            raise InvalidArgumentError(
                f"CNI argument {key}={value} cannot be told", hint="';' ends an argument"
            )
    return ";".join(f"{key}={value}" for key, value in arguments.items())


def _environment(**ours: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    return {**kept, **ours}


def _network(record: Record) -> Configuration:
    if record.network is None:
        raise NotFoundError(f"network {record.key.network} is not known any more")
    return record.network


@contextlib.contextmanager
def _collected(errors: list[OrlopError]) -> Iterator[None]:
    try:
        yield
    except OrlopError as error:
        errors.append(error)
