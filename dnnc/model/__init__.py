"""The Python face: files become programs, and their models callables over NumPy arrays.

    program = dnnc.load("digits.dnn")
    net = program.model("Digits", hidden=128)
    logits = net(image=images)

`program` and `job` stand for a file and for what it asks to be done; `model` and `trainer` for a
network with its weights, which lie in an `arena`; `compiled` for graphs as something to call.
`settings`, `arguments` and `weights` judge what comes from Python, and `indices` and `rows` whether
integers stay inside the tables that they look up.
"""

from dnnc.model.compiled import Compiled, compile_graph
from dnnc.model.job import Job
from dnnc.model.model import Model
from dnnc.model.program import Program, load, parse
from dnnc.model.trainer import Trainer

__all__ = ["Compiled", "Job", "Model", "Program", "Trainer", "compile_graph", "load", "parse"]
