"""CNI, the Container Network Interface: networks that programs of others make.

`runtime.py` is what an engine calls. `names`, `versions`, `failure`, `result` and
`program` are also what `orlop-cni` is made of, a program that starts often: they
import little (docs/decisions/runtime-start.md).
"""
