"""The information bench and its chapters: properties over random inputs, and the stored runs."""
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import benchmark
from course import ROOT, Notebook
from courselib.data import ASSETS
from courselib.information import bench
from courselib.information.information_plane import bin_codes, binned, ib_curve, joint, layer_beta, mi2
from courselib.zoo import load_runs

fast = settings(max_examples=30, deadline=None)


def table(seed, n, d, top): return torch.randint(-top, top + 1, (n, d), generator=torch.Generator().manual_seed(seed))


@fast
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 24), st.integers(1, 10**6))
def test_codes_number_the_distinct_rows(seed, n, d, top):
    D = table(seed, n, d, top)
    D = torch.cat([D, D.flip(0)])
    want = np.unique(D.numpy(), axis=0, return_inverse=True)[1].ravel()
    for ids in (bench.codes(D), bench.codes(D.double())):
        assert ids.min() == 0 and len(ids.unique()) == ids.max() + 1
        assert np.array_equal(np.unique(ids, return_inverse=True)[1], ids) and len(set(zip(ids.tolist(), want.tolist()))) == want.max() + 1


@fast
@given(st.integers(0, 10**6), st.integers(2, 200), st.integers(2, 5))
def test_information_lies_between_its_bounds_and_never_grows_by_merging(seed, n, k):
    rng = np.random.default_rng(seed)
    p = torch.from_numpy(rng.dirichlet(np.ones(k), n))
    fine = torch.from_numpy(rng.integers(0, 12, n))
    coarse = fine//3
    H, I = bench.H_disc(bench.codes(fine)), bench.mi_disc(bench.codes(fine), p)
    hy = -(p.mean(0)*p.mean(0).log2()).sum().item()
    assert -1e-9 <= I <= min(H, hy) + 1e-9
    assert bench.mi_disc(bench.codes(coarse), p) <= I + 1e-9 and bench.H_disc(bench.codes(coarse)) <= H + 1e-9
    if k == 2: assert np.isclose(I, bench.mi_disc(bench.codes(fine), p[:, 1]))


@fast
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.floats(.01, 10), st.integers(1, 3000))
def test_pairwise_lse_is_the_plain_sum_whatever_the_chunk(seed, n, d, s2, chunk):
    H = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    got = bench.pairwise_lse(H, s2, 8., chunk)
    want = torch.log2(torch.exp(-((H[:, None] - H[None])**2).sum(-1)/(8*s2)).mean(1))
    assert torch.allclose(got, want, atol=1e-9) and (got <= 1e-12).all() and (got >= -np.log2(n) - 1e-9).all()
    a, = torch.autograd.grad(got.sum(), H, retain_graph=True)
    assert torch.allclose(a, torch.autograd.grad(want.sum(), H)[0], atol=1e-7)


def test_a_net_trains_the_same_whatever_its_neighbours_are():
    task = bench.szt_task()
    run = lambda seeds: bench.train_many(bench.szt_nets(seeds), task.X, task.y, train=.3, epochs=6, seeds=seeds, n_log=5)
    alone, together = run([4]), run([2, 4, 9])
    assert torch.allclose(alone.model(task.X)[0], together.model(task.X)[1], atol=1e-4)
    assert np.allclose(alone.acc[0], together[[1]].acc[0], atol=2e-3) and np.array_equal(alone.steps, together.steps)
    assert not torch.equal(together.train[0], together.train[1])


@pytest.mark.parametrize('act', ['tanh', 'relu'])
def test_adamw_with_decay_shrinks_weights_and_leaves_biases(act):
    task = bench.szt_task()
    nets = lambda: bench.szt_nets([0, 0], act)
    run = bench.train_many(nets(), task.X, task.y, epochs=1, opt='adamw', lr=0., wd=[0., .5], seeds=[0, 0])
    assert all(torch.equal(a, b) for a, b in zip(run.model.weights, nets().weights))            # decay acts through the learning rate
    run = bench.train_many(nets(), task.X, task.y, epochs=2, opt='adamw', lr=.004, wd=[0., 5.], seeds=[0, 0], n_log=3)
    assert all(w[1].norm() < w[0].norm() for w in run.model.weights)


@fast
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(2, 4))
def test_the_bottleneck_curve_rises_is_concave_and_stays_in_its_box(seed, m, k):
    pxy = np.random.default_rng(seed).dirichlet(np.ones(m*k)).reshape(m, k) + 1e-4
    pxy /= pxy.sum()
    x, y, q = ib_curve(pxy, np.geomspace(1.01, 500, 12), 150)
    px = pxy.sum(1)
    assert np.allclose(q.sum(2), 1) and (y <= mi2(pxy) + 1e-9).all() and (y <= x + 1e-9).all() and (x <= -(px*np.log2(px)).sum() + 1e-9).all()
    assert (np.diff(x) > -1e-3).all() and (np.diff(y) > -1e-3).all()
    lagrangian = lambda i, b: x[i] - b*y[i]
    for i, b in enumerate(np.geomspace(1.01, 500, 12)): assert lagrangian(i, b) <= min(0, -mi2(pxy)*b - (px*np.log2(px)).sum()) + 2e-2*b   # no worse than nothing or everything


@fast
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 40))
def test_bins_refine_and_a_scaled_ruler_reads_the_same(seed, d, n_bins):
    T = torch.rand(300, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)*2 - 1
    p = torch.rand(300, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    a, b = binned(T, p, n_bins), binned(T, p, 2*n_bins)
    assert a[0] <= b[0] + 1e-9 and a[1] <= b[1] + 1e-9
    assert torch.equal(bin_codes(T, n_bins), bin_codes(4*T, n_bins, -4., 4.))
    assert np.isclose(joint(p).sum(), 1) and np.isclose(mi2(joint(p)), bench.mi_disc(bench.codes(p), p))


def test_layer_beta_falls_as_inputs_land_in_the_wrong_state():
    task = bench.szt_task(gamma=2.)                                       # labels with noise, so that trade-offs differ
    states, gen = bench.codes((task.f/4).floor()), torch.Generator().manual_seed(0)
    def mixed(share):
        wrong = torch.rand(4096, generator=gen) < share
        return bench.codes(torch.where(wrong, states[torch.randperm(4096, generator=gen)], states))
    betas = [layer_beta(mixed(s), task.p) for s in (0., .02, .2, 1.)]
    assert betas[0] == np.inf and betas[1] > betas[2] > betas[3]


def test_stored_runs_are_those_the_chapter_describes():
    nb = Notebook(ROOT/'nbs/01_information/01_information_plane.ipynb')
    setup = next(c.code for c in nb.code if 'CONFIG =' in c.code)
    scope = dict(np=np, ASSETS=ASSETS)
    exec(setup.split('def stored')[0], scope)
    found = load_runs(scope['FILE'], scope['CONFIG'])                     # refuses other settings
    P, E = found['planes'].astype(float), found['errors'].astype(float)
    assert P.shape == (len(scope['NETS']), len(scope['SHARES']), len(scope['BINS']), 5, len(scope['STEPS']), 5, 2) and E.shape == P.shape[:2] + (5, len(scope['STEPS']), 2)
    assert np.isfinite(P).all() and P.min() >= 0 and P[..., 0].max() <= 12.01 and P[..., 1].max() <= .99
    assert (np.diff(P[0, :, :4, ..., 0], axis=1) > -.5).all()             # tanh: more bins, more bits (80 is no refinement of 30, hence the slack)
    assert re.search(r'#\| slow', '\n'.join(c.source for c in nb.code))   # and the cell that made them is there


@pytest.mark.parametrize('case', list(benchmark.cases()), ids=lambda c: '-'.join(c[:3]).replace(' ', '_'))
def test_estimators_give_what_the_usual_tools_give(case):
    *_, ours, theirs = case
    assert np.allclose(ours(), theirs(), atol=1e-9)
