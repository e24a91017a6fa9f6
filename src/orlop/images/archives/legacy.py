"""Archives of Docker before 1.10, in which each layer is an image with a parent.

repositories            {"NAME": {"TAG": ID}}
ID/json                 the image: its configuration, id, parent and command
ID/layer.tar            what it adds to its parent
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from orlop.errors import CorruptError, InvalidArgumentError
from orlop.model.digest import Digest
from orlop.model.image import decode_config
from orlop.model.reference import parse_reference

_MOST_LAYERS = 127  # Docker had no more
_JSON = "/json"
#: Keys that do not belong in a configuration: Docker drops them as well.
_DROPPED = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")


class _Step(msgspec.Struct):
    """The part of a layer's document about its history."""

    parent: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    container_config: dict[str, Any] | None = None


class Chain:
    """The documents of one image's layers, from the image down: give() each *wanted* one."""

    def __init__(self, image: str) -> None:
        self.wanted = image
        self.layers: list[str] = []
        self._documents: list[bytes] = []
        self._steps: list[_Step] = []

    def give(self, document: bytes) -> None:
        """Add the document of the layer *wanted*; *wanted* is then its parent, or "".

        CorruptError if it is not valid, or the chain is too long.
        """
        if len(self.layers) >= _MOST_LAYERS:
            raise CorruptError(f"the archive has an image with more than {_MOST_LAYERS} layers")
        step = _decoded(document, _Step, self.wanted)
        self.layers.insert(0, self.wanted)
        self._documents.append(document)
        self._steps.insert(0, step)
        self.wanted = step.parent or ""

    def configuration(self, diff_ids: Sequence[Digest]) -> bytes:
        """Return the image's configuration in the form that Docker has had since 1.10.

        It is byte for byte what Docker makes of the archive, so the image has the same id.
        Raises CorruptError if a document is not valid.
        """
        tree = _decoded(self._documents[0], dict[str, msgspec.Raw], self.layers[-1])
        for name in _DROPPED:
            tree.pop(name, None)
        made: dict[str, Any] = {"architecture": "amd64", "os": "linux", **tree}
        made["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
        made["history"] = [_history(step) for step in self._steps]
        data = msgspec.json.encode(dict(sorted(made.items())))
        for character in b"<>&":
            data = data.replace(b"%c" % character, b"\\u%04x" % character)
        decode_config(data)
        return data


def _history(step: _Step) -> dict[str, str]:
    command = (step.container_config or {}).get("Cmd") or ()
    words = command if isinstance(command, list) else ()
    told = {
        "created": step.created,
        "created_by": " ".join(map(str, words)),
        "author": step.author,
        "comment": step.comment,
    }
    return {name: value for name, value in told.items() if value}


def names_of(repositories: bytes | None) -> dict[str, tuple[str, ...]]:
    """Return the references that `repositories` gives to images, by the images' ids."""
    if repositories is None:
        return {}
    found: dict[str, list[str]] = {}
    tree = _decoded(repositories, dict[str, dict[str, str]], "repositories")
    for repository, tags in tree.items():
        for tag, image in tags.items():
            try:
                found.setdefault(image, []).append(str(parse_reference(f"{repository}:{tag}")))
            except InvalidArgumentError as error:
                raise CorruptError(f"the archive names an image {repository[:100]!r}") from error
    return {image: tuple(names) for image, names in found.items()}


def layers_in(paths: Iterable[str]) -> list[str]:
    """Return the ids in an archive with the files *paths*."""
    ids = (path.removesuffix(_JSON) for path in paths if path.endswith(_JSON))
    return [layer for layer in ids if layer and "/" not in layer]


def without_parents(images: Mapping[str, str]) -> list[str]:
    """Return those of *images* (ids with their parents' ids) that are not a parent."""
    parents = set(images.values())
    return [image for image in images if image not in parents]


def _decoded(document: bytes, type_: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(document, type=type_)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptError(f"the archive's {what[:100]} is not valid: {error}") from error
