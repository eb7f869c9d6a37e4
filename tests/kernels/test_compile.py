"""Compiling and loading kernels: the cache, its faults, and starts without numba."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dnnc.kernels import compile as compiling
from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.compile import load_kernels, optimized_ir

PROGRAM = """
import sys
import numpy as np
from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.program.executable import Executable

x = Value(TensorType.make(DType.F32, [dim("n"), 7]))
y = ops.reduce_sum(ops.exp(ops.multiply(x, 0.5)), 1)
program = Executable(Graph("f", (Input("x", x, "data"),), (Output("y", y),)), threads=2)
loaded = [name for name in ("numba", "numba.np.linalg") if name in sys.modules]
print(float(program({"x": np.zeros((3, 7), np.float32)})["y"].sum()), *loaded)
"""


def run_program(cache: Path) -> str:
    environment = os.environ | {"DNNC_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the kernels of PROGRAM, compiled without what Numba knows of NumPy."""
    cache = tmp_path_factory.mktemp("cache")
    assert run_program(cache) == "21.0 numba"
    return cache


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.o"))


def test_a_warm_start_does_not_import_numba(warm: Path) -> None:
    assert run_program(warm) == "21.0"


def test_the_cache_is_private(warm: Path) -> None:
    folders = {entry.parent for entry in entries(warm)}
    assert len(folders) == 1
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)


def test_broken_entries_are_made_again(warm: Path) -> None:
    first, second, third, *_ = entries(warm)
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-10])
    third.write_bytes(b"\x7fELF" + third.read_bytes()[4:])
    assert run_program(warm) == "21.0 numba"
    assert run_program(warm) == "21.0"


def test_processes_may_start_together(tmp_path: Path) -> None:
    environment = os.environ | {"DNNC_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in running:
        assert process.communicate()[0].startswith("21.0")
    assert run_program(tmp_path) == "21.0"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".o"]


def test_a_program_works_without_a_cache(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert run_program(tmp_path) == "21.0 numba"


def build_nothing() -> Callable[[int, int, int], int]:
    def kernel(args: int, tid: int, threads: int) -> int:
        return 0

    return kernel


def test_equal_keys_are_one_kernel() -> None:
    one, two = make_kernel("nothing", build_nothing), make_kernel("nothing", build_nothing)
    assert one.key == two.key
    assert one.key != make_kernel("nothing", build_nothing, 1).key
    addresses = load_kernels([one, two, one])
    assert len(set(addresses)) == 1


def test_code_that_needs_a_missing_symbol_is_refused() -> None:
    def build() -> Callable[[int, int, int], int]:
        from numba.core import types

        missing = types.ExternalFunction("dnnc_no_such_function", types.int64())

        def kernel(args: int, tid: int, threads: int) -> int:
            return missing()

        return kernel

    with pytest.raises(AssertionError, match="dnnc_no_such_function"):
        compiling.compile_object(make_kernel("needy", build))


def relu_kernel() -> Kernel:
    from dnnc import ops
    from dnnc.ir.dims import dim
    from dnnc.ir.graph import Value
    from dnnc.ir.types import DType, TensorType
    from dnnc.kernels.abi import lower
    from dnnc.kernels.load import load_lowerings

    load_lowerings()
    x = Value(TensorType.make(DType.F32, [dim("n")]))
    node = ops.maximum(x, 0.0).node
    assert node is not None
    return lower(node)[0].kernel


def test_loops_vectorize() -> None:
    ir, assembly = optimized_ir(relu_kernel())
    assert "x float>" in ir
    assert assembly


def test_products_and_sums_are_contracted() -> None:
    from dnnc import ops
    from dnnc.ir.dims import dim
    from dnnc.ir.graph import Graph, Input, Output, Value
    from dnnc.ir.types import DType, TensorType
    from dnnc.passes.pipeline import optimize
    from dnnc.program.plan import make_plan
    from dnnc.program.show import needed_kernels

    x, y, z = (Value(TensorType.make(DType.F32, [dim("n")])) for _ in range(3))
    inputs = tuple(Input(name, value, "data") for name, value in zip("xyz", (x, y, z), strict=True))
    graph = Graph("f", inputs, (Output("sum", ops.add(ops.multiply(x, y), z)),))
    (kernel,) = needed_kernels(make_plan(optimize(graph)))
    ir, _ = optimized_ir(kernel)
    assert "fmul contract" in ir
    assert "fadd contract" in ir


def test_only_the_kernel_itself_is_visible_to_the_linker() -> None:
    def build() -> Callable[[int, int, int], int]:
        from dnnc.kernels.intrinsics import slot
        from dnnc.kernels.subroutine import subroutine

        def third(args: int) -> int:
            total = 0
            for k in range(slot(args, 0)):
                total += slot(args, k) % 7
            return total

        call = subroutine(third, returns=1)

        def kernel(args: int, tid: int, threads: int) -> int:
            return int(call(args) + call(args + 8) * call(args + 16))

        return kernel

    kernel = make_kernel("calls", build)
    text, _ = optimized_ir(kernel)
    defined = [line for line in text.splitlines() if line.startswith("define ")]
    visible = [line for line in defined if not line.startswith("define internal ")]
    assert len(visible) == 1
    assert kernel.key in visible[0]
    assert "third" not in visible[0]
