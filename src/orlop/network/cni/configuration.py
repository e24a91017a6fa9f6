"""Network configurations: files in a folder, each a network set up by a chain of plugins.

    NAME.conflist, or any with "plugins"    a chain
    NAME.conf, NAME.json                    one plugin

Plugins in a folder beside it with the network's name are added to a chain, unless it has
loadOnlyInlinedPlugins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orlop.errors import CorruptError, InvalidArgumentError, NotFoundError, OrlopError
from orlop.model import jsontext
from orlop.network.cni import names, versions

_SUFFIXES = (".conflist", ".conf", ".json")
_MOST_BYTES = 1 << 20
_MOST_PLUGINS = 100
#: Keys of a plugin's input that only the runtime may set.
_OURS = ("runtimeConfig", "prevResult", "capabilities")


class Configuration(NamedTuple):
    """A network: its plugins in the order of ADD, each with its own settings."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON for parse()."""
        return {
            "cniVersion": self.version,
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": True,
            "plugins": [dict(plugin) for plugin in self.plugins],
        }

    def for_plugin(
        self,
        plugin: Mapping[str, Any],
        capabilities: Mapping[str, Any],
        previous: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Return the input of *plugin*: its settings, and those *capabilities* that it has."""
        given = {
            key: value
            for key, value in plugin.items()
            if key not in _OURS and not key.startswith("cni.dev/")
        }
        given.update(name=self.name, cniVersion=self.version)
        has = plugin.get("capabilities") or {}
        if wanted := {key: value for key, value in capabilities.items() if has.get(key) is True}:
            given["runtimeConfig"] = wanted
        if previous is not None:
            given["prevResult"] = dict(previous)
        return given


class Loaded(NamedTuple):
    """The content of a folder: networks by name, in the order of their files, and errors."""

    networks: Mapping[str, Configuration]
    problems: Sequence[str]


def parse(document: object, *, folder: Path | None = None) -> Configuration:
    """Return the network in a JSON *document*; InvalidArgumentError says what is wrong.

    More plugins are read from *folder*, if it is given and the document allows it.
    """
    if not isinstance(document, Mapping):
        raise InvalidArgumentError("it is not a JSON object")
    name = document.get("name")
    if not isinstance(name, str):
        raise InvalidArgumentError("it has no name")
    names.check_network(name)
    if "plugins" in document or "type" not in document:
        plugins = _chain(document, name, folder)
    else:
        plugins = [document]
    for index, plugin in enumerate(plugins):
        _check_plugin(plugin, f"plugins[{index}]")
    return Configuration(
        name,
        _version(document, name),
        tuple(plugins),
        disable_check=_flag(document, "disableCheck"),
        disable_gc=_flag(document, "disableGC"),
    )


def _chain(document: Mapping[str, Any], name: str, folder: Path | None) -> list[Mapping[str, Any]]:
    inlined = document.get("plugins", [])
    if not isinstance(inlined, list):
        raise InvalidArgumentError("plugins is not a list")
    plugins = list(inlined)
    if folder is not None and not _flag(document, "loadOnlyInlinedPlugins"):
        for path in _files(folder / name, (".conf",)):
            plugins.append(_read(path))
    if not plugins:
        raise InvalidArgumentError("it has no plugins")
    if len(plugins) > _MOST_PLUGINS:
        raise InvalidArgumentError(f"it has more than {_MOST_PLUGINS} plugins")
    return plugins


def _check_plugin(plugin: object, where: str) -> None:
    if not isinstance(plugin, Mapping):
        raise InvalidArgumentError(f"{where} is not a JSON object")
    names.check_type(plugin.get("type"), f"{where}.type")
    ipam = plugin.get("ipam")
    if isinstance(ipam, Mapping) and ipam.get("type"):
        names.check_type(ipam["type"], f"{where}.ipam.type")
    if not isinstance(plugin.get("capabilities") or {}, Mapping):
        raise InvalidArgumentError(f"{where}.capabilities is not a JSON object")


def _version(document: Mapping[str, Any], name: str) -> str:
    several = document.get("cniVersions") or []
    one = document.get("cniVersion") or ""
    if not isinstance(several, list) or not all(isinstance(v, str) for v in [*several, one]):
        raise InvalidArgumentError("cniVersion is not text, or cniVersions no list of it")
    wanted = [*several, *([one] if one else [])]
    for version in wanted:
        versions.numbers(version)
    return versions.newest(wanted, f"network {name}")


def _flag(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key, False)
    if value in ("true", "false"):  # older files use strings
        return bool(value == "true")
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{key} is neither true nor false")
    return value


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.suffix in suffixes and path.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda path: path.name)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InvalidArgumentError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        return jsontext.loads(text)
    except CorruptError as error:
        raise InvalidArgumentError(str(error)) from error
    except OSError as error:
        raise InvalidArgumentError(error.strerror or str(error)) from error


def load_file(path: Path) -> Configuration:
    """Return the network of one file; InvalidArgumentError names the file."""
    try:
        return parse(_read(path), folder=path.parent)
    except OrlopError as error:
        raise type(error)(f"CNI network of {path}: {error.args[0]}", hint=error.hint) from error


def load(folder: Path) -> Loaded:
    """Return the networks of a folder; a wrong file does not affect the others."""
    networks: dict[str, Configuration] = {}
    problems: list[str] = []
    for path in _files(folder, _SUFFIXES):
        try:
            network = load_file(path)
        except OrlopError as error:
            problems.append(str(error))
            continue
        if network.name in networks:
            problems.append(f"CNI network of {path}: there is another of the name {network.name}")
        else:
            networks[network.name] = network
    return Loaded(networks, problems)


def find(folder: Path, name: str) -> Configuration:
    """Return the network with that *name*; the folder's first one if it is empty."""
    loaded = load(folder)
    for network in loaded.networks.values():
        if not name or network.name == name:
            return network
    hint = "; ".join(loaded.problems) or None
    raise NotFoundError(f"there is no CNI network {name}".rstrip() + f" in {folder}", hint=hint)
