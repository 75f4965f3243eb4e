"Kernels without a GPU: the interpreter against the reference, the compiler, import without Triton, and the arithmetic of timing."
import json
import math
import time

import pytest
import torch

from courselib import kernels
from courselib.kernels import (Comparison, cdiv, compare, copy_bandwidth, cuda_module, dispatch, find_nvcc, gpu_time, have_cuda, have_triton, interpreted,
                               interpreting, jit, dot, matmul_peak, next_power_of_2, nvcc_compiles, run_python, softmax_rows, softmax_rows_ref, tl,
                               triton_compiles)

triton_only = pytest.mark.skipif(not have_triton(), reason='Triton is not installed')
nvcc_only = pytest.mark.skipif(find_nvcc() is None, reason='there is no nvcc')

# --- the interpreter ------------------------------------------------------------------------------------------------------------------
SOFTMAX = '''
import math, torch
from courselib.kernels import _softmax_launch, interpreting, softmax_rows, softmax_rows_ref
assert interpreting()
g = torch.Generator().manual_seed(0)
n = 0
for dtype, tol in [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float64, 1e-6)]:
    for shape in [(1, 1), (2, 2), (3, 31), (3, 32), (3, 33), (2, 3, 65), (130,), (1, 257)]:
        x = (5*torch.randn(shape, generator=g)).to(dtype)
        masks = [None, torch.rand(shape, generator=g) > .5, torch.zeros(shape, dtype=bool), torch.rand(shape[-1], generator=g) > .3]
        for mask in masks:
            for block in (16, 1024):
                got, want = _softmax_launch(x, mask, block=block), softmax_rows_ref(x, mask)
                assert got.shape == want.shape and got.dtype == want.dtype
                worst = (got.double() - want.double()).abs().max().item()
                assert worst <= tol, (dtype, shape, block, worst)
                n += 1
print(n, 'cases')
'''
EDGES = '''
import math, torch
from courselib.kernels import softmax_rows, softmax_rows_ref
same = lambda x, mask=None: torch.allclose(softmax_rows(x, mask), softmax_rows_ref(x, mask), atol=1e-6, equal_nan=True)
x = torch.randn(4, 40)
assert same(1e4*x) and same(x - 1e6)                                # large scores, all far below zero
assert same(torch.full((2, 9), -3.))                                # ties
assert same(x[:, ::2]) and same(x.T)                                # strided and transposed
assert same(x.masked_fill(x > 0, -math.inf))                        # -inf in the data itself
assert same(x.masked_fill(x > 2, math.nan))                         # a NaN spoils its row and no other
assert softmax_rows(torch.empty(0, 5)).shape == (0, 5) and softmax_rows(torch.empty(3, 0)).shape == (3, 0)
before = x.clone(); softmax_rows(x, x > 0)
assert torch.equal(before, x)                                       # inputs are left alone
# gradients: the bare kernel has none, so the reference answers
y = x.clone().requires_grad_()
assert softmax_rows.route(x) == 'kernel' and softmax_rows.route(y) == 'reference'
softmax_rows(y)[:, 0].sum().backward()
assert y.grad.abs().sum() > 0
with torch.no_grad(): assert softmax_rows.route(y) == 'kernel'
'''

@triton_only
def test_kernel_equals_reference_in_the_interpreter(): assert interpreted(SOFTMAX) == '256 cases'

@triton_only
def test_edges_in_the_interpreter(): assert interpreted(EDGES) == ''


@triton_only
def test_a_failure_in_the_other_process_is_a_failure_here():
    with pytest.raises(AssertionError, match='planted'): interpreted('raise RuntimeError("planted")')


MUTANTS = {'tail read as 0': ("other=float('-inf')", 'other=0.'), 'sum not rescaled': ('l*tl.exp(m - base)', 'l'),
           'one lane only': ('total = tl.sum(l*tl.exp(m - top), 0)', 'total = tl.max(l*tl.exp(m - top), 0)'),
           'no maximum': ('top = tl.max(m, 0)', 'top = tl.max(m, 0)*0.'), 'mask ignored': ('if HAS_MASK:', 'if False:'),
           'empty row is NaN': ('total = tl.where(total == 0., 1., total)', 'total = total*1.')}

@triton_only
def test_planted_mistakes_are_caught(tmp_path):
    import inspect
    source = inspect.getsource(kernels._softmax_kernel.fn)
    head, tail = 'import courselib.kernels as k\nfrom courselib.kernels import jit, tl\n\n', '\nk._softmax_kernel = _softmax_kernel\n'
    for i, (old, new) in enumerate([('', '')] + list(MUTANTS.values())):           # number 0 is an unchanged copy
        assert old in source
        (tmp_path/f'mutant{i}.py').write_text(head + source.replace(old, new) + tail)
    caught = interpreted(f'''
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
for i in range({len(MUTANTS) + 1}):
    importlib.import_module(f'mutant{{i}}')
    try:
        for test in ({SOFTMAX!r}, {EDGES!r}): exec(test, {{'print': lambda *a: None}})
    except AssertionError: print(i)
''')
    assert caught.split() == [str(i + 1) for i in range(len(MUTANTS))], [n for i, n in enumerate(MUTANTS, 1) if str(i) not in caught.split()]


# --- the compiler ---------------------------------------------------------------------------------------------------------------------
@triton_only
@pytest.mark.parametrize('arch', [80, 90])
@pytest.mark.parametrize('kind', ['fp32', 'bf16'])
def test_kernel_compiles_for_a_gpu_that_is_not_there(kind, arch):
    ok, log = triton_compiles(kernels._softmax_kernel, dict(x=f'*{kind}', mask='*u8', out=f'*{kind}', width='i32'), dict(HAS_MASK=True, BLOCK=256), arch)
    assert ok and f'sm_{arch}' in log


@jit
def product(a, b, out, BLOCK:tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = i[:, None]*BLOCK + i[None, :]
    tl.store(out + at, dot(tl.load(a + at), tl.load(b + at), tl.zeros([BLOCK, BLOCK], tl.float32)))


@triton_only
@pytest.mark.parametrize('kind', ['fp32', 'fp16', 'bf16'])
def test_dot_compiles_from_another_module(kind):
    ok, log = triton_compiles(product, dict(a=f'*{kind}', b=f'*{kind}', out='*fp32'), dict(BLOCK=32), 90, num_warps=4)
    assert ok, log


@triton_only
def test_compile_errors_are_reported_not_raised():
    ok, log = triton_compiles(kernels._softmax_kernel, dict(x='*fp32', mask='*u8', out='*fp32', width='i32'), dict(HAS_MASK=True, BLOCK=100))     # no power of two
    assert ok is False and 'power of 2' in log


@nvcc_only
def test_nvcc():
    assert nvcc_compiles('__global__ void f(float* x) { x[threadIdx.x] = 1.f; }')[0] is True
    ok, log = nvcc_compiles('__global__ void f(float* x) { y[threadIdx.x] = 1.f; }')
    assert ok is False and '"y" is undefined' in log


def test_without_nvcc_the_check_says_so(monkeypatch):
    monkeypatch.setattr(kernels, 'find_nvcc', lambda: None)
    assert nvcc_compiles('anything') == (None, 'no nvcc on this machine')


# --- without Triton ---------------------------------------------------------------------------------------------------------------------
def test_import_without_triton():
    print(run_python('''
import sys
sys.modules['triton'] = None                    # import triton now fails
import torch
from courselib.kernels import *
from courselib.kernels import autotune, dot, interpreted, jit, tl, triton_compiles
assert not have_triton() and not interpreting() and interpreted('1/0') is None
FLAG = tl.constexpr(True)
@autotune([dict(BLOCK=64, num_warps=4)], key=['n'])
@jit
def kernel(x, n, BLOCK:tl.constexpr, KIND:tl.constexpr=tl.float32): tl.store(x, tl.load(x) + n)
x = torch.randn(3, 5)
assert softmax_rows.route(x) == 'reference' and torch.equal(softmax_rows(x), softmax_rows_ref(x))
for call in (lambda: kernel[(1,)](x, 3), lambda: kernel[lambda meta: (1,)](x, 3), lambda: dot(1, 2, 3), lambda: tl.cdiv(3, 2)):
    try: call()
    except RuntimeError as e: assert 'Triton' in str(e) and 'not installed' in str(e), e
    else: raise AssertionError('a kernel ran without Triton')
assert triton_compiles(kernel, {}, {})[0] is None
''', TRITON_INTERPRET='1'))


def test_import_needs_torch_and_the_standard_library_only():
    out = run_python('''
import sys
for name in ('triton', 'numpy.testing', 'plotly', 'matplotlib', 'IPython', 'pandas', 'sklearn', 'scipy'): sys.modules[name] = None
import courselib.kernels
print('ok')
''')
    assert out == 'ok'


# --- dispatch -------------------------------------------------------------------------------------------------------------------------
class FakeCuda(torch.Tensor):
    "A tensor that says it lives on a GPU."
    is_cuda = True


def fake(**kw): return torch.zeros(2, **kw).as_subclass(FakeCuda)


def test_dispatch_routes():
    f = dispatch(lambda x, y=None: 'kernel', lambda x, y=None: 'reference')
    both = dispatch(lambda x, y=None: 'kernel', lambda x, y=None: 'reference', differentiable=True)
    cuda = 'kernel' if have_triton() else 'reference'
    assert not interpreting()
    assert f(torch.zeros(2)) == 'reference' and f(fake()) == cuda and f(torch.zeros(2), y=fake()) == cuda
    assert f(fake(requires_grad=True)) == 'reference' and both(fake(requires_grad=True)) == cuda
    with torch.no_grad(): assert f(fake(requires_grad=True)) == cuda
    assert f.kernel(1) == 'kernel' and f.reference(1) == 'reference'


def test_dispatch_looks_like_the_reference():
    import inspect
    assert softmax_rows.__name__ == 'softmax_rows_ref' and inspect.signature(softmax_rows) == inspect.signature(softmax_rows_ref)


@pytest.mark.parametrize('a, b', [(0, 3), (1, 3), (3, 3), (10**12 + 1, 7)])
def test_integers(a, b):
    assert cdiv(a, b) == math.ceil(a/b) or cdiv(a, b)*b >= a > (cdiv(a, b) - 1)*b
    n = next_power_of_2(a)
    assert n >= a and n & (n - 1) == 0 and (a <= 1 or n//2 < a)


# --- timing ---------------------------------------------------------------------------------------------------------------------------
def test_median_and_quartiles(monkeypatch):
    ticks = iter([0, 1, 10, 13, 20, 22, 30, 90, 100, 104])            # seconds: runs of 1, 3, 2, 60, 4
    monkeypatch.setattr(kernels.time, 'perf_counter', lambda: next(ticks))
    t = gpu_time(lambda: None, reps=5, warmup=2, device='cpu')
    assert (t.ms, t.lo, t.hi, t.reps) == (3000, 2000, 4000, 5) and 'CPU' in repr(t)


def test_contestants_run_in_turns():
    order = []
    compare({'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, reps=3, warmup=1, device='cpu')
    assert ''.join(order) == 'ab' + 'ababab'


def test_a_table_of_known_times(monkeypatch):
    monkeypatch.setattr(kernels, '_samples', lambda fns, *a: {n: [fns[n]()]*3 for n in fns})
    monkeypatch.setattr(kernels, 'copy_bandwidth', lambda device: 200.)
    monkeypatch.setattr(kernels, 'matmul_peak', lambda dtype, device: 4.)
    t = compare({'slow': lambda: 4., 'fast': lambda: 2.}, flops=4e9, bytes={'slow': 4e8, 'fast': 1e8}, device='cpu', title='a task')
    slow, fast = t.rows
    assert (fast['ratio'], fast['tflops'], fast['of_peak'], fast['gbs'], fast['of_copy']) == (2, 2, .5, 50, .25)
    assert (slow['gbs'], slow['of_copy']) == (100, .5)
    text = repr(t)
    assert all(w in text for w in ('a task', 'copy reaches 200 GB/s', 'matmul reaches 4 TFLOP/s', '50%', '2.00')) and 'peak MB' not in text
    assert len({len(l) for l in text.splitlines()[1:]}) == 1        # columns line up
    json.dumps(t.rows)


def test_out_of_memory_is_a_row_not_a_crash():
    t = Comparison([dict(name='naive', error='out of memory'), dict(name='ours', ms=1., quartiles='1-1', ratio=1., peak_mb=2.)], 'a GPU', {})
    assert 'out of memory' in repr(t).splitlines()[2] and '2.0' in repr(t).splitlines()[3]


def test_without_a_gpu_nothing_is_timed_by_accident(monkeypatch):
    monkeypatch.setattr(kernels, 'have_cuda', lambda: False)
    for f in (lambda: gpu_time(lambda: None), lambda: compare({'a': lambda: None}), copy_bandwidth, matmul_peak):
        with pytest.raises(RuntimeError, match='no GPU'): f()
    with pytest.raises(RuntimeError, match='a GPU'): cuda_module('', ['int f(int x)'])


def test_bad_arguments():
    for f in (lambda: gpu_time(lambda: None, reps=0, device='cpu'), lambda: compare({}, device='cpu'), lambda: cuda_module('', []), lambda: cuda_module('', ['f'])):
        with pytest.raises(ValueError): f()


def test_ceilings_are_plausible():
    assert .1 < copy_bandwidth('cpu', size=8 << 20) < 5000 and 1e-4 < matmul_peak(torch.float32, 'cpu', n=128) < 100


# --- on a GPU -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.cuda
@pytest.mark.parametrize('dtype, tol', [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_kernel_equals_reference_on_the_gpu(dtype, tol):
    for shape in [(1, 1), (7, 1023), (64, 4097), (3, 100_003), (2, 3, 65)]:
        x = (5*torch.randn(shape, device='cuda')).to(dtype)
        mask = torch.rand(shape, device='cuda') > .5
        mask[0] = False
        for m in (None, mask):
            assert softmax_rows.route(x) == 'kernel'
            assert (softmax_rows(x, m).float() - softmax_rows_ref(x, m).float()).abs().max() <= tol


@pytest.mark.cuda
def test_gpu_times_are_those_of_the_gpu():
    x = torch.randn(4096, 4096, device='cuda')
    t = gpu_time(lambda: x @ x, reps=20)
    start = time.perf_counter()
    for _ in range(20): x @ x
    torch.cuda.synchronize()
    assert .5*t.ms < 1e3*(time.perf_counter() - start)/20 < 3*t.ms
    table = compare({'one': lambda: x @ x, 'two': lambda: (x @ x, x @ x)}, flops=2*4096**3, bytes=3*x.nbytes, dtype=torch.float32, reps=10)
    one, two = table.rows
    assert 1.6 < two['ms']/one['ms'] < 2.4 and one['peak_mb'] == pytest.approx(x.nbytes/1e6, rel=.5)
    assert 0 < one['of_peak'] < 1.2


@pytest.mark.cuda
def test_cuda_source_runs():
    src = '''
    __global__ void twice_kernel(const float* x, float* y, int n) { int i = blockIdx.x*blockDim.x + threadIdx.x; if (i < n) y[i] = 2*x[i]; }
    torch::Tensor twice(torch::Tensor x) {
        auto y = torch::empty_like(x); int n = x.numel();
        if (n) twice_kernel<<<(n + 255)/256, 256>>>(x.data_ptr<float>(), y.data_ptr<float>(), n);
        return y;
    }'''
    x = torch.randn(1000, device='cuda')
    assert torch.equal(cuda_module(src, ['torch::Tensor twice(torch::Tensor x)']).twice(x), 2*x)
