"""The part of ctypes that we need at run time, from its C half: for processes that start often.

The rest costs 1 ms and 0.3 MiB. Type checkers see the real ctypes; the objects of both are
interchangeable.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL as CDLL
    from ctypes import CFUNCTYPE as CFUNCTYPE
    from ctypes import Structure as Structure
    from ctypes import addressof as addressof
    from ctypes import byref as byref
    from ctypes import c_char_p as c_char_p
    from ctypes import c_int as c_int
    from ctypes import c_long as c_long
    from ctypes import c_size_t as c_size_t
    from ctypes import c_uint as c_uint
    from ctypes import c_uint64 as c_uint64
    from ctypes import c_ulong as c_ulong
    from ctypes import c_void_p as c_void_p
    from ctypes import create_string_buffer as create_string_buffer
    from ctypes import get_errno as get_errno
    from ctypes import sizeof as sizeof
else:
    import os
    from _ctypes import (
        FUNCFLAG_CDECL,
        FUNCFLAG_USE_ERRNO,
        CFuncPtr,
        Structure,
        _SimpleCData,
        addressof,
        byref,
        dlopen,
        get_errno,
        sizeof,
    )

    __all__ = ["Structure", "addressof", "byref", "get_errno", "sizeof"]

    class c_char(_SimpleCData):  # noqa: N801 - as in ctypes
        _type_ = "c"

    class c_char_p(_SimpleCData):  # noqa: N801
        _type_ = "z"

    class c_int(_SimpleCData):  # noqa: N801
        _type_ = "i"

    class c_uint(_SimpleCData):  # noqa: N801
        _type_ = "I"

    class c_long(_SimpleCData):  # noqa: N801
        _type_ = "l"

    class c_ulong(_SimpleCData):  # noqa: N801
        _type_ = "L"

    class c_void_p(_SimpleCData):  # noqa: N801
        _type_ = "P"

    c_size_t = c_uint64 = c_ulong  # on every machine that Linux calls 64-bit

    class CDLL:
        """A library whose functions are called through prototypes."""

        def __init__(self, name: str | None, *, use_errno: bool) -> None:
            del use_errno  # the prototypes set it
            self._handle = dlopen(name, os.RTLD_NOW)

    _prototypes = {}

    def CFUNCTYPE(restype: type, *argtypes: type, use_errno: bool) -> type:
        """Return a function type; called with (name, library) it returns the function."""
        if (restype, argtypes) not in _prototypes:
            kept = FUNCFLAG_CDECL | (FUNCFLAG_USE_ERRNO if use_errno else 0)
            members = {"_argtypes_": argtypes, "_restype_": restype, "_flags_": kept}
            _prototypes[restype, argtypes] = type("Prototype", (CFuncPtr,), members)
        return _prototypes[restype, argtypes]

    def create_string_buffer(init: int | bytes, size: int = 0) -> object:
        """Return a buffer of *init* bytes, or with the bytes *init*."""
        made = (c_char * (init if isinstance(init, int) else size or len(init) + 1))()
        if isinstance(init, bytes):
            made.value = init
        return made
