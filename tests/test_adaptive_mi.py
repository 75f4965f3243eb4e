"""The adaptive rulers: the kernel in Triton's interpreter against float64 sums, and properties over random inputs."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from courselib.information.adaptive_mi import _lse_kernel, akde_mi, ebab_codes, ebab_edges
from courselib.kernels import have_triton, interpreted, triton_compiles

fast = settings(max_examples=20, deadline=None)

KERNEL = '''
import math, torch
from courselib.information.adaptive_mi import pairwise_lse
g = torch.Generator().manual_seed(0)
for shape in [(1, 1), (5, 3), (33, 2), (65, 7), (3, 40, 5), (2, 2, 17, 1)]:
    for dtype in (torch.float32, torch.float64):
        H = torch.randn(shape, generator=g, dtype=dtype)
        s2 = torch.rand(shape[:-2], generator=g, dtype=dtype) + .05
        assert pairwise_lse.route(H, s2, 8.) == 'kernel'
        d = H.double()
        d2 = ((d[..., :, None, :] - d[..., None, :, :])**2).sum(-1)
        want = torch.exp(-d2/(8*s2.double()[..., None, None])).mean(-1).log2()
        assert torch.allclose(pairwise_lse(H, s2, 8.).double(), want, atol=1e-5 if dtype == torch.float32 else 1e-6), (shape, dtype)
far = pairwise_lse(1e4*torch.arange(40.)[:, None], .1)
assert torch.allclose(far, torch.full((40,), -math.log2(40)), atol=1e-5)
'''


@pytest.mark.skipif(not have_triton(), reason='no Triton here')
def test_kernel_in_the_interpreter_at_odd_shapes(): assert interpreted(KERNEL) == ''


@pytest.mark.parametrize('dtype', ['*fp32', '*fp64'])
def test_kernel_compiles_for_a_gpu_that_is_not_there(dtype):
    ok, log = triton_compiles(_lse_kernel, dict(H=dtype, scale=dtype, out=dtype, N='i32', D='i32'), dict(ROWS=32, COLS=64), arch=90)
    if ok is None: pytest.skip(log)
    assert ok, log


@fast
@given(st.integers(0, 10**6), st.integers(2, 80), st.integers(1, 4), st.integers(1, 40))
def test_adaptive_bins_see_only_the_order(seed, n, d, bins):
    H = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()
    assert torch.equal(ebab_codes(H, bins, 0.), ebab_codes(H**3 + H, bins, 0.))
    e = ebab_edges(H, bins, 0.)
    assert len(e) == bins + 2 and (e.diff() >= 0).all()


@fast
@given(st.integers(0, 10**6), st.integers(2, 60), st.sampled_from(['variance', 'scale-free', 'fixed']))
def test_noise_bounds_are_in_order(seed, n, noise):
    g = torch.Generator().manual_seed(seed)
    H, y = torch.randn(n, 3, generator=g, dtype=torch.float64), torch.rand(n, generator=g) > .5
    (lo, _), (hi, ity) = akde_mi(H, y, None, 'lower', noise), akde_mi(H, y, None, 'upper', noise)
    assert -1e-9 <= lo <= hi + 1e-9 <= np.log2(n) + 1e-6 and ity <= hi + 1e-9
