"""Data sets and transforms: properties that must hold for any input, documented errors, and downloads without a network."""
import gzip, http.server, os, pickle, re, socket, subprocess, sys, threading
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from courselib import data as D
from courselib.data import (ACTIONS, BACKGROUNDS, COLOURS, CORRUPTIONS, Data, SDF, STYLES, TEXTURES, captions, class_stream, concat, corrupt, digits, episodes,
                            fashion, long_tail, noisy_labels, photos, restyle, rotate, shapes, standardise, tabular, text)

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)


def labelled(n: int, classes: int, seed: int) -> Data:
    "n samples whose x is their number, with at least one sample of each class."
    gen = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(classes), torch.randint(classes, (max(n-classes, 0),), generator=gen)])
    return Data(torch.arange(len(y)).float()[:, None], y, [f'c{i}' for i in range(classes)], tag=[f't{i}' for i in range(len(y))])


@pytest.fixture(autouse=True)
def global_random_state_is_left_alone():
    torch.manual_seed(1), np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])


# ---------------------------------------------------------------- Data

@few
@given(n=st.integers(1, 40), seed=seeds, data=st.data())
def test_indexing_keeps_samples_whole(n, seed, data):
    d = labelled(n, min(n, 3), seed)
    idx = data.draw(st.one_of(st.lists(st.integers(-len(d), len(d)-1), max_size=10), st.slices(len(d))))
    part = d[idx]
    want = [d.tag[i] for i in idx] if isinstance(idx, list) else d.tag[idx]
    assert part.tag == want == [f't{int(v)}' for v in part.x[:, 0]]
    assert torch.equal(part.y, d.y[[int(v) for v in part.x[:, 0]]])
    mask = d.y == 0
    assert torch.equal(d[mask].x, d.x[mask]) and d[mask].tag == [t for t, m in zip(d.tag, mask) if m]


@few
@given(n=st.integers(20, 200), classes=st.integers(2, 6), share=st.floats(.1, .6), seed=seeds)
def test_split_is_disjoint_stratified_and_seeded(n, classes, share, seed):
    d = labelled(n, classes, seed)
    a, b = d.split(share, 5, seed=seed)
    assert len(a) == round(share*n) and len(b) in (4, 5, 6)
    assert not set(a.tag) & set(b.tag) and len(set(a.tag)) == len(a)
    assert (a.counts()-d.counts()*len(a)/n).abs().max() <= 2
    assert d.split(share, 5, seed=seed)[0].tag == a.tag


@pytest.mark.parametrize('sizes', [(.7, .4), (11,), (-1,), (5, 6)])
def test_split_names_what_does_not_fit(sizes):
    with pytest.raises(ValueError, match='expected sizes that add up to at most 10'): labelled(10, 2, 0).split(*sizes)


def test_data_says_what_is_wrong():
    x, y = torch.zeros(3, 2), torch.zeros(3).long()
    with pytest.raises(ValueError, match='one value of masks per sample, 3, got 2'): Data(x, y, masks=torch.zeros(2))
    with pytest.raises(ValueError, match='no methods of Data'): Data(x, y, split=torch.zeros(3))
    with pytest.raises(ValueError, match=r'boolean mask of shape \(3,\)'): Data(x, y)[torch.ones(2, dtype=torch.bool)]
    with pytest.raises(ValueError, match='list of integer positions'): Data(x, y)[[.5]]
    with pytest.raises(IndexError): Data(x, y)[[7]]
    with pytest.raises(AttributeError, match="no field 'boxes'; there are x, y, names, tag"): labelled(3, 2, 0).boxes
    with pytest.raises(ValueError, match='class names'): Data(x, y.float()).counts()
    with pytest.raises(ValueError, match='n of at most 1'): labelled(2, 2, 0).per_class(3)
    with pytest.raises(ValueError, match='equal class names and fields'): concat([labelled(3, 2, 0), Data(x, y, ['c0', 'c1'])])


def test_data_works_with_dataloader_pickle_and_repr():
    d = fashion('test', size=7, n=40)
    x, y = next(iter(torch.utils.data.DataLoader(d, batch_size=8, generator=torch.Generator())))      # without: it draws a seed itself
    assert torch.equal(x, d.x[:8]) and torch.equal(y, d.y[:8])
    e = pickle.loads(pickle.dumps(d))
    assert torch.equal(e.x, d.x) and e.names == d.names and 'float32  (40, 1, 7, 7)' in repr(e)
    assert d.flat().x.shape == (40, 49) and len(list(d)) == 40 and d.to('cpu').index.equal(d.index)
    assert repr(labelled(3, 2, 0)[[]])


@pytest.mark.parametrize('make', [lambda: digits(), lambda: fashion('test', n=20), lambda: shapes(5, frames=3), lambda: shapes(5, objects=2),
                                  lambda: tabular('iris'), lambda: photos(['cat'], crops=3), lambda: digits().flat()])
def test_show_draws_every_kind(make):
    d = make()
    fig = d.show(4, boxes='boxes' in d.fields and 'photos' not in d.info['name'])
    fig.canvas.draw()
    assert fig.axes


# ---------------------------------------------------------------- real data

def test_fashion_bundle_equals_the_original_files():
    if not D.FASHION_DEBIAN.exists(): pytest.skip('the Debian package dataset-fashion-mnist is not installed')
    for part, n in (('train', 60_000), ('test', 10_000)):
        small, full = fashion(part), fashion(part, full=True)
        assert len(full) == n
        assert torch.equal(small.x, full.x[small.index]) and torch.equal(small.y, full.y[small.index])
        assert (small.index.diff() > 0).all()


def test_bundled_files_match_their_sources():
    "The build script reproduces the pictures from Debian's package (the text's package is fetched only by hand)."
    sys.path.insert(0, str(Path(__file__).parent.parent/'tools'))
    import build_assets
    if not build_assets.FASHION.exists(): pytest.skip('the Debian package dataset-fashion-mnist is not installed')
    from PIL import Image
    mosaic, index = build_assets.fashion(build_assets.FASHION)
    assert np.array_equal(mosaic, np.asarray(Image.open(D.ASSETS/'fashion.png'))) and np.array_equal(index, np.load(D.ASSETS/'fashion_index.npy'))
    assert (D.ASSETS/'fashion.png').stat().st_size < 5.5e6 and (D.ASSETS/'northanger_abbey.txt').stat().st_size <= 300_000


def test_subsets_are_stratified_and_differ_by_seed():
    a, b = fashion(n=100), fashion(n=100, seed=1)
    assert a.counts().tolist() == [10]*10 and not torch.equal(a.index, b.index) and torch.equal(a.index, fashion(n=100).index)
    tr, te = digits('train'), digits('test')
    assert len(tr)+len(te) == 1797 and (tr.counts()/1200-te.counts()/597).abs().max() < .005
    a.x.zero_()
    assert fashion(n=100).x.max() == 1                                       # what a caller does to its copy stays there


@pytest.mark.parametrize('call, message', [
    (lambda: digits('valid'), "'all', 'train' or 'test', got 'valid'"), (lambda: digits(size=4), 'size of 8 or more, got 4'),
    (lambda: fashion('all'), "'train' or 'test', got 'all'"), (lambda: fashion(size=20), 'size 28, 14 or 7, got 20'),
    (lambda: fashion(n=20_000), 'at most 10000 samples'), (lambda: tabular('titanic'), "got 'titanic'"),
    (lambda: photos('dog'), r"got \['dog'\]"), (lambda: photos(['cat', 'moon'], None), 'photographs of one size'),
    (lambda: text('test'), "'all', 'train' or 'val', got 'test'"), (lambda: text().encode('naïve'), r"got \['ï'\]"),
    (lambda: text().split(1.), 'between 0 and 1, got 1.0'), (lambda: next(text().batches(2, 10**6, 1)), 'context between 1 and'),
])
def test_loaders_say_what_they_expected(call, message):
    with pytest.raises(ValueError, match=message): call()


def test_no_network_is_used(monkeypatch):
    def refuse(*a, **k): raise AssertionError('a connection was tried')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    D._photo.cache_clear()
    assert len(photos()) == 12 and len(digits()) == 1797 and len(text()) > 0 and len(fashion('test')) == 2000
    assert [len(tabular(t)) for t in ('diabetes', 'breast_cancer', 'wine', 'iris')] == [442, 569, 178, 150]


def test_import_is_light():
    code = "import sys, courselib.data; print([m for m in ('skimage', 'sklearn', 'matplotlib', 'PIL', 'pooch', 'requests', 'scipy', 'plotly') if m in sys.modules])"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert out.stdout.strip() == '[]'


@few
@given(seed=seeds, bs=st.integers(1, 5), context=st.integers(1, 50))
def test_text_batches_are_shifted_windows(seed, bs, context):
    book = text('val')
    for x, y in book.batches(bs, context, 2, seed):
        assert x.shape == y.shape == (bs, context) and torch.equal(x[:, 1:], y[:, :-1])
        assert all(book.decode(row) in str(book) for row in x)


@few
@given(seed=seeds, share=st.floats(.3, .8))
def test_standardise_looks_at_the_training_part_only(seed, share):
    tr, te = tabular('iris').split(share, .2, seed=seed)
    a, b = standardise(tr, te)
    far = te.replace(x=te.x*1000)
    assert torch.equal(standardise(tr, far)[0].x, a.x)
    assert torch.allclose(b.x*tr.x.std(0)+tr.x.mean(0), te.x, atol=1e-4)


# ---------------------------------------------------------------- download of the full Fashion-MNIST

class Flaky(http.server.SimpleHTTPRequestHandler):
    "Serves files with ranges; breaks the connection in the middle of the first answer while `broken` is set."
    broken, ranges = False, []
    def do_GET(self):
        body = Path(self.directory, self.path.lstrip('/')).read_bytes()
        start = int(m[1]) if (m := re.match(r'bytes=(\d+)-', self.headers.get('Range', ''))) else 0
        Flaky.ranges.append(start)
        if start >= len(body): return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(body)-start))
        self.end_headers()
        if Flaky.broken: self.wfile.write(body[start:start+len(body)//2]); self.wfile.flush(); self.connection.shutdown(socket.SHUT_RDWR)
        else: self.wfile.write(body[start:])
    def log_message(self, *a): pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    "A small stand-in for the original site on this machine, with its own checksums, and an empty cache."
    import hashlib
    site, cache = tmp_path/'site', tmp_path/'cache'
    site.mkdir()
    gen = np.random.default_rng(0)
    header = lambda *s: b''.join(int(v).to_bytes(4, 'big') for v in s)
    for part, n in (('train', 600), ('t10k', 100)):
        (site/f'{part}-images-idx3-ubyte.gz').write_bytes(gzip.compress(header(2051, n, 28, 28)+gen.integers(0, 256, n*784, np.uint8).tobytes()))
        (site/f'{part}-labels-idx1-ubyte.gz').write_bytes(gzip.compress(header(2049, n)+(np.arange(n) % 10).astype(np.uint8).tobytes()))
    Flaky.broken, Flaky.ranges = False, []
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), lambda *a: Flaky(*a, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(D, 'FASHION_URL', f'http://127.0.0.1:{server.server_port}/')
    monkeypatch.setattr(D, 'FASHION_DEBIAN', tmp_path/'not-installed')
    monkeypatch.setattr(D, 'FASHION_SHA256', {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in site.iterdir()})
    monkeypatch.setenv('COURSELIB_DATA', str(cache))
    D._fashion_full.cache_clear()
    yield site, cache
    server.shutdown(), server.server_close()
    D._fashion_full.cache_clear()


def test_full_set_is_downloaded_once_and_checked(mirror):
    d = fashion('test', full=True)
    assert d.x.shape == (100, 1, 28, 28) and d.counts().tolist() == [10]*10
    asked = len(Flaky.ranges)
    D._fashion_full.cache_clear()
    assert torch.equal(fashion('test', full=True).x, d.x) and len(Flaky.ranges) == asked == 2       # the second time from the cache


def test_interrupted_download_continues(mirror):
    site, cache = mirror
    Flaky.broken = True
    with pytest.raises(ConnectionError, match='an unfinished download continues'): fashion('train', full=True)
    part = cache/'train-images-idx3-ubyte.gz.part'
    have, size = part.stat().st_size, (site/'train-images-idx3-ubyte.gz').stat().st_size
    assert 0 < have < size
    Flaky.broken, Flaky.ranges = False, []
    assert len(fashion('train', full=True)) == 600
    assert Flaky.ranges[0] == have and not part.exists()                     # asked only for the rest


def test_wrong_file_is_refused_and_not_kept(mirror):
    site, cache = mirror
    good = (site/'t10k-images-idx3-ubyte.gz').read_bytes()
    (site/'t10k-images-idx3-ubyte.gz').write_bytes(good[:-1]+b'x')
    with pytest.raises(ValueError, match='t10k-images-idx3-ubyte.gz'): fashion('test', full=True)
    (site/'t10k-images-idx3-ubyte.gz').write_bytes(good)
    assert len(fashion('test', full=True)) == 100


def test_offline_explains_itself_in_one_error(mirror, monkeypatch):
    monkeypatch.setattr(D, 'FASHION_URL', 'http://127.0.0.1:9/')
    with pytest.raises(ConnectionError) as e: fashion('test', full=True)
    assert e.value.__cause__ is None and e.value.__suppress_context__
    for hint in ('t10k-images-idx3-ubyte.gz', 'dataset-fashion-mnist', 'fashion()', 'not-installed', 'cannot be reached'): assert hint in str(e.value)


# ---------------------------------------------------------------- shapes

@few
@given(seed=seeds, size=st.integers(12, 40), objects=st.integers(1, 3), texture=st.integers(1, 6), shape=st.integers(1, 12), overlap=st.sampled_from([0., .5, 1.]))
def test_truth_agrees_with_itself(seed, size, objects, texture, shape, overlap):
    d = shapes(6, size, seed, objects=objects, texture=texture, shape=shape, overlap=overlap, y='texture')
    assert d.x.shape == (6, 3, size, size) and 0 <= d.x.min() and d.x.max() <= 1 and d.x.isfinite().all()
    lead = (6,) if objects == 1 else (6, objects)
    assert d.masks.shape == (*lead, size, size) and d.boxes.shape == (*lead, 4) and d.factors.shape == (*lead, len(d.factor_names))
    masks, boxes = d.masks.view(-1, size, size), d.boxes.view(-1, 4)
    for m, (x0, y0, x1, y1) in zip(masks, boxes.tolist()):
        if m.any(): assert m[y0:y1, x0:x1].sum() == m.sum() and m[y0].any() and m[y1-1].any() and m[:, x0].any() and m[:, x1-1].any()
        else: assert (x0, y0, x1, y1) == (0, 0, 0, 0)
    assert ((d.centers > 0) & (d.centers < size)).all()
    if objects > 1: assert (d.masks.sum(1) <= 1).all()                      # a pixel belongs to one object
    if overlap == 0: assert (d.visible == 1).all()
    assert torch.equal(d.y, d.factors[..., d.factor_names.index('texture')])
    assert [c.count(' and ') for c in d.captions] == [int(objects > 1)]*6
    again = shapes(6, size, seed, objects=objects, texture=texture, shape=shape, overlap=overlap, y='texture')
    assert torch.equal(again.x, d.x) and again.captions == d.captions


@few
@given(seed=seeds, factor=st.sampled_from(['colour', 'texture', 'background']))
def test_given_factor_is_a_counterfactual(seed, factor):
    a = shapes(5, 20, seed)
    i = a.factor_names.index(factor)
    b = shapes(5, 20, seed, given={factor: (a.factors[:, i]+1) % len(a.value_names[factor])})
    other = [j for j in range(len(a.factor_names)) if j != i]
    assert torch.equal(a.factors[:, other], b.factors[:, other]) and (a.factors[:, i] != b.factors[:, i]).all()
    assert torch.equal(a.masks, b.masks) and torch.equal(a.centers, b.centers)
    outside = ~torch.nn.functional.max_pool2d(a.masks[:, None].float(), 5, 1, 2).bool().expand_as(a.x)
    if factor != 'background': assert torch.equal(a.x[outside], b.x[outside])
    else: assert (a.x[outside] != b.x[outside]).float().mean() > .9


@few
@given(p=st.floats(0, 1), seed=seeds, shift=st.integers(0, 3))
def test_spurious_probability_is_what_it_says(p, seed, shift):
    d = shapes(1500, 8, seed, shape=4, background=4, spurious=('shape', 'background', p, shift))
    ground = d.factors[:, d.factor_names.index('background')]
    assert torch.equal(d.aligned, ground == (d.y+shift) % 4)
    assert abs(d.aligned.float().mean()-p) < 5*(.25/1500)**.5
    if p < .9: assert len(ground[~d.aligned].unique()) == 4


def test_full_factorial_holds_each_combination_once():
    d = shapes('all', 16, shape=3, colour=2, scale=2, texture=2, background=2, rotation=2, position='centre', jitter=0, y=('shape', 'colour'))
    assert len(d) == 96 == len(d.factors.unique(dim=0)) and d.counts().tolist() == [16]*6
    assert d.names[:3] == ['circle red', 'circle green', 'square red']
    assert torch.equal(d.x, shapes('all', 16, 9, shape=3, colour=2, scale=2, texture=2, background=2, rotation=2, position='centre', jitter=0).x)    # no chance left


def test_explicit_scenes():
    at = torch.tensor([[[8., 16.], [24., 16.]]]*4)
    d = shapes(4, 32, objects=2, given=dict(centers=at, shape=torch.tensor([[0, 1]]*4), radius=torch.full((4, 2), 5.)))
    assert torch.equal(d.centers, at) and (d.radius == 5).all() and d.y.tolist() == [[0, 1]]*4
    assert 'position' not in d.factor_names and 'scale' not in d.factor_names
    hue = shapes(3, 32, given=dict(hue=torch.tensor([0., 120., 240.])), texture='plain', scale=[.3], jitter=0)
    inside = torch.stack([hue.x[i][:, hue.masks[i]].mean(1) for i in range(3)])
    assert inside.argmax(1).tolist() == [0, 1, 2] and 'colour' not in hue.factor_names and hue.hue.tolist() == [0, 120, 240]


def test_turned_shape_is_the_turned_picture():
    "Oracle: rotation=90 about the centre equals rotating the pixels."
    for angle in (90., 180., 270.):
        a, b = (shapes(12, 33, given=dict(shape=torch.arange(12), centers=torch.full((12, 2), 16.5), angle=torch.full((12,), t)), shape=12, jitter=0, colour=1,
                       texture='plain', background='dark') for t in (0., angle))
        assert torch.allclose(a.x.rot90(int(angle//90), (2, 3)), b.x, atol=1e-3)


@few
@given(seed=seeds, frames=st.integers(2, 9))
def test_videos_move_as_they_say(seed, frames):
    v = shapes(40, 20, seed, frames=frames)
    assert v.x.shape == (40, frames, 3, 20, 20) and v.masks.shape == (40, frames, 20, 20) and v.names == ACTIONS
    way, grow, turn = (f[:, -1]-f[:, 0] for f in (v.centers, v.radius, v.angle))
    sign = {'left': way[:, 0] < 0, 'right': way[:, 0] > 0, 'up': way[:, 1] < 0, 'down': way[:, 1] > 0, 'rotate cw': turn < 0, 'rotate ccw': turn > 0,
            'grow': grow > 0, 'shrink': grow < 0}
    for i, a in enumerate(ACTIONS): assert sign[a][v.y == i].all()
    still = torch.stack([way.abs().sum(1) > 1e-4, grow.abs() > 1e-4, turn.abs() > 1e-3]).sum(0)
    assert (still == 1).all()                                               # one thing at a time
    assert {'circle', 'ring'}.isdisjoint(v.value_names['shape'])


def test_counts_occluders_and_domains():
    d = shapes(60, 32, objects=(0, 3), seed=1)
    assert torch.equal(d.y, d.count) and set(d.y.tolist()) == {0, 1, 2, 3} and d.names == ['0', '1', '2', '3']
    assert torch.equal((d.factors[..., 0] >= 0).sum(1), d.count) and torch.equal(d.masks.flatten(2).any(2).sum(1), d.count)
    assert d.captions[int((d.y == 0).nonzero()[0])] == 'nothing'
    hidden, bare = shapes(30, 32, occluders=1), shapes(30, 32)
    assert torch.equal(hidden.centers, bare.centers) and (hidden.visible < 1).all() and (hidden.visible > .2).all() and (bare.visible == 1).all()
    mixed = shapes(40, 16, style=list(STYLES), y='domain')
    assert mixed.names == list(STYLES) and torch.equal(mixed.y, mixed.domain)


def test_captions_name_what_is_there():
    d = shapes(200, 16, position=9, shape=12, colour=8, texture=6, scale=3, background=10, seed=3)
    for c, row in zip(d.captions, d.factors.tolist()):
        words = {f: d.value_names[f][i] for f, i in zip(d.factor_names, row)}
        assert all(w in c for w in words.values()) and re.match(r'an? ', c), c
    half = captions(d, keep=.5, seed=1)
    assert all(d.names[y] in c for c, y in zip(half, d.y.tolist()))
    share = np.mean([any(k in c.split() for k in COLOURS) for c in half])
    assert .35 < share < .65 and captions(d, keep=0)[0] in [f'a {n}' for n in d.names]+['an arrow']


@pytest.mark.parametrize('kw, message', [
    (dict(n=0), 'positive number'), (dict(shape=13), 'number up to 12'), (dict(colour=['mauve']), "got \\['mauve'\\]"), (dict(shape='free'), "'free' only for"),
    (dict(position=2, row=2), 'position, or column and row'), (dict(objects=0), 'objects to be'), (dict(objects=(3, 1)), 'objects to be'),
    (dict(objects=3, distinct=('shape',), shape=2), 'at least 3 values of shape'), (dict(objects=9, scale=[.4]), 'do not fit side by side'),
    (dict(given=dict(colour=[9]*4)), 'numbers of colour from 0 to 5'), (dict(given=dict(taste=[1]*4)), "got 'taste'"), (dict(given=dict(shape=[0, 1])), '4 values of shape'),
    (dict(spurious=1.5), 'probability in'), (dict(spurious=('shape', 'rotation', .5)), "got 'rotation'"), (dict(y='count'), "y='count' only with objects"),
    (dict(y='domain'), "y='domain' only with style"), (dict(y='weight'), "got 'weight'"), (dict(style='cubist'), "got 'cubist'"), (dict(n='all', objects=2), "got 'all'"),
    (dict(motion=9, frames=3), 'number up to 8'), (dict(rotation=['steep']), 'rotation to be numbers'), (dict(texture=None), 'values of texture'),
])
def test_shapes_says_what_it_expected(kw, message):
    with pytest.raises(ValueError, match=message): shapes(**{'n': 4, **kw})


def test_shapes_is_fast_enough():
    import time
    shapes(100)
    start = time.process_time()
    shapes(10_000, 32)
    assert time.process_time()-start < 2


@few
@given(style=st.sampled_from(list(STYLES)), seed=seeds, channels=st.sampled_from([1, 3]), h=st.integers(4, 20), w=st.integers(4, 20))
def test_styles_keep_shape_and_range(style, seed, channels, h, w):
    x = torch.rand(2, channels, h, w, generator=torch.Generator().manual_seed(seed))
    out = restyle(x, style, seed)
    assert out.shape == x.shape and 0 <= out.min() and out.max() <= 1 and torch.equal(out, restyle(x, style, seed))
    film = restyle(x[:, None].expand(2, 3, *x.shape[1:]), style, seed)
    assert torch.equal(film[:, 0], film[:, 2]) and film.shape == (2, 3, channels, h, w)               # paper and noise do not flicker


# ---------------------------------------------------------------- transforms

@few
@given(kind=st.sampled_from(list(CORRUPTIONS)), severity=st.integers(0, 5), seed=seeds, channels=st.sampled_from([1, 3]), h=st.integers(6, 24), w=st.integers(6, 24))
def test_corruptions_keep_shape_and_range(kind, severity, seed, channels, h, w):
    x = torch.rand(3, channels, h, w, generator=torch.Generator().manual_seed(seed))
    before = x.clone()
    out = corrupt(x, kind, severity, seed)
    assert out.shape == x.shape and out.dtype == x.dtype and 0 <= out.min() and out.max() <= 1 and out.isfinite().all()
    assert torch.equal(out, corrupt(x, kind, severity, seed)) and torch.equal(x, before)
    if severity == 0: assert torch.equal(out, x)


@pytest.mark.parametrize('kind', CORRUPTIONS)
@pytest.mark.parametrize('size', [14, 28])
def test_corruptions_grow_with_severity(kind, size):
    x = fashion('test', size, n=100).x
    change = torch.tensor([[(corrupt(x, kind, s, seed)-x).abs().mean() for s in range(6)] for seed in range(3)]).mean(0)
    assert (change.diff() > 0).all(), change


@few
@given(seed=seeds, quarter=st.integers(-4, 4), degrees=st.floats(-180, 180))
def test_rotation_against_exact_quarter_turns(seed, quarter, degrees):
    x = torch.rand(2, 2, 9, 9, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(rotate(x, 90.*quarter), x.rot90(quarter, (2, 3)), atol=1e-4)
    assert torch.allclose(rotate(x, torch.tensor([degrees, 0.]))[1], x[1], atol=1e-4)
    wide = torch.zeros(1, 1, 9, 15)
    wide[..., 4, 7] = 1                                                     # the centre stays where it is, in pictures that are not square too
    assert rotate(wide, degrees)[0, 0, 4, 7] > .99


@few
@given(ratio=st.floats(1, 40), classes=st.integers(2, 8), seed=seeds)
def test_long_tail_counts_follow_the_formula(ratio, classes, seed):
    d = Data(torch.arange(classes*40.)[:, None], torch.arange(classes).repeat(40), [str(c) for c in range(classes)])
    t = long_tail(d, ratio, seed)
    n = t.counts()[t.order]
    assert n[0] == 40 and n[-1] == max(1, round(40/ratio)) and (n.diff() <= 0).all() and len(t.x.unique()) == len(t)
    assert (n-torch.tensor([40*ratio**(-c/(classes-1)) for c in range(classes)])).abs().max() <= .51


@few
@given(rate=st.floats(0, 1), kind=st.sampled_from(['sym', 'asym']), classes=st.integers(2, 6), seed=seeds)
def test_noise_rate_is_exact_in_every_class(rate, kind, classes, seed):
    d = labelled(120, classes, seed)
    noisy = noisy_labels(d, rate, kind, seed)
    wrong = noisy.y != noisy.clean
    assert torch.equal(noisy.clean, d.y) and torch.equal(noisy.x, d.x) and noisy.tag == d.tag
    for c in range(classes): assert wrong[d.y == c].sum() == round(rate*int((d.y == c).sum()))
    if kind == 'asym': assert torch.equal(noisy.y[wrong], (d.y[wrong]+1) % classes)


@few
@given(ways=st.integers(2, 5), shots=st.integers(1, 3), queries=st.integers(1, 4), seed=seeds)
def test_episodes_are_balanced_and_disjoint(ways, shots, queries, seed):
    d = labelled(120, 6, seed)
    out = episodes(d, ways, shots, queries, n=3, seed=seed)
    assert len(out) == 3
    for support, query in out:
        assert support.counts().tolist() == [shots]*ways and query.counts().tolist() == [queries]*ways
        assert not set(support.tag) & set(query.tag) and len(set(support.names)) == ways
        for part in (support, query): assert [d.names[d.y[int(v)]] for v in part.x[:, 0]] == [part.names[i] for i in part.y]


@few
@given(per_task=st.sampled_from([1, 2, 3, 6]), seed=seeds)
def test_class_streams_cover_everything_once(per_task, seed):
    d = labelled(60, 6, seed)
    tasks = class_stream(d, per_task, seed)
    assert len(tasks) == 6//per_task and sorted(t for task in tasks for t in task.tag) == sorted(d.tag)
    for t in tasks: assert set(t.y.tolist()) == set(t.classes) and t.names == d.names
    assert [t.classes for t in class_stream(d, per_task, seed)] == [t.classes for t in tasks]


@pytest.mark.parametrize('call, message', [
    (lambda d: corrupt(d.x, 'rain'), "got 'rain'"), (lambda d: corrupt(d.x, 'fog', 6), 'severity from 0 to 5, got 6'), (lambda d: corrupt(d.x[0], 'fog'), r'\(N, C, H, W\)'),
    (lambda d: restyle(d.x[0], 'neon'), r'\(N, C, H, W\)'), (lambda d: rotate(d.x[0], 3), r'\(N, C, H, W\)'),
    (lambda d: long_tail(d, .5), 'ratio of at least 1, got 0.5'), (lambda d: long_tail(d, 2, order=[0, 0]), 'each class id 0 to 9 once'),
    (lambda d: noisy_labels(d, 1.2), r'rate in \[0, 1\], got 1.2'), (lambda d: noisy_labels(d, .1, 'odd'), "got 'odd'"),
    (lambda d: episodes(d, 11), '11 classes with at least 16 samples, got 10'), (lambda d: episodes(d, 2, 1, 900), 'got 0'),
    (lambda d: class_stream(d, 3), 'divide the 10 classes, got 3'), (lambda d: class_stream(d, 2, order=[1, 2]), 'each class id'),
])
def test_transforms_say_what_they_expected(call, message):
    with pytest.raises(ValueError, match=message): call(fashion('test', 7))
