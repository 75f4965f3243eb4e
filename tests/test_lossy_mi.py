"""Neighbours and entropies: the kernel in Triton's interpreter against scipy's tree, and properties over random inputs."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from courselib.information.lossy_mi import _knn_kernel, knn_logr, mi_terms, phases, wkl, wkl_weights
from courselib.kernels import have_triton, interpreted, triton_compiles

fast = settings(max_examples=20, deadline=None)

KERNEL = '''
import torch
from courselib.information.lossy_mi import knn_logr, wkl
g = torch.Generator().manual_seed(0)
for n, d, k in [(2, 1, 1), (5, 3, 4), (33, 2, 3), (65, 7, 5), (130, 16, 16), (100, 1, 6)]:
    for dtype in (torch.float32, torch.float64):
        Z = torch.randn(n, d, generator=g, dtype=dtype)
        assert knn_logr.route(Z, k) == 'kernel'
        got = knn_logr(Z, k)
        assert got.dtype == dtype and torch.allclose(got, knn_logr.reference(Z, k), atol=1e-4 if dtype == torch.float32 else 1e-9), (n, d, k, dtype)
Z[7] = Z[3]                                                     # a distance of zero
assert knn_logr(Z, 2)[7, 0] < -300 and torch.allclose(knn_logr(Z, 2)[:, 1], knn_logr.reference(Z, 2)[:, 1])
back = torch.arange(70., 0, -1)[:, None]**2                     # every tile nearer than the one before
assert torch.allclose(knn_logr(back, 5), knn_logr.reference(back, 5), atol=1e-5)
for k in (0, 70):
    try: knn_logr(back, k); assert False
    except ValueError: pass
'''


@pytest.mark.skipif(not have_triton(), reason='no Triton here')
def test_kernel_in_the_interpreter_at_odd_shapes(): assert interpreted(KERNEL) == ''


@pytest.mark.parametrize('dtype', ['*fp32', '*fp64'])
def test_kernel_compiles_for_a_gpu_that_is_not_there(dtype):
    ok, log = triton_compiles(_knn_kernel, dict(Z=dtype, out=dtype, N='i32', D='i32', K='i32'), dict(ROWS=32, COLS=64, SLOTS=16), arch=90)
    if ok is None: pytest.skip(log)
    assert ok, log


@fast
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(.01, 100))
def test_entropy_moves_with_the_scale_and_not_with_the_place(seed, d, s):
    Z = torch.randn(60, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert np.isclose(wkl(s*Z + 5), wkl(Z) + d*np.log2(s), atol=1e-6)


@fast
@given(st.integers(1, 16), st.integers(0, 60))
def test_weights_keep_their_support_and_sum(d, more):
    j, w = wkl_weights(d + more, d)
    assert j[0] >= 1 and j[-1] == d + more and len(j) == len(set(j)) <= d and abs(w.sum() - 1) < 1e-9*max(1, abs(w).sum())


@fast
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=15), st.floats(.01, 1))
def test_phases_take_turns(I, se):
    p = phases(I, [se]*len(I))
    assert all(a == -b for a, b in zip(p, p[1:])) and phases([-v for v in I], [se]*len(I)) == [-v for v in p]
