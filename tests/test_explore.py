"""Frames survive packing, in Python and in the page's own decoder; axes stand still; the output is safe html."""
import base64, json, math

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from courselib.explore import as_frame, choice, driver, explore, fix_ranges, pack, slider, toggles, unpack

finite = st.floats(-1e6, 1e6, allow_nan=False)
series = arrays(np.float64, st.integers(1, 30), elements=st.one_of(finite, st.just(np.nan)))


def frame(*ys, title='t'):
    return dict(kind='plotly', figure=dict(data=[dict(y=y, name=f'trace {i}') for i, y in enumerate(ys)], layout=dict(title=title)), text=title)


def close(a, b, span):
    return np.array_equal(np.isnan(a), np.isnan(b)) and np.all(np.abs(np.nan_to_num(a) - np.nan_to_num(b)) <= span*8e-6 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(series, series), min_size=1, max_size=6))
def test_round_trip_keeps_every_number_within_the_promised_error(pairs):
    back = unpack(pack([frame(a, b, title=str(i)) for i, (a, b) in enumerate(pairs)])[0])
    for k in range(2):
        known = np.concatenate([p[k][np.isfinite(p[k])] for p in pairs])
        span = np.ptp(known) if known.size else 0
        wide = known.size and known.min() > 0 and known.max() > 999*known.min()              # kept as logarithms
        assert all(close(p[k], b['figure']['data'][k]['y'], span) or wide and np.allclose(p[k], b['figure']['data'][k]['y'], rtol=3e-4, atol=0, equal_nan=True) for p, b in zip(pairs, back))
    assert [b['text'] for b in back] == [str(i) for i in range(len(pairs))]


def test_small_values_survive_beside_large_ones():
    ys = [v*np.geomspace(1e-4, 1, 30) for v in (1., 1e5)]
    for y, b in zip(ys, unpack(pack([frame(y) for y in ys])[0])): np.testing.assert_allclose(b['figure']['data'][0]['y'], y, rtol=3e-4)


@settings(deadline=None, max_examples=40)
@given(st.lists(arrays(np.uint8, 12), min_size=1, max_size=5))
def test_bytes_are_exact(images):
    back = unpack(pack([dict(kind='image', pixels=a, shape=[3, 4, 1], text='') for a in images])[0])
    assert all(np.array_equal(a, b['pixels']) for a, b in zip(images, back))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from('abcd'), st.one_of(st.text(max_size=5), st.integers(-5, 5), st.booleans(), st.none()), max_size=4), min_size=1, max_size=6))
def test_keys_that_only_some_frames_have_stay_where_they_are(layouts):
    back = unpack(pack([dict(figure=dict(data=[{}], layout=l)) for l in layouts])[0])
    assert [b['figure']['layout'] for b in back] == layouts


def test_a_part_that_depends_on_one_control_is_stored_once_a_value():
    rng = np.random.default_rng(0)
    slow = [rng.normal(size=500) for _ in range(3)]
    size = lambda n: len(pack([frame(slow[i], np.full(500, float(j))) for i in range(3) for j in range(n)])[0])
    assert size(40) < 1.3*size(1)


@given(st.lists(st.lists(finite, min_size=1, max_size=5), min_size=1, max_size=5))
@settings(deadline=None, max_examples=40)
def test_one_range_holds_all_frames(ys):
    frames = fix_ranges([as_frame(go.Figure(go.Scatter(y=y, x=list(range(len(y)))))) for y in ys])
    ranges = {tuple(f['figure']['layout']['yaxis']['range']) for f in frames}
    lo, hi = ranges.pop()
    assert not ranges and lo <= min(map(min, ys)) and max(map(max, ys)) <= hi and lo < hi


@pytest.mark.parametrize('make, says', [
    (lambda: slider(0, 1, 0), 'step > 0'), (lambda: slider([1, 2], labels=['a']), 'expected 2 labels'), (lambda: choice(['a'], value='b'), 'not among'),
    (lambda: toggles(['a', 'b'], value=(1,)), 'expected 2 bools'), (lambda: as_frame(3), 'got int'), (lambda: explore('no function', alt='x', n=[1]), 'got str'),
    (lambda: explore(lambda n: go.Figure(go.Scatter(y=[n])), alt='x', n=object()), "control 'n'"),
    (lambda: explore(lambda n: np.zeros((2, 2)) if n else go.Figure(go.Scatter(y=[1])), alt='x', n=[0, 1]), 'one kind of figure'),
])
def test_bad_input_says_what_was_expected(make, says):
    with pytest.raises(ValueError, match=says): make()


def test_text_of_the_author_cannot_end_the_script():
    ex = explore(lambda n: (go.Figure(go.Scatter(y=[n])), '</script><b>'), alt='"quoted" </script> <b>', n=[1, 2])
    assert ex.html.count('</script>') == 2 and '<b>' not in ex.html.split('<script')[0]


def test_driver_has_no_comment_lines_and_no_network():
    assert not any(l.startswith('//') for l in driver().split('\n')) and 'http' not in driver()


def test_the_page_decodes_the_same_frames(browser_page):
    rng = np.random.default_rng(1)
    frames = [frame(rng.normal(size=n + 3), np.r_[np.nan, rng.integers(0, 9, 4)], title='é' * n) | ({'extra': n} if n % 2 else {}) for n in range(5)]
    for f in frames: f['figure']['data'] += [dict(z=rng.random((3, 4))), dict(y=np.r_[np.nan, 10**rng.uniform(-4, 3, 6)])]
    payload, _ = pack(frames)
    browser_page.set_content('<html><body></body></html>')
    browser_page.add_script_tag(content=driver())
    got = browser_page.evaluate('async p => { const f = await courselib.unpack(p); return JSON.stringify([0,1,2,3,4].map(f)); }', base64.b64encode(payload).decode())
    def same(a, b):
        if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, np.ndarray): return same(a.tolist(), b)
        if isinstance(a, list): return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, float) and math.isnan(a): return b is None
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) if isinstance(a, float) else a == b
    assert same(unpack(payload), json.loads(got))


@pytest.fixture(scope='module')
def browser_page():
    sync_api = pytest.importorskip('playwright.sync_api')
    from pathlib import Path
    if not Path('/usr/bin/chromium').exists(): pytest.skip('no /usr/bin/chromium on this machine')
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox', '--disable-gpu', '--disable-background-networking'])
        yield b.new_page()
        b.close()
