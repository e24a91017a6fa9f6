"""Protocol buffers: message classes made from the descriptors that `tools/make-messages` writes.

The classes are made when a module is imported, so they fit every version of the library. Type
checkers read the stub beside each module.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

_SUFFIX = ".binpb"


def load(module: str) -> dict[str, Any]:
    """Return the messages, enumerations and enumeration values of the file *module*, by name.

    DESCRIPTOR is the file's. Each module has a pool of its own, so another library in this
    process may have messages with the same names.
    """
    found = Path(module).with_suffix(_SUFFIX)
    files = descriptor_pb2.FileDescriptorSet.FromString(found.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    descriptor = pool.FindFileByName(files.file[-1].name)
    names: dict[str, Any] = {"DESCRIPTOR": descriptor}
    for name, message in descriptor.message_types_by_name.items():
        names[name] = message_class(message)
    for name, enumeration in descriptor.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enumeration)
        names.update({value.name: value.number for value in enumeration.values})
    return names


def message_class(descriptor: Descriptor) -> type[Message]:
    """Return the class of the messages that *descriptor* describes."""
    return message_factory.GetMessageClass(descriptor)
