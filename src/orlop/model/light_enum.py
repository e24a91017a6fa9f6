"""The parts of enum that we need, for rooms that start often.

enum, with its imports, takes 3 ms and 0.4 MiB. Type checkers see the real enum.
Figures: docs/decisions/runtime-start.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enum import STRICT as STRICT
    from enum import IntEnum as IntEnum
    from enum import IntFlag as IntFlag
    from enum import StrEnum as StrEnum
else:
    #: The only supported boundary: an unknown bit is an error.
    STRICT = "strict"

    class _Members(type):
        """Turns a class's values into its members, one object for each value."""

        def __new__(
            cls, name: str, bases: tuple[type, ...], namespace: dict[str, object], **_: object
        ) -> type:
            given = {
                word: value
                for word, value in namespace.items()
                if type(value) in (int, str) and not word.startswith("_")
            }
            rest = {word: value for word, value in namespace.items() if word not in given}
            made = super().__new__(cls, name, bases, rest)
            made.__members__ = {}
            made._known = {}  # by value
            for word, value in given.items():
                member = made._known.get(value) or made._add(value, word)
                made.__members__[word] = member
                setattr(made, word, member)
            return made

        def _add(cls, value: object, name: str | None) -> object:
            member = cls.__mro__[-2].__new__(cls, value)  # of int or str
            member.name, member.value = name, value
            cls._known[value] = member
            return member

        def __call__(cls, value: object) -> object:
            """Return the member with that *value*; ValueError if there is none."""
            found = cls._known.get(value)
            return cls._missing(value) if found is None else found

        def __getitem__(cls, name: str) -> object:
            return cls.__members__[name]

        def __iter__(cls) -> object:
            return iter(cls.__members__.values())

        def __len__(cls) -> int:
            return len(cls.__members__)

    class _Member:
        """The common part of all members."""

        @classmethod
        def _missing(cls, value: object) -> object:
            raise ValueError(f"{value!r} is not a valid {cls.__name__}")

        def __reduce_ex__(self, _: object) -> tuple[type, tuple[object]]:
            return type(self), (self.value,)

        def __repr__(self) -> str:
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    class StrEnum(_Member, str, metaclass=_Members):
        """Named strings; each value has exactly one object."""

        __str__ = str.__str__
        __format__ = str.__format__

    class IntEnum(_Member, int, metaclass=_Members):
        """Named numbers."""

        __str__ = int.__repr__
        __format__ = int.__format__

    class IntFlag(_Member, int, metaclass=_Members):
        """Named bits, and their combinations."""

        __str__ = int.__repr__
        __format__ = int.__format__

        @classmethod
        def _missing(cls, value: int) -> IntFlag:
            if not isinstance(value, int) or value & ~cls._mask() or value < 0:
                raise ValueError(f"{cls.__name__}: invalid value {value!r}")
            words = (word for word, member in cls.__members__.items() if member & ~value == 0)
            return cls._add(int(value), "|".join(words) or None)

        @classmethod
        def _mask(cls) -> int:
            mask = 0
            for member in cls:
                mask |= member.value
            return mask

        def __contains__(self, other: IntFlag) -> bool:
            return self.value & other.value == other.value

        def __or__(self, other: int) -> IntFlag:
            return type(self)(self.value | int(other))

        def __and__(self, other: int) -> IntFlag:
            return type(self)(self.value & int(other))

        def __xor__(self, other: int) -> IntFlag:
            return type(self)(self.value ^ int(other))

        def __invert__(self) -> IntFlag:
            return type(self)(self._mask() & ~self.value)

        __ror__, __rand__, __rxor__ = __or__, __and__, __xor__
