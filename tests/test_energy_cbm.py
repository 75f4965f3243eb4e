"""The energy bottleneck: properties of the joint distribution over random energies, many concepts, and clear errors."""
import pytest
import torch
from hypothesis import given, settings, strategies as st

from courselib.concepts.energy_cbm import ECBM, condition, descend, exact, global_loss, intervene_by_descent, joint, loss, marginals, states, tables

fast = settings(max_examples=20, deadline=None)


def draw(seed, K, M, B=3):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, M, generator=g), torch.randn(B, K, 2, generator=g), torch.randn(2**K, M, generator=g)


@fast
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 5))
def test_joint_against_a_loop(seed, K, M):
    ec, ek, eg = draw(seed, K, M)
    P, S = joint(ec, ek, eg, (1., .5, 2.)), states(K).long()
    want = torch.stack([torch.stack([(-(ec[b, y] + .5*sum(ek[b, k, S[s, k]] for k in range(K)) + 2*eg[s, y])).exp() for s in range(2**K) for y in range(M)]) for b in range(3)])
    assert torch.allclose(P.flatten(1), want/want.sum(1, keepdim=True), atol=1e-5)


@fast
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_law_of_total_probability(seed, K):
    P = joint(*draw(seed, K, 4))
    known = (torch.arange(K) == 0).expand(3, K)
    on, off = (marginals(condition(P, torch.full((3, K), v), known))[1] for v in (1., 0.))
    p = marginals(P)[0][:, :1]
    assert torch.allclose(p*on + (1 - p)*off, marginals(P)[1], atol=1e-5)
    one, two = tables(P[0])
    assert torch.allclose(two.diagonal(dim1=1, dim2=2), torch.ones(4, K), atol=1e-5) and (one >= 0).all() and (one <= 1 + 1e-6).all()


def test_many_concepts_sample_the_normaliser_and_descend():
    torch.manual_seed(0)
    m, g = ECBM(5, 20, 3, h=8), torch.Generator().manual_seed(0)
    z, c, y = torch.randn(6, 5), torch.randint(0, 2, (6, 20)).float(), torch.randint(0, 3, (6,))
    loss(m, z, c, y, gen=g).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())
    m.eval().requires_grad_(False)
    path = descend(m, z, steps=40)[1]
    assert path[-1][2].mean() < path[0][2].mean()
    known = torch.arange(20).expand(6, 20) < 3
    assert torch.equal(intervene_by_descent(m, z, c, known, steps=20)[-1][0][known] > .5, c[known].bool())
    with pytest.raises(ValueError, match='12 concepts or fewer'): exact(m, z)
    with pytest.raises(ValueError, match="norm 'full' or 'y'"): global_loss(m, c, y, 'x', g)
