"""Attention block by block against all scores at a time."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.ops.attention import Attention, AttentionGradient
from dnnc.ops.base import apply_all
from tests.kernels.arrays import RANDOM, check_node, draw, value_of

#: Batch, queries, keys, heads, sizes of keys and of values, causal, shape of the mask.
CASES = [
    (2, 128, 128, 4, 64, 64, False, None),
    (1, 130, 130, 3, 16, 24, True, None),
    (1, 70, 600, 2, 32, 40, False, None),
    (1, 600, 530, 1, 8, 8, True, None),
    (2, 9, 300, 2, 20, 12, False, (2, 1, 1, 300)),
    (2, 65, 17, 3, 7, 33, True, (1, 3, 65, 17)),
    (1, 10, 40, 2, 5, 5, True, (1, 1, 10, 40)),
    (1, 1, 1, 1, 1, 1, False, None),
    (0, 5, 5, 2, 4, 4, False, None),
    (1, 0, 5, 2, 4, 4, False, None),
    (1, 5, 0, 2, 4, 3, False, None),
]


def check(run_node, op, arrays):
    return check_node(run_node, apply_all(op, *map(value_of, arrays))[0].node, arrays)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attention_and_its_gradient(run_node, case, dtype):
    batch, queries, keys, heads, depth, values, causal, masked = case
    q = draw(batch, queries, heads, depth, dtype=dtype)
    k, v = (draw(batch, keys, heads, size, dtype=dtype) for size in (depth, values))
    mask = [] if masked is None else [RANDOM.random(masked) < 0.7]
    for m in mask:
        m[..., 0] = True
    out, lse = check(run_node, Attention(causal, depth**-0.5), [q, k, v, *mask])
    d_out = draw(*out.shape, dtype=dtype)
    op = AttentionGradient(causal, depth**-0.5)
    check(run_node, op, [q, k, v, out, lse, d_out, *mask])


def test_late_keys_may_have_the_largest_scores(run_node):
    q, k, v = (draw(1, n, 1, 8) for n in (20, 900, 900))
    k[:, 300:] *= 10
    k[:, 700:] *= 10
    check(run_node, Attention(False, 1.0), [q, k, v])


def test_keys_of_whole_blocks_may_not_count(run_node):
    q, k, v = (draw(1, n, 1, 8) for n in (20, 600, 600))
    mask = np.zeros((1, 1, 1, 600), bool)
    mask[..., 580:] = True
    out, _ = check(run_node, Attention(False, 1.0), [q, k, v, mask])
    assert np.isfinite(out).all()


def test_a_query_without_keys_that_count_gets_no_number(run_node):
    q, k, v = (draw(1, 4, 2, 8) for _ in range(3))
    mask = np.ones((1, 1, 4, 4), bool)
    mask[:, :, 2] = False
    out, lse = check(run_node, Attention(False, 1.0), [q, k, v, mask])
    assert np.isnan(out[:, 2]).all()
    assert np.isfinite(np.delete(out, 2, 1)).all()
    d_out = draw(*out.shape)
    check(run_node, AttentionGradient(False, 1.0), [q, k, v, out, lse, d_out, mask])


def test_what_is_no_number_stays_in_its_row(run_node):
    q, k, v = (draw(1, 70, 1, 8) for _ in range(3))
    q[0, 3, 0, 2], q[0, 66, 0, 1] = np.nan, np.inf
    out, _ = check(run_node, Attention(True, 1.0), [q, k, v])
    assert np.isnan(out[0, [3, 66]]).all()
    assert np.isfinite(np.delete(out, [3, 66], 1)).all()


def test_sizes_may_be_known_when_programs_run(run_node):
    shapes = [("n", "t", 2, 8), ("n", "s", 2, 8), ("n", "s", 2, 8), ("n", 1, 1, "s")]
    kinds = (DType.F32, DType.F32, DType.F32, DType.BOOL)
    values = [Value(TensorType.make(d, s)) for d, s in zip(kinds, shapes, strict=True)]
    op = Attention(False, 0.5)
    node = apply_all(op, *values)[0].node
    sizes = {"n": 2, "t": 70, "s": 33}
    arrays = [draw(*v.type.concrete(sizes)) for v in values]
    arrays[3] = arrays[3] > 0
    got = run_node(node, lower(node), arrays, sizes)
    for found, wanted in zip(got, op.evaluate(*arrays), strict=True):
        np.testing.assert_allclose(found, wanted, 1e-4, 1e-4)
    assert node.results[0].shape[1] == dim("t")
