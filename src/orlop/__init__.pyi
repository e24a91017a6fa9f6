from orlop import errors as errors
from orlop.model.timeline import Step as Step
from orlop.sandbox.asynchronous import AsyncBatch as AsyncBatch
from orlop.sandbox.asynchronous import AsyncFiles as AsyncFiles
from orlop.sandbox.asynchronous import AsyncPool as AsyncPool
from orlop.sandbox.asynchronous import AsyncProcess as AsyncProcess
from orlop.sandbox.asynchronous import AsyncRunner as AsyncRunner
from orlop.sandbox.asynchronous import AsyncSandbox as AsyncSandbox
from orlop.sandbox.asynchronous import AsyncTemplate as AsyncTemplate
from orlop.sandbox.asynchronous import AsyncTerminal as AsyncTerminal
from orlop.sandbox.batch import Batch as Batch
from orlop.sandbox.files import Files as Files
from orlop.sandbox.pool import Pool as Pool
from orlop.sandbox.process import Process as Process
from orlop.sandbox.process import Terminal as Terminal
from orlop.sandbox.result import Result as Result
from orlop.sandbox.result import Usage as Usage
from orlop.sandbox.runner import Runner as Runner
from orlop.sandbox.sandbox import Sandbox as Sandbox
from orlop.sandbox.template import Template as Template
from orlop.sandbox.timeline import Timeline as Timeline
from orlop.sandbox.warm import PoolStats as PoolStats

__all__: list[str]
__version__: str
