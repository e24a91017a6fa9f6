from orlop import errors as errors
from orlop.model.timeline import Step as Step
from orlop.sandbox.asynchronous.classes import AsyncBatch as AsyncBatch
from orlop.sandbox.asynchronous.classes import AsyncFiles as AsyncFiles
from orlop.sandbox.asynchronous.classes import AsyncPool as AsyncPool
from orlop.sandbox.asynchronous.classes import AsyncProcess as AsyncProcess
from orlop.sandbox.asynchronous.classes import AsyncRunner as AsyncRunner
from orlop.sandbox.asynchronous.classes import AsyncSandbox as AsyncSandbox
from orlop.sandbox.asynchronous.classes import AsyncTemplate as AsyncTemplate
from orlop.sandbox.asynchronous.classes import AsyncTerminal as AsyncTerminal
from orlop.sandbox.boxes.batch import Batch as Batch
from orlop.sandbox.boxes.files import Files as Files
from orlop.sandbox.boxes.pool import Pool as Pool
from orlop.sandbox.boxes.runner import Runner as Runner
from orlop.sandbox.boxes.sandbox import Sandbox as Sandbox
from orlop.sandbox.boxes.warm import PoolStats as PoolStats
from orlop.sandbox.image import Image as Image
from orlop.sandbox.processes.process import Process as Process
from orlop.sandbox.processes.process import Terminal as Terminal
from orlop.sandbox.result import Result as Result
from orlop.sandbox.result import Usage as Usage
from orlop.sandbox.templates.template import Template as Template
from orlop.sandbox.timeline import Timeline as Timeline

__all__: list[str]
__version__: str
