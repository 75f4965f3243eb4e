"8-bit Adam: the kernels in Triton's interpreter and through the compilers, the CUDA C++ source on a CPU, the optimizers as a user meets them."
import math, shutil, subprocess

import nbformat
import numpy as np
import pytest
import torch

from courselib.compression import optim8bit as o
from courselib.compression.bench import blockwise_dequant, blockwise_quant
from courselib.kernels import have_triton, interpreted, nvcc_compiles, triton_compiles

triton_only = pytest.mark.skipif(not have_triton(), reason='needs Triton')

# --- the interpreter ------------------------------------------------------------------------------------------------------------------
SETUP = '''
import math, torch
import courselib.compression.optim8bit as o
from courselib.compression.bench import blockwise_dequant, blockwise_quant
from courselib.kernels import interpreting
assert interpreting()
torch.manual_seed(0)

def states(n, B):
    "Random weights, gradients over ten decades, and states that some steps have filled."
    blocks = -(-n//B)
    p, g = torch.randn(n), torch.randn(n)*10**(10*torch.rand(n) - 10)
    s = [torch.zeros(n, dtype=torch.uint8), torch.zeros(blocks), torch.zeros(n, dtype=torch.uint8), torch.zeros(blocks)]
    return p, g, s
'''
STEP = SETUP + '''
q1, q2 = o.MAPS[MAP](True), o.MAPS[MAP](False)
for B in (256, 2048, 64):
    for n in (1, 255, 256, 257, 5000):
        if MAP != 'dynamic' and (B, n) != (256, 257): continue
        p, g, s = states(n, B)
        ours, theirs = [p.clone(), *(t.clone() for t in s)], [p.clone(), *(t.clone() for t in s)]
        for t in range(1, 5):
            how = dict(lr=1e-2, weight_decay=.1, eps=1e-8, block=B, gnorm_scale=.5)
            gt = g*(1 - 2*(t == 3)) if t != 2 else g*0            # signs change, a step of zeros
            o._step_launch(ours[0], gt, *ours[1:], q1, q2, t, **how)
            o.adam8bit_step_ref(theirs[0], gt, *theirs[1:], q1, q2, t, **how)
            for name, a, b in zip(('p', 'c1', 'N1', 'c2', 'N2'), ours, theirs):
                if name[0] == 'c': assert torch.equal(a, b), (B, n, t, name, (a != b).sum())
                else: assert torch.allclose(a, b, rtol=1e-6, atol=1e-7), (B, n, t, name, (a - b).abs().max())
        assert (q1[ours[1].int()] < 0).any() or n == 1
'''
HALF = SETUP + '''
q1, q2 = o.create_dynamic_map(True), o.create_dynamic_map(False)
for n in (1, 257, 600):                                           # bfloat16 weights and gradients; the interpreter stores them truncated
    p, g, s = states(n, 256)
    p, g = p.bfloat16(), g.bfloat16()
    ours, theirs = [p.clone(), *(t.clone() for t in s)], [p.clone(), *(t.clone() for t in s)]
    for t in (1, 2):
        o._step_launch(ours[0], g, *ours[1:], q1, q2, t, block=256)
        o.adam8bit_step_ref(theirs[0], g, *theirs[1:], q1, q2, t, block=256)
        assert all(torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:]))
        assert ((ours[0].float() - theirs[0].float()).abs() <= t*2**-7*(p.float().abs() + .02)).all()                # truncated t times on the way; two steps move p by up to .02
'''
PAIR = SETUP + '''
for n in (1, 255, 256, 257, 5000):
    for signed in (True, False):
        x = torch.randn(n)*10**(6*torch.rand(n) - 6)
        if not signed: x = x.abs()
        for q in (o.create_dynamic_map(signed), o.linear_map(signed), o.quantile_map(signed)):
            codes, absmax = o.quantize_blockwise(x, q, 256)
            want, top = blockwise_quant(x, q, 256)
            assert torch.equal(codes, want) and torch.equal(absmax, top)
            assert torch.equal(o.dequantize_blockwise(codes, absmax, q, 256), blockwise_dequant(codes, absmax, q, 256))
codes, absmax = o.quantize_blockwise(torch.zeros(300), o.create_dynamic_map(True), 256)
assert (o.dequantize_blockwise(codes, absmax, o.create_dynamic_map(True), 256) == 0).all()
mid = o.midpoints(q := o.create_dynamic_map(False))               # exactly on the borders: the lower level
x = torch.cat([mid, torch.ones(1)])
assert torch.equal(o.quantize_blockwise(x, q, 256)[0], torch.arange(256).to(torch.uint8))
assert o.quantize_blockwise.route(x) == 'kernel'
'''


@triton_only
@pytest.mark.parametrize('kind', ['dynamic', 'linear', 'quantile'])
def test_step_kernel_in_the_interpreter(kind): assert interpreted(f'MAP = {kind!r}\n' + STEP) == ''


@triton_only
def test_step_kernel_with_bfloat16(): assert interpreted(HALF) == ''


@triton_only
def test_quantise_and_dequantise_kernels(): assert interpreted(PAIR) == ''


@triton_only
@pytest.mark.parametrize('number', ['fp32', 'bf16'])
@pytest.mark.parametrize('tile', [dict(B=256, ROWS=4), dict(B=2048, ROWS=1), dict(B=64, ROWS=16)])
def test_kernels_compile_for_a_gpu_that_is_not_there(number, tile):
    step = dict(p=f'*{number}', g=f'*{number}', c1='*u8', N1='*fp32', c2='*u8', N2='*fp32', n='i64' if number == 'bf16' else 'i32', first='i32') | {
        k: '*fp32' for k in ('q1', 'q2', 'tree1', 'tree2')} | {k: 'fp32' for k in ('b1', 'a1', 'b2', 'a2', 'rate', 'root', 'eps', 'decay', 'gscale')}
    todo = [(o.adam8bit_kernel, step)]
    if tile['B'] == 256: todo += [(o.quantize_kernel, dict(x=f'*{number}', codes='*u8', absmax='*fp32', tree='*fp32', n='i32')),
                                  (o.dequantize_kernel, dict(codes='*u8', absmax='*fp32', qmap='*fp32', out='*fp32', n='i32'))]
    for kernel, signature in todo:
        ok, log = triton_compiles(kernel, signature, tile, 80 if number == 'bf16' else 90, num_warps=4)
        assert ok, log


MUTANTS = {'tail not cleared': ('m = tl.where(keep, b1*m + a1*G, 0.)', 'm = b1*m + a1*G'), 'sign lost': ('tl.minimum(k1, first - 1)', 'k1'),
           'v with the tree of m': ('_nearest(tl.div_rn(v, tl.broadcast_to(by2, v.shape)), tree2)', '_nearest(tl.div_rn(v, tl.broadcast_to(by2, v.shape)), tree1)'),
           'signed maximum': ('top1, by1 = _absmax(m)', 'top1 = tl.max(m, 1)\n    by1 = tl.where(top1 > 0., top1, 1.)[:, None]'), 'no clipping': (')*gscale', ')'),
           'decay after the step': ('P = P*decay - rate*(m/(tl.sqrt(v)/root + eps))', 'P = (P - rate*(m/(tl.sqrt(v)/root + eps)))*decay'),
           'old maxima kept': ('tl.store(N2 + row, top2, mask=alive)', 'tl.store(N2 + row, tl.load(N2 + row, mask=alive, other=0.), mask=alive)')}

@triton_only
def test_planted_mistakes_are_caught(tmp_path):
    import inspect
    source = inspect.getsource(o.adam8bit_kernel.fn)
    head = 'import courselib.compression.optim8bit as o\nfrom courselib.kernels import jit, tl\n_nearest, _absmax = o._nearest, o._absmax\n\n'
    for i, (old, new) in enumerate([('', '')] + list(MUTANTS.values())):           # number 0 is an unchanged copy
        assert old in source, old
        (tmp_path/f'mutant{i}.py').write_text(head + source.replace(old, new) + '\no.adam8bit_kernel = adam8bit_kernel\n')
    caught = interpreted(f'''
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
for i in range({len(MUTANTS) + 1}):
    importlib.import_module(f'mutant{{i}}')
    try: exec({('MAP = "dynamic"' + chr(10) + STEP).replace('(256, 2048, 64)', '(256,)').replace('(1, 255, 256, 257, 5000)', '(257,)')!r}, {{}})
    except AssertionError: print(i)
''')
    assert caught.split() == [str(i + 1) for i in range(len(MUTANTS))], [n for i, n in enumerate(MUTANTS, 1) if str(i) not in caught.split()]


# --- the CUDA C++ source, on a CPU ----------------------------------------------------------------------------------------------------
def cell_string(root, name):
    "The text that a cell of the chapter assigns to `name`."
    nb = nbformat.read(root/'nbs/12_compression/01_optim8bit.ipynb', 4)
    source = next(c.source for c in nb.cells if f"\n{name} = r'''" in '\n' + c.source)
    return source.split(f"{name} = r'''")[1].split("'''")[0]


SHIM = r'''
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>
using std::max; using std::min;
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct place { int x; };
static thread_local place threadIdx, blockIdx;
static place blockDim, gridDim;
static std::unique_ptr<std::barrier<>> all;
static std::vector<std::unique_ptr<std::barrier<>>> warp_barrier;
static std::vector<float> mail;
static void __syncthreads() { all->arrive_and_wait(); }
static float __shfl_xor_sync(unsigned, float v, int d) {
    auto& b = *warp_barrier[threadIdx.x/32];
    mail[threadIdx.x] = v; b.arrive_and_wait();
    float out = mail[threadIdx.x ^ d]; b.arrive_and_wait();
    return out;
}
#define __global__
#define __device__ static
#define __shared__ static
'''
MAIN = r'''
template <class T> std::vector<T> take(std::ifstream& f, long n) { std::vector<T> v(n); f.read((char*)v.data(), n*sizeof(T)); return v; }
template <class T> void give(std::ofstream& f, const std::vector<T>& v) { f.write((const char*)v.data(), v.size()*sizeof(T)); }
int main(int, char** arg) {             // in, out, weights, programs, warps, steps
    long n = atol(arg[3]), nb = (n + 255)/256, steps = atol(arg[6]);
    std::ifstream in(arg[1], std::ios::binary); std::ofstream out(arg[2], std::ios::binary);
    gridDim.x = atoi(arg[4]); blockDim.x = 32*atoi(arg[5]);
    auto q1 = take<float>(in, 256), q2 = take<float>(in, 256), t1 = take<float>(in, 256), t2 = take<float>(in, 256), p = take<float>(in, n);
    std::vector<float> N1(nb), N2(nb); std::vector<unsigned char> c1(n), c2(n);
    for (long t = 0; t < steps; t++) {
        auto g = take<float>(in, n), s = take<float>(in, 10);
        Step step{s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], (int)s[9]};
        for (int b = 0; b < gridDim.x; b++) {
            all = std::make_unique<std::barrier<>>(blockDim.x); warp_barrier.clear(); mail.assign(blockDim.x, 0);
            for (int w = 0; w < blockDim.x/32; w++) warp_barrier.push_back(std::make_unique<std::barrier<>>(32));
            std::vector<std::thread> lanes;
            for (int i = 0; i < blockDim.x; i++) lanes.emplace_back([&, i, b] { threadIdx.x = i; blockIdx.x = b;
                adam8bit_warp_kernel(p.data(), g.data(), c1.data(), N1.data(), c2.data(), N2.data(), q1.data(), q2.data(), t1.data(), t2.data(), n, step); });
            for (auto& l : lanes) l.join();
        }
    }
    give(out, p); give(out, N1); give(out, N2); give(out, c1); give(out, c2);
}
'''


@pytest.fixture(scope='module')
def on_cpu(root, tmp_path_factory):
    "The chapter's CUDA C++ kernel compiled for the CPU: a thread a lane, one program after the other."
    folder = tmp_path_factory.mktemp('warp')
    (folder/'all.cpp').write_text(SHIM + cell_string(root, 'ADAM8BIT_WARP') + MAIN)
    if not shutil.which('g++'): pytest.skip('needs g++')
    if subprocess.run(['g++', '-std=c++20', '-x', 'c++', '-E', '-'], input='#include <barrier>', text=True, capture_output=True).returncode: pytest.skip('needs a C++20 compiler')
    done = subprocess.run(['g++', '-std=c++20', '-O1', '-ffp-contract=off', '-w', 'all.cpp', '-o', 'all', '-pthread'], cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize('n, programs, warps', [(1, 1, 1), (255, 1, 2), (256, 2, 1), (257, 1, 2), (1003, 1, 2), (5000, 2, 3)])
def test_cuda_source_equals_the_reference(on_cpu, n, programs, warps):
    gen = torch.Generator().manual_seed(n)
    q1, q2, blocks, p = o.create_dynamic_map(True), o.create_dynamic_map(False), -(-n//256), torch.randn(n, generator=gen)
    s = [torch.zeros(n, dtype=torch.uint8), torch.zeros(blocks), torch.zeros(n, dtype=torch.uint8), torch.zeros(blocks)]
    lr, decay, clip, raw = 1e-2, .1, .5, lambda x: np.asarray(x, np.float32).tobytes()
    data = raw(q1) + raw(q2) + raw(o.search_tree(q1)) + raw(o.search_tree(q2)) + raw(p)
    for t in (1, 2, 3):
        g = torch.randn(n, generator=gen)*10**(10*torch.rand(n, generator=gen) - 10)
        data += raw(g) + raw([.9, 1 - .9, .999, 1 - .999, lr/(1 - .9**t), math.sqrt(1 - .999**t), 1e-8, 1 - lr*decay, clip, o.first_positive(q1)])
        o.adam8bit_step_ref(p, g, *s, q1, q2, t, lr=lr, weight_decay=decay, block=256, gnorm_scale=clip)
    (on_cpu/'in').write_bytes(data)
    subprocess.run(['./all', 'in', 'out', str(n), str(programs), str(warps), '3'], cwd=on_cpu, check=True, timeout=60)
    out = (on_cpu/'out').read_bytes()
    floats, codes = np.frombuffer(out, np.float32, n + 2*blocks), np.frombuffer(out, np.uint8, 2*n, 4*(n + 2*blocks))
    assert np.allclose(floats[:n], p.numpy(), rtol=1e-6, atol=1e-6)
    assert np.array_equal(floats[n:], torch.cat([s[1], s[3]]).numpy()) and np.array_equal(codes, torch.cat([s[0], s[2]]).numpy())


@pytest.mark.parametrize('arch', ['sm_80', 'sm_90'])
def test_cuda_source_compiles(root, arch):
    ok, log = nvcc_compiles(cell_string(root, 'ADAM8BIT_WARP'), arch, ('-Xptxas', '-v'))
    if ok is None: pytest.skip(log)
    assert ok and '0 bytes spill stores' in log, log


@pytest.mark.slow
def test_cuda_binding_compiles(root):
    ok, log = nvcc_compiles(cell_string(root, 'ADAM8BIT_WARP') + cell_string(root, 'BINDING'), 'sm_90', torch_headers=True)
    if ok is None: pytest.skip(log)
    assert ok, log


# --- the optimizers -------------------------------------------------------------------------------------------------------------------
def quadratic(make, steps=300):
    gen = torch.Generator().manual_seed(0)
    w, goal, scale = torch.nn.Parameter(torch.zeros(5000)), torch.randn(5000, generator=gen), 10**(2*torch.rand(5000, generator=gen) - 1)
    opt = make([w])
    for _ in range(steps):
        opt.zero_grad(); (scale*(w - goal)**2).sum().backward(); opt.step()
    return (w - goal).detach().abs().mean().item()


def test_optimizers_minimise():
    adam = [quadratic(lambda p: o.Adam8bit(p, lr=.02, block=b, min_size=m)) for b, m in ((256, 10**9), (256, 4096), (2048, 4096))]
    assert max(adam) < .02 and quadratic(lambda p: o.Momentum8bit(p, lr=.01)) < .15
    assert quadratic(lambda p: o.Momentum8bit(p, lr=.01, min_size=10**9)) < .15


def test_momentum_follows_torch():
    gen = torch.Generator().manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(5000)) for _ in range(2))
    ours, theirs = o.Momentum8bit([a], lr=.1, momentum=.9, min_size=10**9), torch.optim.SGD([b], lr=.1, momentum=.9)
    for _ in range(20): a.grad = b.grad = torch.randn(5000, generator=gen); ours.step(); theirs.step()
    assert torch.allclose(a, b, atol=1e-5)


def test_groups_closure_and_missing_gradients():
    a, b, c = (torch.nn.Parameter(torch.ones(5000)) for _ in range(3))
    opt = o.Adam8bit([dict(params=[a], lr=.1), dict(params=[b, c])], lr=.01)
    loss = opt.step(lambda: ((a**2).sum() + (b**2).sum()).backward() or torch.tensor(3.))
    assert loss == 3 and torch.allclose(a, torch.tensor(.9), atol=1e-6) and torch.allclose(b, torch.tensor(.99), atol=1e-6) and (c == 1).all()


def test_shapes_and_layouts():
    base = torch.nn.Parameter(torch.randn(80, 64)); turned = torch.nn.Parameter(base.detach().t().contiguous().t())   # equal numbers, columns first
    for w in (base, turned):
        opt = o.Adam8bit([w], lr=.1)
        for _ in range(3): w.grad = (2*w).detach(); opt.step()
    assert torch.equal(base, turned) and not turned.is_contiguous()


@pytest.mark.parametrize('make', [lambda: o.Adam8bit([torch.zeros(2)], qmap='cubic'), lambda: o.Adam8bit([torch.zeros(2)], lr=-1.), lambda: o.create_dynamic_map(total_bits=9, max_exponent_bits=12),
                                  lambda: o.dynamic_tree_decode(256), lambda: blockwise_quant(torch.zeros(3), o.linear_map(), 0)])
def test_bad_arguments(make):
    with pytest.raises(ValueError, match='expected'): make()


def test_gradient_scale_is_clipping():
    q1, q2 = o.create_dynamic_map(True), o.create_dynamic_map(False)
    runs = []
    for g, scale in ((torch.linspace(-1, 1, 600), .25), (torch.linspace(-1, 1, 600)*.25, 1.)):
        p, s = torch.ones(600), [torch.zeros(600, dtype=torch.uint8), torch.zeros(3), torch.zeros(600, dtype=torch.uint8), torch.zeros(3)]
        o.adam8bit_step(p, g, *s, q1, q2, 1, block=256, gnorm_scale=scale)
        runs.append([p, *s])
    assert all(torch.equal(a, b) for a, b in zip(*runs))


# --- on a GPU -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.cuda
@pytest.mark.parametrize('block', [64, 256, 2048])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('n', [1, 255, 256, 257, 5000, 1_000_003])
def test_step_on_the_gpu(n, block, dtype):
    gen = torch.Generator().manual_seed(n)
    q1, q2, blocks = o.create_dynamic_map(True).cuda(), o.create_dynamic_map(False).cuda(), -(-n//block)
    p, g = torch.randn(n, generator=gen).to('cuda', dtype), torch.randn(n, generator=gen).to('cuda', dtype)
    s = [torch.zeros(k, dtype=d, device='cuda') for k, d in ((n, torch.uint8), (blocks, torch.float32))*2]
    for t in (1, 2, 3):
        w, r = p.clone(), [x.clone() for x in s]
        o.adam8bit_step(p, g*t, *s, q1, q2, t, block=block); o.adam8bit_step_ref(w, g*t, *r, q1, q2, t, block=block)
        assert torch.allclose(p.float(), w.float(), rtol=1e-6 if dtype == torch.float32 else 2**-7, atol=2e-6)
        for a, b in zip(s, r):
            if a.dtype == torch.uint8: assert (d := (a.int() - b.int()).abs()).max() <= 1 and (d > 0).float().mean() <= max(1e-3, 1/n)
            else: assert torch.allclose(a, b, rtol=1e-5)


@pytest.mark.cuda
def test_quantise_on_the_gpu_equals_the_cpu():
    x = torch.randn(100_003)*10**(6*torch.rand(100_003) - 6)
    for q in (o.create_dynamic_map(True), o.linear_map(True)):
        codes, absmax = o.quantize_blockwise(x.cuda(), q.cuda(), 256)
        want, top = blockwise_quant(x, q, 256)
        assert torch.equal(codes.cpu(), want) and torch.equal(absmax.cpu(), top)
        assert torch.equal(o.dequantize_blockwise(codes, absmax, q.cuda(), 256).cpu(), blockwise_dequant(want, top, q, 256))
