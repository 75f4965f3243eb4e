"""Codebook features: the search kernel in Triton's interpreter against the plain reference, and the machine over random inputs."""
import pytest
import torch
from hypothesis import given, settings, strategies as st

from courselib.information.codebook_features import _cos_topk_kernel, best_for, cos_topk_ref, cos_topk_sum, tok_fsm, tokens
from courselib.kernels import have_triton, interpreted, triton_compiles

KERNEL = '''
import torch
from courselib.information.codebook_features import cos_topk_ref, cos_topk_sum
g = torch.Generator().manual_seed(0)
for n, K, d, k in [(1, 1, 1, 1), (5, 9, 3, 9), (17, 33, 16, 4), (33, 70, 20, 8), (40, 64, 64, 1), (16, 31, 7, 3)]:
    for dtype, tol in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        h, C = torch.randn(n, d, generator=g).to(dtype), torch.randn(K, d, generator=g).to(dtype)
        assert cos_topk_sum.route(h, C, k) == 'kernel'
        q, ids = cos_topk_sum(h, C, k)
        sim = torch.nn.functional.cosine_similarity(h.double()[:, None], C.double(), dim=-1)
        want = sim.topk(k).values
        assert q.dtype == dtype and torch.allclose(sim.gather(1, ids), want, atol=tol), (n, K, d, k, dtype)    # a tie may fall either way
        assert all(len(set(r)) == k for r in ids.tolist()) and torch.allclose(q.double(), C.double()[ids].sum(1), atol=20*tol, rtol=tol)
h, C = torch.randn(2, 3, 8, generator=g), torch.randn(20, 8, generator=g)
got, want = cos_topk_sum(h, C, 4), cos_topk_ref(h, C, 4)
assert torch.equal(got[1], want[1]) and torch.allclose(got[0], want[0], atol=1e-6)
C[5:9] = C[3]                                                              # equal codes: k different ones all the same
assert all(len(set(r)) == 4 for r in cos_topk_sum(h, C, 4)[1].flatten(0, 1).tolist())
assert cos_topk_sum(h[:0], C)[0].shape == (0, 3, 8)
'''


@pytest.mark.skipif(not have_triton(), reason='no Triton here')
def test_kernel_in_the_interpreter_at_odd_shapes(): assert interpreted(KERNEL) == ''


@pytest.mark.parametrize('dtype', ['*fp32', '*bf16'])
def test_kernel_compiles_for_a_gpu_that_is_not_there(dtype):
    ok, log = triton_compiles(_cos_topk_kernel, dict(h=dtype, c=dtype, q=dtype, ids='*i32', N='i32', K='i32', D='i32'), dict(TOPK=8, SLOTS=8, ROWS=16, COLS=32, DP=64), arch=90)
    if ok is None: pytest.skip(log)
    assert ok, log


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 12), st.integers(1, 12))
def test_the_choice_ignores_lengths_and_follows_the_order_of_the_codes(seed, n, d, K):
    g = torch.Generator().manual_seed(seed)
    h, C, k = torch.randn(n, d, generator=g, dtype=torch.float64), torch.randn(K, d, generator=g, dtype=torch.float64), 1 + seed % K
    q, ids = cos_topk_sum(h, C, k)
    scaled = cos_topk_sum(h*torch.rand(n, 1, generator=g, dtype=torch.float64).add(.1), C*torch.rand(K, 1, generator=g, dtype=torch.float64).add(.1), k)[1]
    if d > 1: assert torch.equal(ids, scaled)                              # in one dimension all cosines are 1 or -1
    order = torch.randperm(K, generator=g)
    if d > 1: assert torch.allclose(cos_topk_sum(h, C[order], k)[0], q)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match='expected 1 <= k <= 4'): cos_topk_ref(torch.randn(2, 3), torch.randn(4, 3), 5)
    with pytest.raises(ValueError, match='rows of 3'): cos_topk_ref(torch.randn(2, 2), torch.randn(4, 3))
    with pytest.raises(ValueError, match='edges <= states'): tok_fsm(10, 11)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 100), st.integers(2, 9))
def test_every_walk_is_valid_and_a_broken_one_is_not(seed, states, T):
    m = tok_fsm(states, 1 + seed % (states - 1), seed)
    t = tokens(m.walks(8, T, seed))
    assert t.shape == (8, 1 + 2*T) and m.valid(t).all() and all(len(r.unique()) == len(r) for r in m.next)
    s = t[0, -4]*10 + t[0, -3]                                             # the state before the last
    other = next(i for i in range(states) if i not in m.next[s].tolist())
    t[0, -2:] = tokens(torch.tensor([[other]]))[0, 1:]
    assert not m.valid(t)[0, -1] and m.valid(t)[1:].all()


def test_best_for_prefers_precision_above_the_floor_and_recall_below_it():
    hits, fires, has = torch.tensor([[1.], [4.], [9.]]), torch.tensor([1., 5., 20.]), torch.tensor([10.])
    assert best_for(hits, fires, has).item() == 1 and best_for(hits, fires, has, floor=.95).item() == 2 and best_for(hits, fires, has, floor=.05).item() == 0
