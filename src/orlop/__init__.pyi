from orlop import errors as errors
from orlop.sandbox.asynchronous import AsyncProcess as AsyncProcess
from orlop.sandbox.asynchronous import AsyncSandbox as AsyncSandbox
from orlop.sandbox.process import Process as Process
from orlop.sandbox.result import Result as Result
from orlop.sandbox.sandbox import Sandbox as Sandbox

__all__: list[str]
__version__: str
