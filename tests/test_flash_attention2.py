"FlashAttention-2 without a GPU: its kernels in Triton's interpreter and through the compiler; with one: against float64 attention."
import pytest
import torch

from courselib.architectures import flash_attention2 as fa
from courselib.architectures.bench import attention_ref
from courselib.kernels import have_triton, interpreted, run_python, triton_compiles

triton_only = pytest.mark.skipif(not have_triton(), reason='Triton is not installed')

# A case is compared with float64 attention, and so is a plain implementation in the same dtype: twice its error, and one rounding, is allowed.
HELPERS = '''
import math, torch
from courselib.kernels import interpreting
from courselib.architectures.bench import attention_ref, causal_mask
from courselib.architectures.flash_attention2 import flash_attention, flash_backward, flash_forward

def plain(q, k, v, causal):
    k, v = (x.repeat_interleave(q.shape[1]//k.shape[1], 1) for x in (k, v))
    sees = causal_mask(q.shape[2], k.shape[2], q.device) if causal else torch.ones(q.shape[2], k.shape[2], dtype=bool, device=q.device)
    some = sees.any(1)[:, None]
    s = ((q@k.mT)*q.shape[-1]**-.5).masked_fill(~sees, -math.inf).masked_fill(~some, 0)
    return s.float().softmax(-1).to(q.dtype).masked_fill(~some, 0)@v

def problem(N, M, H, Hkv, d, dtype, device='cpu', seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2 if N < 40 else 1, h, n, d, generator=g).to(device, dtype).requires_grad_() for h, n in ((H, N), (Hkv, M), (Hkv, M))]

def check(N, M, H, Hkv, d, dtype, causal, mode, tiles=(), device='cpu'):
    q, k, v = problem(N, M, H, Hkv, d, dtype, device)
    do = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(q)
    grads = lambda o, x=(q, k, v): (o, *torch.autograd.grad(o, x, do.to(o.dtype)))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    ref, lse = attention_ref(*exact, causal)
    want, simple, got = grads(ref, exact), grads(plain(q, k, v, causal)), grads(flash_attention(q, k, v, causal, dq_mode=mode, tiles=tiles))
    with torch.no_grad(): L = flash_forward(q, k, v, causal, *tiles)[1]
    eps = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    for name, w, s, x in zip(('o', 'dq', 'dk', 'dv'), want, simple, got):
        err, fair = ((w - y.double()).abs().max().item() for y in (x, s))
        assert x.dtype == dtype and x.isfinite().all() and err <= 2*fair + eps*max(1, w.abs().max().item()), (name, N, M, d, dtype, causal, mode, err, fair)
    assert torch.equal(L.isinf(), lse.isinf()) and (L - lse)[L.isfinite()].abs().max() < 1e-5
    return got
'''
INTERPRET = HELPERS + '''
assert interpreting()
n = 0
for N, M, H, Hkv, d in [(33, 47, 4, 2, 24), (47, 33, 1, 1, 16), (5, 5, 2, 1, 5), (1, 40, 2, 1, 32)]:
    for causal in (False, True):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            a = check(N, M, H, Hkv, d, dtype, causal, 'split', (16, 32)); n += 1
            if dtype == torch.float32:
                b = check(N, M, H, Hkv, d, dtype, causal, 'atomic', (16, 32)); n += 1
                assert torch.allclose(a[1], b[1], atol=1e-6) and torch.equal(a[2], b[2])
print(n, 'cases')
'''
EDGES = HELPERS + '''
from courselib.architectures.flash_attention2 import flash_forward_ref, _forward_kernel
with torch.no_grad():
    q, k, v = problem(70, 70, 2, 2, 16, torch.float32)
    for causal in (False, True):
        o, L = flash_forward(q, k, v, causal, 16, 16)
        for tiles in [(32, 16), (16, 64), (128, 128)]:                      # the tile size leaves no trace
            o2, L2 = flash_forward(q, k, v, causal, *tiles)
            assert (o - o2).abs().max() < 1e-6 and (L - L2).abs().max() < 1e-5
        one = _forward_kernel(q, k, v, causal, 16, 16, programs=1)          # version 1's grid: one program a head
        assert torch.equal(one[0], o) and torch.equal(one[1], L)
        big = [flash_forward(1e2*q, 1e2*k, v, causal, 16, 16), attention_ref(1e2*q, 1e2*k, v, causal)]     # scores of about +-1e4
        assert big[0][0].isfinite().all() and (big[0][0] - big[1][0]).abs().max() < .02
    t = lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)            # (B, N, H, d) in memory
    assert torch.equal(flash_forward(t(q), t(k), t(v), True, 16, 16)[0], o)
    wide = torch.randn(1, 2, 20, 48)                                        # every second number: rows are copied
    a, b = wide[..., ::2], wide[..., ::2].contiguous()
    assert torch.equal(flash_forward(a, a, a, True, 16, 16)[0], flash_forward(b, b, b, True, 16, 16)[0])
    s = flash_forward(q, k, v, True, 16, 16, scale=.7)[0]
    assert (s - attention_ref(q, k, v, True, .7)[0]).abs().max() < 1e-5
    for bad in (lambda: flash_forward(q, k.half(), v), lambda: flash_forward(q, k, v, scale=-1.), lambda: flash_forward(q.double(), k.double(), v.double())):
        try: bad()
        except ValueError as e: assert 'the kernels take' in str(e)
        else: raise AssertionError('accepted')
q = torch.randn(1, 1, 9, 16, requires_grad=True)
got, = torch.autograd.grad(flash_attention(q, q, q, True, tiles=(16, 16)).sum(), q)     # the gradient that arrives is expanded, not contiguous
want, = torch.autograd.grad(attention_ref(q, q, q, True)[0].sum(), q)
assert (got - want).abs().max() < 1e-5
'''
MUTANTS = {'sum not rescaled': ('l = l*scale + tl.sum(p, 1)', 'l = l + tl.sum(p, 1)'), 'output not rescaled': ('acc*scale[:, None]', 'acc'),
           'triangle at the top left': ('keep & (c[None, :] <= rows[:, None] + M - N)', 'keep & (c[None, :] <= rows[:, None])'),
           'L in powers of two': ('(m + tl.math.log2(l))*_LN2', '(m + tl.math.log2(l))'), 'edge not masked': ('keep = (c < M)[None, :]', 'keep = (c >= 0)[None, :]'),
           'clamped after dividing': ('lo = tl.maximum(j*BC - M + N, 0)//BR', 'lo = tl.maximum((j*BC - M + N)//BR + 1, 0)'),
           'wrong key head': ('_head(k, b, h//G, skb, skh)', '_head(k, b, h % (H//G), skb, skh)'), 'D forgotten': ('dot(v, tl.trans(do), zero) - Di[None, :]', 'dot(v, tl.trans(do), zero)')}


@triton_only
def test_kernels_equal_float64_attention_in_the_interpreter(): assert interpreted(INTERPRET) == '32 cases'


@triton_only
def test_edges_in_the_interpreter(): assert interpreted(EDGES) == ''


@triton_only
def test_planted_mistakes_are_caught(tmp_path):
    source = open(fa.__file__, encoding='utf-8').read().replace('from .bench', 'from courselib.architectures.bench').replace('from ..kernels', 'from courselib.kernels')
    for i, (old, new) in enumerate([('', '')] + list(MUTANTS.values())):           # number 0 is an unchanged copy
        assert old in source, old
        (tmp_path/f'mutant{i}.py').write_text(source.replace(old, new), encoding='utf-8')
    code = HELPERS + "\nfor causal in (False, True): check(19, 37, 4, 2, 16, torch.float32, causal, 'split', (16, 16)), check(37, 19, 1, 1, 16, torch.float32, causal, 'split', (16, 16))\n"
    caught = interpreted(f'''
import sys
sys.path.insert(0, {str(tmp_path)!r})
for i in range({len(MUTANTS) + 1}):
    try: exec({code!r}.replace('courselib.architectures.flash_attention2', f'mutant{{i}}'), {{}})
    except AssertionError: print(i)
''')
    assert caught.split() == [str(i + 1) for i in range(len(MUTANTS))], [n for i, n in enumerate(MUTANTS, 1) if str(i) not in caught.split()]


# --- the compiler ---------------------------------------------------------------------------------------------------------------------
POINTERS = dict.fromkeys(['q', 'k', 'v', 'o', 'do', 'dk', 'dv'])
KERNELS = {'fwd': dict(EVEN=True), 'dkdv': dict(G=1, ATOMIC=False), 'dq': dict(G=1, EVEN=True)}

@triton_only
@pytest.mark.parametrize('name, d, kind', [('fwd', 64, 'bf16'), ('fwd', 128, 'fp16'), ('dkdv', 64, 'bf16'), ('dkdv', 80, 'bf16'), ('dq', 128, 'bf16')])
def test_kernels_compile_for_a_hopper_gpu(name, d, kind):
    kernel = {'fwd': fa._fwd, 'dkdv': fa._bwd_dkdv, 'dq': fa._bwd_dq}[name]
    q = torch.empty(1, 1, 1, d, dtype=dict(bf16=torch.bfloat16, fp16=torch.float16)[kind])
    c = fa._config(name, q, (None, None)) | KERNELS[name] | dict(CAUSAL=True)
    options = {k: c.pop(k) for k in ('num_warps', 'num_stages')}
    kinds = lambda n: f'*{kind}' if n in POINTERS or (n == 'dq' and name == 'dq') else '*fp32' if n in ('L', 'D_', 'dq') else 'fp32' if n in ('s', 's2') else 'i32'
    ok, log = triton_compiles(kernel, {n: kinds(n) for n in kernel.arg_names if n not in c}, c, 90, **options)
    assert ok, log
    assert int(log.split()[-5]) < 227*1024, log          # bytes of shared memory


# --- the reference and the public function -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize('seed', range(6))
def test_reference_on_random_shapes(seed):
    g = torch.Generator().manual_seed(seed)
    pick = lambda lo, hi: int(torch.randint(lo, hi, (1,), generator=g))
    N, M, G, Hkv, d, Br, Bc = pick(1, 60), pick(1, 60), pick(1, 4), pick(1, 3), pick(1, 20), pick(1, 30), pick(1, 30)
    q, k, v = (torch.randn(2, h, n, d, generator=g, dtype=torch.float64, requires_grad=True) for h, n in ((G*Hkv, N), (Hkv, M), (Hkv, M)))
    for causal in (False, True):
        o, lse = attention_ref(q, k, v, causal)
        do = torch.randn(o.shape, generator=g, dtype=torch.float64)
        want = torch.autograd.grad(o, (q, k, v), do)
        for mode in ('split', 'atomic'):
            x = fa.flash_attention(q, k, v, causal, dq_mode=mode, tiles=(Br, Bc))
            assert (x - o).abs().max() < 1e-12
            for a, b in zip(want, torch.autograd.grad(x, (q, k, v), do)): assert (a - b).abs().max() < 1e-11
        with torch.no_grad(): L = fa.flash_forward_ref(q, k, v, causal, Br, Bc)[1]
        assert torch.equal(L.isinf(), lse.isinf()) and torch.allclose(L[L.isfinite()], lse[lse.isfinite()])


@pytest.mark.parametrize('kind, fn', [('v1', fa.flash_v1_ref), ('v2', fa.flash_forward_ref)])
@pytest.mark.parametrize('causal', [False, True])
def test_traffic_of_ragged_shapes(kind, fn, causal):
    for N, M, Br, Bc in [(50, 70, 16, 8), (70, 50, 16, 12), (64, 64, 16, 32), (7, 3, 16, 16)]:
        q, k, hbm = torch.randn(1, 1, N, 8), torch.randn(1, 1, M, 8), fa.CountedHBM()
        fn(q, k, k, causal, Br, Bc, hbm=hbm)
        assert hbm.total == fa.io_count(kind, N, 8, Br, Bc, M, causal)


def test_errors_say_what_was_expected():
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match='expected q'): fa.flash_attention(q, q[:, :, :, :4], q)
    with pytest.raises(ValueError, match='expected q'): fa.flash_attention(torch.randn(1, 3, 4, 8), q, q)
    with pytest.raises(ValueError, match="'split' or 'atomic'"): fa.flash_attention(q, q, q, dq_mode='fast')


def test_without_triton_the_reference_answers():
    run_python('''
import sys
sys.modules['triton'] = None
import torch
from courselib.architectures.flash_attention2 import flash_attention, flash_forward
q = torch.randn(1, 2, 9, 8, requires_grad=True)
flash_attention(q, q, q, True).sum().backward()
assert q.grad.abs().sum() > 0 and flash_forward.route(q, q, q) == 'reference'
''')


# --- with a GPU -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.cuda
@pytest.mark.parametrize('d', [32, 64, 80, 128, 256])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_kernels_equal_float64_attention_on_a_gpu(d, dtype):
    scope = {}
    exec(HELPERS, scope)
    for N, M, H, Hkv in [(1, 1, 1, 1), (127, 300, 4, 2), (300, 127, 2, 2), (512, 512, 2, 1), (1000, 1025, 2, 2)]:
        for causal in (False, True):
            for mode in ('split', 'atomic'): scope['check'](N, M, H, Hkv, d, dtype, causal, mode, device='cuda')


@pytest.mark.cuda
def test_the_split_mode_gives_the_same_bits_every_time():
    q, k, v, do = torch.randn(4, 2, 4, 1000, 64, device='cuda', dtype=torch.bfloat16)
    o, L = fa.flash_forward(q, k, v, True)
    runs = [fa.flash_backward(q, k, v, o, L, do, True) for _ in range(3)]
    assert all(torch.equal(a, b) for r in runs[1:] for a, b in zip(runs[0], r))
