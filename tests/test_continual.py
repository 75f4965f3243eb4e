"The continual bench and its first chapter beyond what their notebooks test: properties on random logs, errors, streams, and stored runs made anew."
import ast
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from courselib.continual import bench
from courselib.continual.bench import (AGEM, DERpp, ER, EWC, GEM, NMC, SGD, Finetune, JointIncremental, Lanes, Learner, Log, LwF, Memory, acc, bwt, forgetting,
                                       gem_project, load_logs, make_stream, matrix, run_stream, run_stream_vmap, save_logs, table)
from courselib.continual.stability_gap import ContinualEval, MinACC, WindowDelta, gap, grad_report, largest_rise, min_acc, recovery, thin, wc_acc, wf, wp


@pytest.fixture(autouse=True)
def one_thread():
    was = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(was)


@st.composite
def logs(draw):
    "Logs of 2 to 4 tasks with 1 to 6 evaluations each after the one before the first update."
    T, n, S = draw(st.integers(2, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    task_of = np.repeat(range(T), n + 1)
    a = np.round(rng.random((S, len(task_of), T)), 2)
    return Log(np.where(np.arange(T) <= task_of[:, None], a, np.nan), task_of, np.tile(range(n + 1), T), chance=np.full(T, .5))


def few(stream, tasks=2): return replace(stream, tasks=stream.tasks[:tasks], evals=stream.evals[:tasks])


# ---- measures ---------------------------------------------------------------------------------------------------------

@settings(deadline=None, max_examples=60)
@given(logs(), st.integers(2, 30))
def test_measures(log, W):
    assert (wc_acc(log) <= acc(log) + 1e-9).all() and (min_acc(log) <= np.nanmean(matrix(log)[:, -1, :-1], 1) + 1e-9).all()
    assert (wf(log, W) <= wf(log, W + 1) + 1e-12).all() and (wf(log, W) >= 0).all() and (wf(log, W) <= 1).all()
    assert np.allclose(wf(replace(log, acc=-log.acc), W), wp(log, W))
    assert np.allclose(gap(log) - recovery(log), np.mean([log.acc[:, log.starts[t], i] - log.acc[:, log.ends[t], i] for t in range(1, log.acc.shape[2]) for i in range(t)], 0))
    assert (gap(log) >= 0).all() and (recovery(log) >= 0).all() and np.allclose(bwt(log), -forgetting(log))


@settings(deadline=None, max_examples=40)
@given(logs(), st.integers(1, 8))
def test_testing_less_often_never_looks_worse(log, rho):
    less = thin(log, rho)
    assert (wc_acc(less) >= wc_acc(log) - 1e-9).all() and np.allclose(acc(less), acc(log)) and np.allclose(matrix(less), matrix(log), equal_nan=True)
    assert np.allclose(thin(log, None).acc, matrix(log), equal_nan=True) and np.array_equal(thin(log, 1).step, log.step)


@settings(deadline=None, max_examples=30)
@given(logs(), st.integers(2, 9))
def test_online_measures_equal_offline(log, W):
    low, window, T = MinACC(), WindowDelta(W), log.acc.shape[2]
    for n, t in enumerate(log.task_of):
        for i in range(t + 1): low.update(i, log.acc[0, n, i]); window.update(i, log.acc[0, n, i])
        if n in log.ends and t < T - 1: low.end_task(t)
    assert np.isclose(low.value, min_acc(log)[0]) and np.isclose(window.wf, wf(log, W)[0]) and np.isclose(window.wp, wp(log, W)[0])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_gem_step_is_the_nearest_that_opposes_nothing(k, seed):
    gen = torch.Generator().manual_seed(seed)
    g, G = torch.randn(8, generator=gen, dtype=torch.float64), torch.randn(k, 8, generator=gen, dtype=torch.float64)
    v = gem_project(g, G)
    assert (G@v > -1e-6).all()
    for _ in range(20):                                            # no feasible point on the way to another one is nearer
        other = gem_project(torch.randn(8, generator=gen, dtype=torch.float64), G)
        assert ((v - g)*(other - v)).sum() > -1e-5


# ---- streams and memory -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['class', 'task'])
@pytest.mark.parametrize('data, classes', [('fashion14', 10), ('digits', 10), ('shapes', 20)])
def test_class_streams(kind, data, classes):
    s = make_stream(kind, data, seed=5, n_eval=60)
    assert s.n_classes == classes and sorted(c for t in s.tasks for c in t.classes) == list(range(classes)) and len(s.evals) == 5
    assert all(set(t.y.tolist()) == set(t.classes) == set(y.tolist()) and len(y) == 60 for t, (_, y) in zip(s.tasks, s.evals))


def test_domain_streams():
    s = make_stream('domain', 'digits', angles=(0, 180), seed=1, n_eval=80)
    assert torch.allclose(s.tasks[1].x, s.tasks[0].x.flip(2, 3), atol=1e-4) and s.own().all()
    assert [t.domain for t in make_stream('domain', 'digits', styles=('plain', 'neon'), n_eval=20).tasks] == ['plain', 'neon']


@pytest.mark.parametrize('call, says', [
    (lambda: make_stream('blurred'), "'class', 'task' or 'domain'"), (lambda: make_stream('class', 'cifar'), "unknown data 'cifar'"),
    (lambda: make_stream('domain', 'digits', styles=('melted',)), 'expected a style'), (lambda: Memory(5, 'newest'), "'reservoir', 'balanced' or 'herding'"),
    (lambda: Memory(3).add(x=torch.rand(8, 2), y=torch.arange(8), t=torch.zeros(8)), 'no room for 8 groups'),
    (lambda: run_stream(Finetune(), [make_stream('class')], seeds=[1, 2]), 'a stream for each of the 2 seeds'), (lambda: largest_rise(np.zeros(4), 1), 'W=1'),
    (lambda: min_acc(Log(np.ones((1, 3, 1)), np.zeros(3, int), np.arange(3))), 'two tasks or more'), (lambda: grad_report(Log(np.ones((1, 3, 1)), np.zeros(3, int), np.arange(3))), 'grads=True')])
def test_errors_say_what_was_expected(call, says):
    with pytest.raises(ValueError, match=says): call()


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 40), st.sampled_from(['reservoir', 'balanced', 'herding']), st.integers(0, 99))
def test_memory_keeps_its_size(M, policy, seed):
    m, gen = Memory(M, policy, seed), torch.Generator().manual_seed(seed)
    for t in range(3):
        m.add(x=torch.rand(25, 1, 2, 2, generator=gen), y=torch.randint(2, (25,), generator=gen), t=torch.full((25,), t))
        assert len(m) <= M and all(len(v) == len(m) for v in m.fields.values())
        if policy == 'reservoir': assert len(m) == min(M, 25*(t + 1))
        else: assert torch.stack([m['t'], m['y']]).unique(dim=1, return_counts=True)[1].max() <= M//(t + 1)


# ---- the loop ---------------------------------------------------------------------------------------------------------

LEARNERS = dict(Finetune=Finetune(), ER=ER(60), DERpp=DERpp(60), GEM=GEM(60), AGEM=AGEM(60), LwF=LwF(), EWC=EWC(fisher_samples=40), Joint=JointIncremental(), NMC=NMC())


@pytest.mark.parametrize('kind', ['class', 'task', 'domain'])
@pytest.mark.parametrize('name', LEARNERS)
def test_lanes_give_what_single_runs_give(kind, name):
    s = lambda seed: few(make_stream(kind, 'digits', seed=seed, n_eval=50))
    kw = dict(iters=12, bs=32, seeds=(0, 1, 2), grads=True)
    a, b = run_stream_vmap(LEARNERS[name], s, **kw), run_stream(LEARNERS[name], s, together=False, **kw)
    assert torch.allclose(a.theta[-1], b.theta[-1], atol=1e-3) and np.nanmax(abs(a.acc - b.acc)) <= .041
    assert np.isfinite(a.acc[:, a.task_of == 1]).all() and np.isnan(a.acc[:, a.task_of == 0, 1]).all() and a.seeds == [0, 1, 2]
    if name == 'NMC': assert torch.equal(a.theta[0], a.theta[1])      # it does not touch the weights


@pytest.mark.parametrize('name', ['ER', 'GEM', 'LwF', 'EWC', 'Joint'])
def test_task_one_can_be_shared(name):
    s = few(make_stream('class', 'digits', seed=1, n_eval=50))
    kw = dict(iters=10, bs=32, seeds=(1, 2))
    full = run_stream(LEARNERS[name], s, **kw)
    late = run_stream(LEARNERS[name], s, theta=run_stream(Finetune(), s, **kw).theta[0], skip=1, **kw)
    assert np.array_equal(late.acc, full.acc[:, full.task_of == 1]) and torch.equal(late.theta[1], full.theta[1])


def test_a_run_repeats_itself_and_seeds_differ():
    s, kw = few(make_stream('class', 'digits', n_eval=50)), dict(iters=8, bs=32, seeds=(3, 4))
    a, b = run_stream(ER(50), s, **kw), run_stream(ER(50), s, **kw)
    assert torch.equal(a.theta[-1], b.theta[-1]) and not torch.equal(a.theta[-1][0], a.theta[-1][1])


def test_clip_and_evaluation_rows():
    s, steps = few(make_stream('class', 'digits', n_eval=50)), []
    net = lambda learner, t, i, g: steps.append(learner.net.theta.clone())
    log = run_stream(Finetune(), s, iters=7, bs=32, eval_every=3, seeds=[0], opt=lambda p: SGD(p, lr=1., momentum=0.), clip=.01, callbacks=[net])
    assert log.step.tolist() == [0, 3, 6, 7]*2 and log.task_of.tolist() == [0]*4 + [1]*4
    moves = [(b - a).norm().item() for a, b in zip(steps[:7], steps[1:8])]
    assert max(moves) <= .0101 and log.starts.tolist() == [0, 4] and log.ends.tolist() == [3, 7]


def test_a_learner_of_ones_own():
    "The protocol as the documentation has it: override `losses`, and the loop does the rest."
    class Smooth(Learner):
        def losses(self, xb, yb, t):
            z = self.logits(xb, t)
            return dict(plast=bench.ce(z, yb), stab=(self.net.rows(self.net.params)**2).sum(1) if t else None)
        def weights(self): return 1., .01
    log = run_stream(Smooth(), few(make_stream('class', 'digits', n_eval=50)), iters=5, bs=32, seeds=[0, 1], grads=True)
    first = log.starts[1]
    assert np.allclose(log.gnorm[:, first, 1], 2*log.theta[0].norm(dim=1), rtol=1e-4) and 'Smooth' in table({'Smooth': log})


def test_task_scenario_needs_the_task_and_hides_other_heads():
    s = few(make_stream('task', 'digits', n_eval=50))
    kept = []
    run_stream(Finetune(), s, iters=3, bs=32, seeds=[0], callbacks=[lambda learner, t, i, g: g or kept.append(learner)])
    z = kept[-1].predict(s.evals[0][0][None], 0)
    assert set(z[0].argmax(-1).tolist()) <= set(s.tasks[0].classes)
    with pytest.raises(ValueError, match='task_id'): kept[-1].predict(s.evals[0][0][None])


def test_stored_runs(tmp_path):
    log = run_stream(ER(50), few(make_stream('class', 'digits', n_eval=50)), iters=4, bs=32, seeds=[0, 1])
    save_logs(tmp_path/'a.npz', dict(er=log), dict(M=50), 50)
    back = load_logs(tmp_path/'a.npz', dict(M=50))['er']
    assert np.array_equal(back.acc, log.acc, equal_nan=True) and back.seeds == [0, 1] and back.storage == log.storage
    with pytest.raises(ValueError, match='other settings'): load_logs(tmp_path/'a.npz', dict(M=51))


def test_chapters_build_on_the_bench_and_not_the_other_way_round():
    found = [n for n in ast.walk(ast.parse(open(bench.__file__).read())) if isinstance(n, ast.ImportFrom)]
    assert {(n.level, n.module) for n in found} >= {(2, 'models'), (2, 'data')} and not [n.module for n in found if n.level == 1 or (n.module or '').startswith('courselib.continual')]


def test_online_evaluation_of_a_single_model():
    s = few(make_stream('class', 'digits', n_eval=50))
    ev = ContinualEval(s, rho=2)
    log = run_stream(ER(50), s, iters=6, bs=32, seeds=[0], eval_every=2,
                     callbacks=[lambda learner, t, i, g: ev(lambda x, task: learner.predict(x[None], task)[0], t, i, last=not g)])
    assert np.allclose(ev.log().acc, log.acc, equal_nan=True, atol=1e-6) and ev.log().step.tolist() == log.step.tolist()
