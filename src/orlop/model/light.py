"""What is needed of typing at run time, without typing or collections: for rooms that start often.

typing costs 2 ms to import, and each of its NamedTuples 0.07 ms to make, of which
`orlop-runtime` has fifty: a fifth of its time. Type checkers see typing's own.
Figures: docs/decisions/runtime-start.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable as Callable
    from collections.abc import Collection as Collection
    from collections.abc import Iterable as Iterable
    from collections.abc import Iterator as Iterator
    from collections.abc import Mapping as Mapping
    from collections.abc import Sequence as Sequence
    from typing import Any as Any
    from typing import Generic as Generic
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import cast as cast
else:
    from _collections import _tuplegetter
    from _collections_abc import Callable as Callable  # without the rest of collections
    from _collections_abc import Collection as Collection
    from _collections_abc import Iterable as Iterable
    from _collections_abc import Iterator as Iterator
    from _collections_abc import Mapping as Mapping
    from _collections_abc import Sequence as Sequence

    #: In annotations only.
    Any = NoReturn = object

    def TypeVar(name: str) -> object:
        """Return a type variable, for annotations only."""
        return name

    class Generic:
        """A class with type variables, which mean nothing here."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    class Protocol:
        """A class that others fit without naming it."""

    class TypedDict(dict):
        """A dictionary whose keys are known; called itself, it makes such a type."""

        def __new__(cls, *args: Any, **named: Any) -> Any:
            """Return a dictionary, or of TypedDict("Name", {…}) its type."""
            if cls is not TypedDict:
                return super().__new__(cls, *args, **named)
            name, keys = args
            return type(name, (cls,), {"__annotations__": keys}, **named)

        def __init_subclass__(cls, *, total: bool = True) -> None:
            del total

    def cast(kind: Any, value: Any) -> Any:
        """Return *value*, which is of that *kind*."""
        del kind
        return value

    class _Fields(type):
        """Makes of a class's annotations the fields of a tuple."""

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            annotations = namespace.get("__annotations__")
            if annotations is None and "__annotate_func__" in namespace:  # Python 3.14, PEP 749
                annotations = namespace["__annotate_func__"](1)
            fields = tuple(annotations or ())
            defaults = {field: namespace[field] for field in fields if field in namespace}
            for index, field in enumerate(fields):
                namespace[field] = _tuplegetter(index, "")
            namespace.update(
                __slots__=(), _fields=fields, __match_args__=fields, _field_defaults=defaults
            )
            return super().__new__(cls, name, bases, namespace)

    class NamedTuple(tuple, metaclass=_Fields):
        """A tuple whose items have names."""

        def __new__(cls, *args: Any, **named: Any) -> NamedTuple:
            """Return one with the items in order, those named, and the defaults of the rest."""
            fields = cls._fields
            if named or len(args) != len(fields):
                rest = fields[len(args) :]
                given = {**cls._field_defaults, **named}
                known = named.keys() <= set(rest) <= given.keys()
                if not known or len(args) > len(fields):
                    raise TypeError(f"{cls.__name__}() takes {', '.join(fields)}")
                args += tuple(given[field] for field in rest)
            return tuple.__new__(cls, args)

        def __repr__(self) -> str:
            pairs = zip(self._fields, self, strict=True)
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in pairs)})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

        def _replace(self, **named: Any) -> NamedTuple:
            """Return a copy with other items under those names."""
            return type(self)(**{**self._asdict(), **named})

        def _asdict(self) -> dict[str, Any]:
            """Return the items by name."""
            return dict(zip(self._fields, self, strict=True))
