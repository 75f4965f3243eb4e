"""The estimators of the information part against what one would otherwise call, timed in one run, results compared.

    python tools/benchmark.py      (what `make benchmark` calls)

Both sides run in turns, so that a busy machine slows both; the table gives medians, their ratio and the largest difference of the results.
"""
import math, os, statistics, sys, time
from pathlib import Path

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'): os.environ.setdefault(name, '1')
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import torch
from scipy.special import digamma, logsumexp
from scipy.spatial.distance import cdist
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score
from sklearn.neighbors import NearestNeighbors
from courselib.information.bench import H_disc, codes, entropy_kl, gaussian_pair, knn_logr, mi_disc, mi_ksg, pairwise_lse


def lse_numpy(H, s2):
    "Distances by broadcasting, then SciPy's logsumexp."
    return (logsumexp(-((H[:, None] - H[None])**2).sum(-1)/(2*s2), axis=1) - math.log(len(H)))/math.log(2)


def lse_scipy(H, s2): return (logsumexp(-cdist(H, H, 'sqeuclidean')/(2*s2), axis=1) - math.log(len(H)))/math.log(2)


def kl_numpy(Z, k=5):
    "Entropy of Kozachenko and Leonenko from the full table of distances."
    n, d = Z.shape
    r = np.partition(np.sqrt(((Z[:, None] - Z[None])**2).sum(-1)), k, axis=1)[:, k]
    return (d*np.log(r).mean() + d/2*math.log(math.pi) - math.lgamma(d/2 + 1) + math.log(n - 1) - digamma(k))/math.log(2)


def ksg_numpy(X, Y, k=5):
    "The first estimator of Kraskov et al. from the full tables of distances."
    dx, dy = [np.abs(Z[:, None] - Z[None]).max(-1) for Z in (X, Y)]
    d = np.maximum(dx, dy)
    np.fill_diagonal(d, np.inf)
    r = np.partition(d, k - 1, axis=1)[:, k - 1, None]
    nx, ny = (dx < r).sum(1), (dy < r).sum(1)                       # each counts itself: n + 1
    return (digamma(k) + digamma(len(X)) - (digamma(nx) + digamma(ny)).mean())/math.log(2)


def mi_numpy(ids, p):
    "I(T;Y) of discrete states from the joint table."
    joint = np.zeros((ids.max() + 1, 2))
    np.add.at(joint, (ids, 0), 1 - p); np.add.at(joint, (ids, 1), p)
    joint /= len(ids)
    outer = joint.sum(1, keepdims=True)*joint.sum(0)
    return (joint[joint > 0]*np.log2(joint[joint > 0]/outer[joint > 0])).sum()


def H_numpy(D):
    n = np.unique(D, axis=0, return_counts=True)[1]/len(D)
    return -(n*np.log2(n)).sum()


def cases():
    "(estimator, size, rival, ours, theirs) for each comparison."
    rng = np.random.default_rng(0)
    for n, d in ((256, 5), (2048, 10)):
        H = rng.standard_normal((n, d)); T = torch.from_numpy(H)
        yield 'pairwise_lse', f'{n} x {d}', 'NumPy', lambda T=T: pairwise_lse(T, .1).numpy(), lambda H=H: lse_numpy(H, .1)
        yield 'pairwise_lse', f'{n} x {d}', 'SciPy cdist', lambda T=T: pairwise_lse(T, .1).numpy(), lambda H=H: lse_scipy(H, .1)
    for n, d in ((1000, 2), (3000, 4)):
        Z = rng.standard_normal((n, d))
        yield 'entropy_kl', f'{n} x {d}', 'NumPy', lambda Z=Z: entropy_kl(Z), lambda Z=Z: kl_numpy(Z)
        yield 'knn_logr', f'{n} x {d}', 'scikit-learn NearestNeighbors', lambda Z=Z: knn_logr(Z, 5), lambda Z=Z: np.log(NearestNeighbors(n_neighbors=5).fit(Z).kneighbors()[0])
    for n in (1000, 5000):
        a, b, _ = gaussian_pair(n, 1, .8)
        a, b = [(v/v.double().std(correction=0)).double().numpy() for v in (a, b)]
        yield 'mi_ksg', f'{n} x (1 + 1)', 'scikit-learn mutual_info_regression', lambda a=a, b=b: mi_ksg(a, b, 3), lambda a=a, b=b: mutual_info_regression(a, b[:, 0], n_neighbors=3, random_state=0)[0]/math.log(2)
    a, b = [v.double().numpy() for v in gaussian_pair(2000, 3, .6)[:2]]
    yield 'mi_ksg', '2000 x (3 + 3)', 'NumPy', lambda: mi_ksg(a, b), lambda: ksg_numpy(a, b)
    D, p = rng.integers(0, 30, (4096, 5)), rng.random(4096)
    D[:, 2:] //= 12
    T, P = torch.from_numpy(D), torch.from_numpy(p)
    ids, hard = codes(T), torch.from_numpy((p > .5).astype(int))
    yield 'codes + H_disc', '4096 x 5', 'NumPy unique', lambda: H_disc(codes(T)), lambda: H_numpy(D)
    yield 'mi_disc', '4096 states, soft labels', 'NumPy', lambda: mi_disc(ids, P), lambda: mi_numpy(ids.numpy(), p)
    yield 'mi_disc', '4096 states, hard labels', 'scikit-learn mutual_info_score', lambda: mi_disc(ids, hard.double()), lambda: mutual_info_score(ids.numpy(), hard.numpy())/math.log(2)


def measure(ours, theirs, rounds=7, least=.02):
    "Median seconds of both, run in turns, and the largest difference."
    gap, times = np.abs(np.asarray(ours()) - np.asarray(theirs())).max(), ([], [])
    for _ in range(rounds):
        for fn, seen in zip((ours, theirs), times):
            start, n = time.perf_counter(), 0
            while time.perf_counter() - start < least: fn(); n += 1
            seen.append((time.perf_counter() - start)/n)
    return *map(statistics.median, times), gap


def main():
    torch.set_num_threads(1)
    print(f"{'estimator':15}{'size':26}{'against':37}{'ours, ms':>9}{'theirs':>9}{'ratio':>7}  largest difference")
    slow = []
    for name, size, rival, ours, theirs in cases():
        a, b, gap = measure(ours, theirs)
        print(f'{name:15}{size:26}{rival:37}{1e3*a:9.2f}{1e3*b:9.2f}{b/a:7.1f}  {gap:.0e}')
        if gap > 1e-6: sys.exit(f'{name} and {rival} differ by {gap:.1e} bits')
        if b < a: slow.append(f'{name} ({size}) against {rival}')
    if slow: print('slower here: ' + '; '.join(slow))


if __name__ == '__main__': main()
