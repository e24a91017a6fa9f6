"""Orlop: a container engine in Python.

    with orlop.Sandbox(image="host", memory="256m") as box:
        print(box.run(["uname", "-s"]).stdout)

The names below are imported when they are first used: every command imports this module.
"""

__version__ = "0.1.0"
__all__ = [
    "AsyncBatch",
    "AsyncFiles",
    "AsyncPool",
    "AsyncProcess",
    "AsyncRunner",
    "AsyncSandbox",
    "AsyncTemplate",
    "AsyncTerminal",
    "Batch",
    "Files",
    "Image",
    "Pool",
    "PoolStats",
    "Process",
    "Result",
    "Runner",
    "Sandbox",
    "Step",
    "Template",
    "Terminal",
    "Timeline",
    "Usage",
    "errors",
]

_PLACES = {
    "AsyncBatch": "orlop.sandbox.asynchronous.classes",
    "AsyncFiles": "orlop.sandbox.asynchronous.classes",
    "AsyncPool": "orlop.sandbox.asynchronous.classes",
    "AsyncProcess": "orlop.sandbox.asynchronous.classes",
    "AsyncRunner": "orlop.sandbox.asynchronous.classes",
    "AsyncSandbox": "orlop.sandbox.asynchronous.classes",
    "AsyncTemplate": "orlop.sandbox.asynchronous.classes",
    "AsyncTerminal": "orlop.sandbox.asynchronous.classes",
    "Batch": "orlop.sandbox.boxes.batch",
    "Files": "orlop.sandbox.boxes.files",
    "Image": "orlop.sandbox.image",
    "Pool": "orlop.sandbox.boxes.pool",
    "PoolStats": "orlop.sandbox.boxes.warm",
    "Process": "orlop.sandbox.processes.process",
    "Result": "orlop.sandbox.result",
    "Runner": "orlop.sandbox.boxes.runner",
    "Sandbox": "orlop.sandbox.boxes.sandbox",
    "Step": "orlop.model.timeline",
    "Template": "orlop.sandbox.templates.template",
    "Terminal": "orlop.sandbox.processes.process",
    "Timeline": "orlop.sandbox.timeline",
    "Usage": "orlop.sandbox.result",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'orlop' has no attribute {name!r}")
    from importlib import import_module

    if name == "errors":
        return import_module("orlop.errors")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
