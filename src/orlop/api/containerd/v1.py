"""The messages of v1.proto."""

from orlop.api.protobuf import load

globals().update(load(__file__))
