"""Processors that are not this one: the code of micro-kernels, and results on narrower vectors."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from llvmlite import ir

from dnnc.kernels.convolution.depthwise import Taps, widest
from dnnc.kernels.convolution.run_strips import Runs
from dnnc.kernels.target import Target
from dnnc.kernels.tiles import Tile, dot_sizes, most_vectors, tiles

AVX512 = Target("x86_64-unknown-linux-gnu", "skylake-avx512", "-prefer-256-bit", 512, 32)
AVX2 = Target("x86_64-unknown-linux-gnu", "haswell", "", 256, 16)
ARM = Target("aarch64-unknown-linux-gnu", "neoverse-n1", "", 128, 32)
TARGETS = {"avx512": AVX512, "avx2": AVX2, "arm": ARM}

MULTIPLY_ADD = re.compile(r"(vfmadd\d+p|fmla\s)")
#: Memory of the stack: spilled registers, and arguments that were not passed in registers.
STACK = re.compile(r"\(%rsp|\[sp\b")
VECTOR = re.compile(r"%[xyz]mm|\b[qdsv]\d+\b")

PROGRAM = """
import numpy as np
import dnnc
from dnnc.diagnostics import Source
from dnnc.elaborate.network import FieldShape
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType
from dnnc.kernels.target import host
from dnnc.model.losses import LOSS, gradients_graph
from dnnc.syntax.parse import parse_expression

assert host().vector_bits <= BITS
net = dnnc.parse('''
model Net {
    in  x:      [batch, 3, 13, 13]
    out logits: [batch, 10]
    logits = x -> conv(19, 3) -> batch_norm -> relu -> conv(24, 3) -> relu -> max_pool(2)
        -> flatten -> dense(37) -> gelu -> dense(10)
}
''').model("Net", dtype="DTYPE", threads=2)
random = np.random.default_rng(3)
fields = {"x": FieldShape(DType("DTYPE"), (3, 13, 13)), "label": FieldShape(DType.I64, ())}
data = {
    "x": random.standard_normal((5, 3, 13, 13)).astype(DType("DTYPE").numpy),
    "label": random.integers(0, 10, 5),
}
text = "cross_entropy(logits, label)"
loss, slopes = net.value_and_grad(text, **data)
graph = gradients_graph(net.walk(True, fields), fields, parse_expression(Source("<loss>", text)))
scalars = {name: np.array(1, np.int64) for name in ("seed", "step", "steps")}
arrays = {**net.variables, **data, **scalars}
expected = interpret(graph, {item.name: arrays[item.name] for item in graph.inputs})
np.testing.assert_allclose(loss, expected.pop(LOSS), rtol=1e-5)
for name, slope in slopes.items():
    scale = max(1e-2, np.abs(expected[name]).max())
    np.testing.assert_allclose(slope, expected[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
predict = net.network.predict
expected = interpret(predict, {item.name: arrays[item.name] for item in predict.inputs})["logits"]
for rows in (slice(0, 5), slice(2, 3)):
    np.testing.assert_allclose(net(x=data["x"][rows]), expected[rows], rtol=1e-3, atol=1e-4)
"""


def assembly(tile: Tile, target: Target, table: str = "", **how: bool) -> str:
    """The code of a micro-kernel on a processor; skips where LLVM cannot compile for it."""
    from dnnc.kernels.product.microkernel import write_micro_kernel

    return compiled(lambda text: write_micro_kernel(text, "tile", tile, table, **how), target)


def compiled(write: Callable[[ir.Module], ir.Function], target: Target) -> str:
    """The code of a function that is written into a module; see `assembly`."""
    import llvmlite.binding as llvm

    from dnnc.kernels.compile import optimize_module
    from dnnc.kernels.target import foreign_machine

    try:
        machine = foreign_machine(target)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no back end for {target.triple}: {error}")
    text = ir.Module("tile")
    text.triple = target.triple
    write(text).linkage = "external"
    module = llvm.parse_assembly(str(text))
    optimize_module(module, machine)
    return str(machine.emit_assembly(module))


def inner_loops(text: str) -> list[list[str]]:
    """Instructions of each block that jumps to its own beginning."""
    loops: list[list[str]] = []
    label, block = "", list[str]()
    for line in text.splitlines():
        if found := re.match(r"(\.?\w+):", line):
            label, block = found[1], []
        elif re.match(r"\t[a-z]", line):
            block.append(re.split(r"#|//", line)[0].strip())
            if label and re.match(rf"[a-z].*\s{re.escape(label)}$", block[-1]):
                loops.append(block)
                label, block = "", []
    return loops


@pytest.mark.parametrize(
    ("vectors", "table"), [(1, ""), (1, "a"), (1, "each"), (2, ""), (2, "a"), (3, "a")]
)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_stay_in_registers(name: str, dtype: str, vectors: int, table: str) -> None:
    target = TARGETS[name]
    if vectors > most_vectors(target):
        pytest.skip("these are not taken")
    if table == "each" and not target.is_x86:
        pytest.skip("reads of a part of a vector are several blocks: there are no masks")
    for tile in tiles(dtype, vectors, target):
        loops = inner_loops(assembly(tile, target, table))
        assert loops
        for loop in loops:
            # LLVM may take several steps in one round.
            found = sum(bool(MULTIPLY_ADD.match(line)) for line in loop)
            steps, rest = divmod(found, tile.rows * tile.vectors)
            assert steps >= 1, tile
            assert rest == 0, tile
            stack = [line for line in loop if STACK.search(line)]
            # Sixteen registers for addresses are too few for fourteen rows: some are read again.
            assert not [line for line in stack if VECTOR.search(line)], tile
            if not target.is_x86:
                assert stack == [], tile
            assert len(stack) <= tile.rows * steps, (tile, stack)


@pytest.mark.parametrize("fetching", [False, True])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_sums_stay_in_registers_where_vectors_are_apart(
    dtype: str, vectors: int, fetching: bool
) -> None:
    target = TARGETS["avx512"]
    for tile in tiles(dtype, vectors, target):
        text = assembly(tile, target, apart=True, fetching=fetching)
        lines = text.splitlines()
        assert not [line for line in lines if STACK.search(line) and VECTOR.search(line)], tile
        found = sum(bool(MULTIPLY_ADD.match(line.strip())) for line in lines)
        assert found >= tile.rows * tile.vectors
        assert found % (tile.rows * tile.vectors) == 0
        assert "prefetch" in text


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_along_vectors_stay_in_registers(name: str, dtype: str) -> None:
    from dnnc.kernels.product.dots import write_dot_tile

    target = TARGETS[name]
    tile = tiles(dtype, target=target)[0]
    for shape in dot_sizes(target):
        code = compiled(lambda text, s=shape: write_dot_tile(text, "dots", tile, *s), target)
        loops = [loop for loop in inner_loops(code) if any(map(MULTIPLY_ADD.match, loop))]
        assert loops
        found = sum(bool(MULTIPLY_ADD.match(line)) for line in loops[0])
        assert found in (shape[0] * shape[1], 2 * shape[0] * shape[1])
        stack = [line for line in loops[0] if STACK.search(line)]
        assert not [line for line in stack if VECTOR.search(line)], (shape, stack)


@pytest.mark.parametrize("name", TARGETS)
def test_there_is_memory_for_a_row_of_tiles(name: str) -> None:
    from dnnc.kernels.product.dot_products import _BESIDE, RESULTS
    from dnnc.kernels.product.slots import DOTS_DEPTH

    for rows, columns in dot_sizes(TARGETS[name]):
        assert rows * columns * (_BESIDE // DOTS_DEPTH) <= RESULTS


@pytest.mark.parametrize("steps", [28, 20, 15])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_of_runs_stay_in_registers(name: str, dtype: str, vectors: int, steps: int) -> None:
    from dnnc.kernels.convolution.run_ir import write_run_tile

    target = TARGETS[name]
    if vectors > most_vectors(target):
        pytest.skip("these are not taken")
    tile = tiles(dtype, vectors, target)[0]
    runs = Runs(64, tile.bytes_each, steps, 64 * tile.bytes_each)
    for _, rows in runs.tiles(tile, target):
        text = compiled(lambda to, n=rows: write_run_tile(to, "run", tile, n, runs), target)
        loops = [loop for loop in inner_loops(text) if any(map(MULTIPLY_ADD.match, loop))]
        assert loops
        for loop in loops:
            # LLVM may take several rounds in one.
            found = sum(bool(MULTIPLY_ADD.match(line)) for line in loop)
            assert found in [rows * vectors * some for some in range(1, steps + 1)]
            assert not [line for line in loop if STACK.search(line) and VECTOR.search(line)], rows


@pytest.mark.parametrize(("steps", "shifts"), [(28, 3), (9, 3), (16, 5), (15, 7)])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_at_several_shifts_stay_in_registers(
    name: str, dtype: str, vectors: int, steps: int, shifts: int
) -> None:
    from dnnc.kernels.convolution.run_ir import write_run_tile

    target = TARGETS[name]
    tile = tiles(dtype, vectors, target)[0]
    runs = Runs(16, tile.bytes_each, steps, 64 * tile.bytes_each, shifts)
    if not runs.fit(tile, target):
        pytest.skip("these are not taken")
    rest = (steps + 1) % shifts
    for _, rows in runs.tiles(tile, target):
        text = compiled(lambda to, n=rows: write_run_tile(to, "run", tile, n, runs), target)
        lines = [line.strip() for line in text.splitlines()]
        # Arm's half registers are the caller's, and saved.
        spilled = re.compile(r"%[xyz]mm|\bq\d+\b")
        assert not [line for line in lines if STACK.search(line) and spilled.search(line)], rows
        # No product is written that is not one: neither beyond the ends of the run nor twice.
        found = sum(bool(MULTIPLY_ADD.match(line)) for line in lines)
        each = rows * vectors * shifts
        short = each * (shifts - 1 + rest)
        assert found - short in (each * (steps - shifts + 1 - rest), each * shifts)


@pytest.mark.parametrize(
    ("taps", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (7, 2, 1), (3, 1, 2)]
)
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_of_taps_that_share_numbers_stay_in_registers(
    name: str, dtype: str, vectors: int, taps: int, stride: int, dilation: int
) -> None:
    from dnnc.kernels.convolution.run_ir import write_run_tile

    target = TARGETS[name]
    tile = tiles(dtype, vectors, target)[0]
    pixel = 16 * tile.bytes_each
    runs = Runs(31, stride * pixel, 16, tile.bytes_each, 1, taps, dilation * pixel)
    if not runs.fit(tile, target):
        pytest.skip("these are not taken")
    for _, rows in runs.tiles(tile, target):
        text = compiled(lambda to, n=rows: write_run_tile(to, "run", tile, n, runs), target)
        [loop] = [loop for loop in inner_loops(text) if any(map(MULTIPLY_ADD.match, loop))]
        assert sum(bool(MULTIPLY_ADD.match(line)) for line in loop) == rows * taps * vectors
        assert not [line for line in loop if STACK.search(line) and VECTOR.search(line)], rows
        if target.is_x86:
            # Each number is read once.
            read = [line for line in loop if "broadcast" in line or "{1to" in line]
            assert len(read) == len(runs.numbers(rows))


def test_shifts_are_taken_where_enough_sums_fit() -> None:
    def taken(name: str, vectors: int) -> list[int]:
        tile = tiles("f32", vectors, TARGETS[name])[0]
        return [n for n in (3, 5, 7) if Runs(16, 4, 28, 256, n).fit(tile, TARGETS[name])]

    assert [taken("avx512", vectors) for vectors in (1, 2)] == [[3, 5, 7], [3, 5, 7]]
    assert [taken("avx2", vectors) for vectors in (1, 2)] == [[3], []]
    assert [taken("arm", vectors) for vectors in (1, 2)] == [[3, 5], [3, 5]]


@pytest.mark.parametrize(("wide", "apart", "stride"), [(3, 1, 1), (3, 2, 1), (5, 1, 2), (9, 1, 1)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", TARGETS)
def test_sums_and_pixels_stay_in_registers(
    name: str, dtype: str, wide: int, apart: int, stride: int
) -> None:
    from dnnc.kernels.convolution.depthwise_ir import write_outputs

    target = TARGETS[name]
    if wide > widest(target):
        pytest.skip("so many taps have no tile of their own")
    taps = Taps(dtype, tiles(dtype, 1, target)[0].lanes, wide, apart, stride)
    text = compiled(lambda to: write_outputs(to, "taps", taps, False, False, target), target)
    (loop,) = [loop for loop in inner_loops(text) if any(map(MULTIPLY_ADD.match, loop))]
    assert sum(bool(MULTIPLY_ADD.match(line)) for line in loop) == wide * taps.outputs(target)
    assert not [line for line in loop if STACK.search(line) and VECTOR.search(line)]


def test_tiles_follow_from_registers() -> None:
    sizes = {name: (t.rows, t.columns) for name, target in TARGETS.items()
             for t in tiles("f32", target=target)[:1]}  # fmt: skip
    assert sizes == {"avx512": (14, 32), "avx2": (6, 16), "arm": (12, 8)}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("bits", [256, pytest.param(128, marks=pytest.mark.slow)])
def test_narrower_vectors_compute_the_same(bits: int, dtype: str) -> None:
    program = PROGRAM.replace("BITS", str(bits)).replace("DTYPE", dtype)
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"DNNC_VECTOR_BITS": str(bits)},
        check=True,
    )
