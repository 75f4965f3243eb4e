"""What the training notebook's examples do not cover: properties over random settings, and equality of `fit_many` and a loop over a grid."""
import itertools
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn import functional as F
from courselib.models import MLP, StackedMLP, convnet, gpt, mlp, vit
from courselib.train import (History, accuracy, batches, cosine, evaluate, fit, fit_many, knn_probe, linear_probe, lm_loss, set_seed)


@pytest.fixture(scope='module')
def data():
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(150, 6, generator=gen)
    return x, (x[:, :3].sum(1) > 0).long() + 2*(x[:, 3] > 0).long()


@given(n=st.integers(1, 60), bs=st.integers(1, 80), steps=st.integers(0, 40), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_batches_use_every_sample_equally_often(n, bs, steps, seed):
    b = batches(n, bs, steps, seed)
    assert b.shape == (steps, min(bs, n)) and b.dtype == torch.long
    counts = b.flatten().bincount(minlength=n)
    assert len(counts) == n and counts.max() - counts.min() <= 1
    for epoch in b.flatten().split(n): assert len(epoch.unique()) == len(epoch)
    assert torch.equal(b, batches(n, bs, steps, seed))


@pytest.mark.parametrize('args', [(0, 1, 1), (5, 0, 1), (5, 2, -1)])
def test_batches_says_what_is_wrong(args):
    with pytest.raises(ValueError, match='expected n >= 1'): batches(*args)


def loop(make, data, seeds, lr, **kw):
    nets, hs = [], []
    for i, s in enumerate(seeds):
        set_seed(s)
        nets.append(make())
        hs.append(fit(nets[-1], data, seed=s, lr=lr[i] if isinstance(lr, list) else lr, **kw))
    return nets, hs


GRID = list(itertools.product(['relu', 'tanh', 'sigmoid', 'gelu'], ['sgd', 'adam', 'adamw', torch.optim.RMSprop], [.01, [.003, .01, .03]], [0., .05]))

@pytest.mark.parametrize('act,opt,lr,wd', [g for g in GRID if not (callable(g[1]) and g[3])])
def test_fit_many_equals_a_loop(data, act, opt, lr, wd):
    kw = dict(steps=12, bs=16, opt=opt, wd=wd, schedule=cosine(.25), evals=data, eval_every=5)
    make = lambda: mlp(6, 9, 2, 4, act)
    nets, hs = loop(make, data, [4, 0, 7], lr, **kw)
    runs = fit_many(make, data, seeds=[4, 0, 7], lr=lr, **kw)
    assert runs.stack is not None and runs.step == hs[0].step == [0, 5, 10, 12]
    for i, (net, h) in enumerate(zip(nets, hs)):
        np.testing.assert_allclose(runs.loss[i], h.loss, atol=2e-5)
        np.testing.assert_allclose(runs.test_loss[i], h.test_loss, atol=2e-5)
        for p, q in zip(runs.nets[i].parameters(), net.parameters()): torch.testing.assert_close(p, q, atol=2e-4, rtol=0)


@pytest.mark.parametrize('loss,d_out,target', [(F.mse_loss, 2, lambda x: x[:, :2]), (F.binary_cross_entropy_with_logits, 1, lambda x: (x[:, :1] > 0).float()),
                                               (lambda o, y: (o - y).abs().pow(3).mean(), 2, lambda x: x[:, :2]),
                                               (lambda o, y: F.cross_entropy(o, y, label_smoothing=.1), 4, lambda x: x[:, 0].gt(0).long()),
                                               (F.cross_entropy, 4, lambda x: x[:, :4].softmax(1)),
                                               (F.cross_entropy, 4, lambda x: torch.where(x[:, 0] > 0, 1, -100))])
@pytest.mark.parametrize('act', ['relu', 'elu'])
def test_fit_many_with_any_loss(data, loss, d_out, target, act):
    pair, kw = (data[0], target(data[0])), dict(steps=8, bs=32, loss=loss)
    make = lambda: mlp(6, 5, 1, d_out, act)
    nets, hs = loop(make, pair, [0, 1], None, **kw)
    runs = fit_many(make, pair, seeds=2, **kw)
    np.testing.assert_allclose(runs.loss, [h.loss for h in hs], atol=2e-5)


def test_fit_many_trains_a_stack_in_pieces(data):
    stack = StackedMLP((6, 5, 4), seeds=[0, 1])
    for seeds in ([0, 1], [2, 3]): fit_many(stack, data, seeds=seeds, steps=10, momentum=0.)
    nets = [StackedMLP((6, 5, 4), seeds=[s]).unstack(0) for s in (0, 1)]
    for i, net in enumerate(nets):
        for s in (i, i+2): fit(net, data, seed=s, steps=10, momentum=0.)
        for p, q in zip(stack.unstack(i).parameters(), net.parameters()): torch.testing.assert_close(p, q, atol=1e-5, rtol=0)
    x = torch.randn(2, 3, 6, requires_grad=True)                          # and the stack is an ordinary module again
    stack(x).sum().backward()
    assert all(p.grad.shape == p.shape for p in stack.parameters())


def test_callbacks_see_current_weights(data):
    seen = []
    fit_many(lambda: mlp(6, 5, 1, 4), data, seeds=2, steps=3, callbacks=[lambda i, m, l: seen.append((i, m.weights[0].detach().clone(), l.shape))])
    assert [s[0] for s in seen] == [1, 2, 3] and seen[0][2] == (2,)
    assert not torch.equal(seen[0][1], seen[2][1]) and seen[0][1].shape == (2, 6, 5)


def test_other_models_train_one_after_the_other(data):
    x, y = torch.rand(40, 1, 8, 8), torch.randint(0, 10, (40,))
    runs = fit_many(lambda: convnet(width=4, norm='batch'), (x, y), seeds=2, steps=3, evals=(x, y))
    assert runs.stack is None and len(runs.nets) == 2 and runs.loss.shape == (2, 3) and runs.test_acc.shape == (2, 1)
    different = fit_many([mlp(6, 5, 1, 4), mlp(6, 7, 1, 4)], data, seeds=[0, 1], steps=2)
    assert different.stack is None


@pytest.mark.parametrize('model,x,y', [(mlp(6, 5, 1, 4), torch.randn(70, 6), torch.randint(0, 4, (70,))),
                                       (convnet(3, 4, norm='batch'), torch.randn(70, 3, 8, 8), torch.randint(0, 10, (70,))),
                                       (vit(8, 4, 3, 16, 1, 2), torch.randn(70, 3, 8, 8), torch.randint(0, 10, (70,)))])
@pytest.mark.parametrize('bs', [1, 32, 70, 1000])
def test_evaluate_is_the_mean_over_samples(model, x, y, bs):
    model.eval()
    with torch.no_grad(): out = model(x)
    res = evaluate(model.train(), (x, y), bs=bs)
    assert res['loss'] == pytest.approx(F.cross_entropy(out, y).item(), abs=1e-5) and res['acc'] == pytest.approx(accuracy(out, y), abs=1e-6)
    assert model.training


def test_evaluate_a_language_model():
    m, idx = gpt(7, 16, 1, 2, 12), torch.randint(0, 7, (9, 13))
    res = evaluate(m, (idx[:, :-1], idx[:, 1:]), bs=4, loss=lm_loss)
    with torch.no_grad(): out = m(idx[:, :-1])
    assert res['loss'] == pytest.approx(lm_loss(out, idx[:, 1:]).item(), abs=1e-5)
    assert res['acc'] == pytest.approx(accuracy(out, idx[:, 1:]), abs=1e-6)


def test_every_model_overfits_a_batch():
    "A network that trains reaches a loss near zero on 16 samples."
    y = torch.arange(16) % 4
    for make, x in [(lambda: mlp(12), torch.randn(16, 12)), (lambda: convnet(1, 8), torch.rand(16, 1, 12, 12)), (lambda: vit(12, 4, dim=32, depth=1), torch.rand(16, 1, 12, 12))]:
        set_seed(0)
        h = fit(make(), (x, y), steps=150, bs=16, opt='adam', lr=.005)
        assert h.loss[-1] < .1 < h.loss[0]
    seqs = torch.randint(0, 9, (8, 11), generator=torch.Generator().manual_seed(0))
    h = fit(gpt(9, 32, 1, 2, 10), (seqs[:, :-1], seqs[:, 1:]), steps=200, opt='adam', lr=.005, loss=lm_loss)
    assert h.loss[-1] < .5 < 2 < h.loss[0]


def test_same_seed_same_run(data):
    def run():
        set_seed(3)
        return fit(mlp(6, 8, 1, 4), data, steps=20, seed=3).loss
    np.testing.assert_array_equal(run(), run())


def test_progress_bar_says_how_long(data, capsys):
    fit(mlp(6, 8, 1, 4), data, steps=30, progress=True)
    assert 'left' in capsys.readouterr().err
    fit(mlp(6, 8, 1, 4), data, steps=30)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('call,says', [
    (lambda d: fit(mlp(6), d), 'steps=None'), (lambda d: fit(mlp(6), d, steps=1, epochs=1), 'epochs=1'),
    (lambda d: fit(mlp(6), d, steps=1, opt='sdg'), "'sdg'"), (lambda d: fit(mlp(6), (d[0], d[1][:9]), steps=1), '150 inputs and 9 targets'),
    (lambda d: fit(mlp(6), (d[0][:0], d[1][:0]), steps=1), 'at least one'), (lambda d: fit_many(lambda: mlp(6), d, steps=1, lr=[.1]), 'expected 3 learning rates'),
    (lambda d: fit_many(lambda: convnet(), d, steps=1, lr=[.1]), 'expected 3 learning rates'), (lambda d: fit_many(lambda: mlp(6), [d, d], steps=1), 'data sets'),
    (lambda d: StackedMLP((6, 4), 2)(torch.randn(3, 5, 6)), 'S = 2'), (lambda d: mlp(6)(torch.randn(5, 7)), '6 values')])
def test_bad_input_says_what_was_expected(data, call, says):
    with pytest.raises(ValueError, match=says): call(data)


def test_history_names_what_it_has():
    h = History(evals=dict(test_acc=[.5]))
    with pytest.raises(AttributeError, match='test_acc'): h.nothing
    assert not hasattr(h, '__array__') and 'test_acc 0.5000' in repr(h)


@given(st.integers(2, 40), st.integers(1, 30), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_knn_probe_against_the_definition(n, m, d, seed):
    gen = torch.Generator().manual_seed(seed)
    f, g, y, t = torch.randn(n, d, generator=gen), torch.randn(m, d, generator=gen), torch.randint(0, 3, (n,), generator=gen), torch.randint(0, 3, (m,), generator=gen)
    k, hits = min(3, n), 0
    for i in range(m):
        cos = F.cosine_similarity(g[i:i+1], f, dim=1)
        near = cos.argsort(descending=True)[:k]
        score = torch.zeros(3).index_add(0, y[near], ((cos[near] - 1)/.07).exp())
        top = score.topk(2).values
        if d == 1 or top[0] - top[1] < 1e-4: return                       # ties may go either way
        hits += (score.argmax() == t[i]).item()
    assert knn_probe(f, y, g, t, k=k) == pytest.approx(hits/m)


def test_linear_probe_ignores_the_scale_of_a_feature():
    gen = torch.Generator().manual_seed(0)
    f, y = torch.randn(80, 4, generator=gen), torch.randint(0, 3, (80,), generator=gen)
    for kind in ('logistic', 'ridge'):
        assert linear_probe(f, y, f, y, kind) == pytest.approx(linear_probe(f*torch.tensor([1, 10, 1e3, 1e-3]) + 5, y, f*torch.tensor([1, 10, 1e3, 1e-3]) + 5, y, kind), abs=.02)
