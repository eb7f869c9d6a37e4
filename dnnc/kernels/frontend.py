"""From Python functions over int64 to LLVM code: Numba's compiler, cut down to what kernels need.

Imports numba: import it only inside functions that compile.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

from dnnc.kernels.contexts import contexts

__all__ = ["Library", "compile_function", "compiling", "i64"]

# Numba has annotations, but none that hold.
compiler: Any = import_module("numba.core.compiler")
machinery: Any = import_module("numba.core.compiler_machinery")
untyped: Any = import_module("numba.core.untyped_passes")
typed: Any = import_module("numba.core.typed_passes")
cpu: Any = import_module("numba.core.cpu")
lowering: Any = import_module("numba.core.lowering")
typeinfer: Any = import_module("numba.core.typeinfer")
analysis: Any = import_module("numba.core.analysis")
numba_ir: Any = import_module("numba.core.ir")
interpreter: Any = import_module("numba.core.interpreter")
lock: Any = import_module("numba.core.compiler_lock").global_compiler_lock
Library: Any = import_module("numba.core.codegen").JITCodeLibrary

i64: Any = import_module("numba.core.types").int64


class _Interpreter(interpreter.Interpreter):  # type: ignore[misc]
    """From bytecode to Numba's form of it, without looking for `with` and for dictionaries."""

    def post_process(self, peepholes: Any, func_ir: Any) -> Any:
        return super().post_process([interpreter.peep_hole_list_to_tuple], func_ir)


@machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Interpretation(untyped.TranslateByteCode):  # type: ignore[misc]
    _name = "interpretation"

    def run_pass(self, state: Any) -> bool:
        _skip_caches(state["bc"])
        state["func_ir"] = _Interpreter(state["func_id"]).interpret(state["bc"])
        return True


def _skip_caches(code: Any) -> None:
    """Let instructions lead past those that only reserve memory, which are half of all."""
    for instruction in reversed(list(code)):
        following = code.table.get(instruction.next)
        if following is not None and following.opname == "CACHE" and not instruction.is_jump:
            instruction.next = following.next


class _NoWarnings:
    """In the place of what keeps the warnings of each step: kernels give none."""

    def catch_warnings(self, filename: str, lineno: int) -> AbstractContextManager[None]:
        return nullcontext()


@machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Typing(typed.NopythonTypeInference):  # type: ignore[misc]
    """Types of the variables of a function that returns what it was told to."""

    _name = "typing"

    def run_pass(self, state: Any) -> bool:
        found = typeinfer.TypeInferer(state.typingctx, state.func_ir, _NoWarnings())
        for index, (name, kind) in enumerate(zip(state.func_ir.arg_names, state.args, strict=True)):
            found.seed_argument(name, index, kind)
        found.seed_return(state.return_type)
        found.build_constraint()
        found.propagate()
        state.typemap, state.return_type, state.calltypes = found.unify()
        return True


class _Lower(lowering.Lower):  # type: ignore[misc]
    """Code of a function whose variables are numbers: they need not be cleared or let go of."""

    def lower_block(self, block: Any) -> None:
        self.pre_block(block)
        for inst in block.body:
            self.loc = inst.loc
            self.lower_inst(inst)
        self.post_block(block)

    def _find_singly_assigned_variable(self) -> None:
        """Find the variables that are set once, in a block that is always run before they are read.

        They are values; the others, and in Numba all that are read in another block, are memory.
        """
        before = analysis.compute_cfg_from_blocks(self.blocks).dominators()
        where: dict[str, int] = {}
        others: set[str] = set()
        for number, block in sorted(self.blocks.items()):
            for inst in block.body:
                assignment = isinstance(inst, numba_ir.Assign)
                read = inst.value if assignment else inst
                names = read.list_vars() if isinstance(read, numba_ir.Inst) else [read]
                others |= {
                    variable.name
                    for variable in names
                    if isinstance(variable, numba_ir.Var)
                    and where.get(variable.name) not in before[number]
                }
                if assignment:
                    name = inst.target.name
                    if name in where:
                        others.add(name)
                    where[name] = number
        self._singly_assigned_vars = where.keys() - others
        self._blk_local_varmap: dict[str, Any] = {}

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))


@machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed.BaseNativeLowering):  # type: ignore[misc]
    _name = "lowering"
    lowering_class = _Lower


class _LeanCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler without passes over forms of Python that kernels are not written in.

    Nor are lifetimes of variables found, which numbers have no use for, nor are a variable's values
    told apart by assignment: that LLVM does, and a variable of a kernel has one type.
    """

    def define_pipelines(self) -> list[Any]:
        passes = machinery.PassManager("kernel")
        for step in (
            _Interpretation,
            untyped.FixupArgs,
            _Typing,
            _Lowering,
            typed.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


def compile_function(
    function: Callable[..., Any], arguments: Sequence[Any], returns: Any, library: Any
) -> Any:
    """Compile a function for types of numba into a code library; numba's result.

    Call it inside `compiling()`.
    """
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    # Contraction alone: reassociation would undo the compensated steps of elementary functions, and
    # flags that assume no NaN would hide what the training layer must detect.
    flags.fastmath = cpu.FastMathOptions({"contract"})
    pipeline = _LeanCompiler(*contexts(), library, tuple(arguments), returns, flags, {})
    return pipeline.compile_extra(function)


@contextmanager
def compiling() -> Iterator[Any]:
    """Hold numba's lock, with everything set up to compile fast; yields its target context.

    Numba makes so many objects that the garbage collector would take a tenth of the time: garbage
    is collected once, at the end.
    """
    _, target = contexts()
    collecting = gc.isenabled()
    with lock:
        gc.disable()
        target.refresh()
        try:
            yield target
        finally:
            if collecting:
                gc.collect(0)
                gc.enable()
