"""CNI, the Container Network Interface: networks set up by plugins, which are separate programs.

An engine calls `runtime.py`. `names`, `versions`, `failure`, `result` and `program` are also
part of `orlop-cni`, a program that starts often: they import little
(docs/decisions/runtime-start.md).
"""
