"""Field masks: which labels of a record an Update changes."""

from collections.abc import Mapping, Sequence

from orlop.errors import InvalidArgumentError

_PREFIX = "labels."


def masked_labels(
    before: Mapping[str, str], asked: Mapping[str, str], paths: Sequence[str]
) -> dict[str, str]:
    """Return *before* with what *asked* has at *paths*.

    "labels", or no paths, replaces all labels, "labels.KEY" changes one. A label that is set to
    "" is removed.
    """
    if not paths or "labels" in paths:
        after = dict(asked)
    else:
        after = dict(before)
        for path in paths:
            if not path.startswith(_PREFIX):
                raise InvalidArgumentError(f"the field {path[:80]!r} cannot be changed")
            key = path.removeprefix(_PREFIX)
            after[key] = asked.get(key, "")
    return {key: value for key, value in after.items() if value}
