"""What stands in for ctypes at run time does as ctypes does."""

import ctypes
import errno
from typing import Any

import pytest

from orlop.kernel import light_ctypes

TYPES = ("c_char_p", "c_int", "c_long", "c_size_t", "c_uint", "c_uint64", "c_ulong", "c_void_p")


@pytest.mark.parametrize("name", TYPES)
def test_types_are_as_large(name: str) -> None:
    assert ctypes.sizeof(getattr(light_ctypes, name)) == ctypes.sizeof(getattr(ctypes, name))


@pytest.mark.parametrize("module", [light_ctypes, ctypes])
def test_functions_are_called_and_their_errors_told(module: Any) -> None:
    libc = module.CDLL(None, use_errno=True)
    prototype = module.CFUNCTYPE(module.c_int, module.c_char_p, use_errno=True)
    assert prototype(("rmdir", libc))(b"/none") == -1
    assert module.get_errno() == errno.ENOENT
    measure = module.CFUNCTYPE(module.c_size_t, module.c_char_p, use_errno=True)
    assert measure(("strlen", libc))(b"four") == 4
    with pytest.raises(AttributeError):
        prototype(("no_such_function", libc))
    copy = module.CFUNCTYPE(
        *(module.c_void_p, module.c_void_p, module.c_char_p, module.c_size_t), use_errno=True
    )
    buffer = module.create_string_buffer(8)
    copy(("memcpy", libc))(module.byref(buffer), b"abc\0e", 5)
    assert buffer.raw == b"abc\0e\0\0\0"


@pytest.mark.parametrize("module", [light_ctypes, ctypes])
def test_buffers_hold_all_bytes(module: Any) -> None:
    assert module.create_string_buffer(b"a\0b", 3).raw == b"a\0b"
    assert module.create_string_buffer(b"a\0b", 5).raw == b"a\0b\0\0"
    assert module.create_string_buffer(b"ab").raw == b"ab\0"
    assert module.create_string_buffer(4).raw == bytes(4)
