"""What training many seeds together gains over a loop of `fit`, on one core.

    python benchmarks/fit_many.py

CPU seconds of the process, loop and rival alternating; each number is the median over pairs.
"""
import os
os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = '1'
import copy, statistics, time, warnings
import torch
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F
from courselib.models import StackedMLP, convnet, gpt, mlp, vit
from courselib.train import batches, fit, fit_many, lm_loss, set_seed

torch.set_num_threads(1)
warnings.filterwarnings('ignore', message='There is a performance drop')     # vmap has no rule for fused attention: part of the finding


def loop(make, x, y, S, steps, bs, loss):
    for s in range(S):
        set_seed(s)
        fit(make(), (x, y), steps=steps, bs=bs, seed=s, loss=loss)


def plain(make, x, y, S, steps, bs, loss):
    "The loop everybody writes: default optimiser, no `fit`."
    for s in range(S):
        set_seed(s)
        model = make()
        opt = torch.optim.SGD(model.parameters(), lr=.05, momentum=.9)
        for b in batches(len(x), bs, steps, s).unbind():
            l = loss(model(x[b]), y[b])
            opt.zero_grad(); l.backward(); opt.step()


def together(make, x, y, S, steps, bs, loss):
    fit_many(make, (x, y), seeds=S, steps=steps, bs=bs, loss=loss)


def stacked(make, x, y, S, steps, bs, loss):
    "Batched matrix products and nothing else: autograd, torch's optimiser."
    model = StackedMLP(make().widths, S)
    opt = torch.optim.SGD(model.parameters(), lr=.05, momentum=.9, fused=True)
    for b in torch.stack([batches(len(x), bs, steps, s) for s in range(S)], 1).unbind():
        l = F.cross_entropy(model(x[b]).flatten(0, 1), y[b].flatten(), reduction='sum')/bs
        opt.zero_grad(); l.backward(); opt.step()


def vmapped(make, x, y, S, steps, bs, loss):
    nets = []
    for s in range(S):
        set_seed(s)
        nets.append(make())
    params, _ = stack_module_state(nets)
    skeleton = copy.deepcopy(nets[0]).to('meta')
    step = vmap(grad_and_value(lambda p, x, y: loss(functional_call(skeleton, p, (x,)), y)))
    opt = torch.optim.SGD(params.values(), lr=.05, momentum=.9, fused=True)
    for b in torch.stack([batches(len(x), bs, steps, s) for s in range(S)], 1).unbind():
        grads, _ = step(params, x[b], y[b])
        for k, p in params.items(): p.grad = grads[k]
        opt.step()


def products(widths, S, B, steps):
    "CPU seconds of the matrix products of a training, and nothing else."
    work = [(torch.rand(S, B, i), torch.rand(S, o, i), torch.rand(S, B, o), torch.zeros(S, o, i)) for i, o in zip(widths, widths[1:])]
    start = time.process_time()
    for _ in range(steps):
        for j, (h, w, d, g) in enumerate(work):
            torch.bmm(h, w.mT); g.baddbmm_(d.mT, h, beta=.9)
            if j: torch.bmm(d, w)
    return time.process_time() - start


def measure(rivals, args, pairs=5):
    "Median CPU seconds of each, and how many times faster each is than the first."
    times = []
    for f in rivals: f(*args)
    for _ in range(pairs):
        row = []
        for f in rivals:
            start = time.process_time()
            f(*args)
            row.append(time.process_time() - start)
        times.append(row)
    return [(statistics.median(t), statistics.median(r[0]/r[i] for r in times)) for i, t in enumerate(zip(*times))]


def main():
    img = lambda c, h: (torch.rand(2000, c, h, h), torch.randint(0, 10, (2000,)))
    txt = lambda V, T: (torch.randint(0, V, (2000, T)), torch.randint(0, V, (2000, T)))
    flat = lambda d: (torch.rand(5000, d), torch.randint(0, 10, (5000,)))
    row = '{:30} {:>5}   {:>12}   {:>14} {:>16} {:>14} {:>14} {:>14}'.format
    print('Speed-up over a loop of fit (above 1: faster)\n')
    print(row('MLP', 'seeds', 'loop of fit', 'fit_many', 'stack, autograd', 'vmap', 'plain loop', 'products only'))
    for name, make, d, bs, steps in [('196-128-128-10, batch 64', lambda: mlp(196), 196, 64, 100), ('64-64-10, batch 32', lambda: mlp(64, 64, 1), 64, 32, 100),
                                     ('12-10-7-5-4-3-10, batch 256', lambda: mlp(12, [10, 7, 5, 4, 3]), 12, 256, 100)]:
        for S in (3, 8, 16):
            r = measure([loop, together, stacked, vmapped, plain], (make, *flat(d), S, steps, bs, F.cross_entropy))
            bound = r[0][0]/min(products(make().widths, S, bs, steps) for _ in range(3))
            print(row(name, S, f'{r[0][0]/steps/S*1e3:.3f} ms', *(f'{x:.2f}x' for _, x in r[1:]), f'{bound:.2f}x'), flush=True)
    print('\nOther networks: milliseconds of a step and seed, and the speed-up of vmap (fit_many is the loop)\n')
    print('{:36} {:>5} {:>12} {:>9}'.format('', 'seeds', 'loop of fit', 'vmap'))
    for name, make, data, bs, loss, steps in [
            ('convnet, 28 px, batch 64', convnet, img(1, 28), 64, F.cross_entropy, 2),
            ('convnet width 8, 14 px, batch 64', lambda: convnet(1, 8), img(1, 14), 64, F.cross_entropy, 8),
            ('convnet width 8, 8 px, no norm', lambda: convnet(1, 8, norm=None), img(1, 8), 32, F.cross_entropy, 20),
            ('vit, 28 px, patch 7, batch 64', vit, img(1, 28), 64, F.cross_entropy, 4),
            ('vit d=32, 14 px, patch 7, batch 32', lambda: vit(14, 7, dim=32), img(1, 14), 32, F.cross_entropy, 20),
            ('gpt d=32, context 32, batch 32', lambda: gpt(16, 32, 2, 2, 32), txt(16, 32), 32, lm_loss, 6)]:
        for S in (3, 8, 16):
            (a, _), (_, r) = measure([loop, vmapped], (make, *data, S, steps, bs, loss), pairs=3)
            print(f'{name:36} {S:5} {a/steps/S*1e3:9.2f} ms {r:8.2f}x', flush=True)


if __name__ == '__main__': main()
