"Claims: the interval is an interval, rules decide as their table says, and a record cannot be bent after the fact."
import json, math
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats

from courselib import claims
from courselib.claims import (HOLDS, MIME, NOT, PARTLY, VERDICTS, above, all_of, below, between, claim, collect, correlated, declared, each, gap,
                              interval, ranked, unmeasured)

RANK = {v: i for i, v in enumerate([NOT, PARTLY, HOLDS])}
numbers = st.floats(-1e4, 1e4, allow_nan=False).map(lambda x: round(x, 3))
seeds = st.lists(numbers, min_size=3, max_size=12)
nan = math.nan


@pytest.fixture(autouse=True)
def fresh(monkeypatch): monkeypatch.setattr(claims, '_declared', {})


# --- the interval -----------------------------------------------------------------------------------------------------------------
@given(seeds, st.floats(.5, .999))
def test_interval_is_scipys(v, level):
    mean, lo, hi = interval(v, level)
    if np.std(v) == 0: assert lo == pytest.approx(mean, abs=1e-9) and hi == pytest.approx(mean, abs=1e-9)
    else: assert (lo, hi) == pytest.approx(stats.t.interval(level, len(v) - 1, np.mean(v), stats.sem(v)), rel=1e-9, abs=1e-9)


@given(seeds, numbers, st.floats(.01, 100), st.randoms())
def test_interval_moves_with_shift_and_scale_and_ignores_order(v, shift, scale, random):
    mean, lo, hi = interval(v)
    moved = interval([scale*x + shift for x in v])
    size = scale*(max(map(abs, v)) + 1) + abs(shift)
    assert moved == pytest.approx((scale*mean + shift, scale*lo + shift, scale*hi + shift), abs=1e-9*size)
    w = v[:]
    random.shuffle(w)
    assert interval(w) == pytest.approx((mean, lo, hi), abs=1e-9*size)


@pytest.mark.parametrize('n', [2, 3, 5, 10])
def test_interval_covers_as_often_as_it_says(n):
    draws = np.random.default_rng(n).normal(3, 2, size=(4000, n))
    covered = np.mean([lo < 3 < hi for _, lo, hi in map(interval, draws)])
    assert abs(covered - .95) < 3.5*math.sqrt(.95*.05/4000)


@given(seeds)
def test_interval_widens_with_its_level(v):
    widths = [np.subtract(*interval(v, level)[:0:-1]) for level in (.5, .9, .95, .99)]
    assert all(a <= b + 1e-9 for a, b in zip(widths, widths[1:]))


@pytest.mark.parametrize('bad', [[], [1.], [[1., 2.]], [1, nan], [1, math.inf], 'abc', {'a': 1}])
def test_interval_refuses(bad):
    with pytest.raises(ValueError): interval(bad)


def test_values_may_be_torch_numpy_or_lists():
    v = [.1, .2, .4]
    want = interval(v)
    for other in (np.array(v), torch.tensor(v, dtype=torch.float64), torch.tensor(v, dtype=torch.float64, requires_grad=True)): assert interval(other) == want


# --- rules ------------------------------------------------------------------------------------------------------------------------
@given(seeds, numbers)
def test_above_is_the_table(v, t):
    mean, lo, _ = interval(v)
    assert above(t).decide(v) == (HOLDS if lo > t else PARTLY if mean > t else NOT)


@given(seeds, numbers)
def test_below_mirrors_above(v, t): assert below(t).decide(v) == above(-t).decide([-x for x in v])


@given(seeds, numbers, st.floats(0, 100))
def test_a_harder_threshold_never_helps(v, t, step): assert RANK[above(t + step).decide(v)] <= RANK[above(t).decide(v)]


@given(seeds, numbers, st.floats(.01, 1e4))
def test_between_needs_both_sides(v, lo, width):
    both = min(RANK[above(lo).decide(v)], RANK[below(lo + width).decide(v)])
    assert RANK[between(lo, lo + width).decide(v)] == both


@given(seeds, numbers, st.randoms())
def test_verdicts_ignore_the_order_of_seeds(v, t, random):
    w = v[:]
    random.shuffle(w)
    assert each(lo=t).decide(v) == each(lo=t).decide(w)
    if abs(interval(v)[1] - t) > 1e-6 and abs(interval(v)[0] - t) > 1e-6: assert above(t).decide(v) == above(t).decide(w)


@given(seeds, numbers)
def test_each_counts(v, t):
    share = np.mean([x >= t for x in v])
    assert each(lo=t).decide(v) == (HOLDS if share == 1 else PARTLY if share >= .5 else NOT)
    assert each(hi=-t).decide([-x for x in v]) == each(lo=t).decide(v)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8), st.data())
def test_a_gap_forgets_what_the_seeds_share(pairs, data):
    a, b = map(list, zip(*pairs))
    share = [round(data.draw(st.floats(-100, 100)), 2) for _ in pairs]
    rule = above(0, of=gap('a', 'b'))
    mean, lo, hi = interval([x - y for x, y in pairs])
    if min(abs(mean), abs(lo)) < 1e-6: return      # on the edge: rounding decides
    plain = rule.decide({'a': a, 'b': b})
    assert plain == rule.decide({'a': [x + s for x, s in zip(a, share)], 'b': [x + s for x, s in zip(b, share)]})
    assert plain == above(0).decide([x - y for x, y in pairs]) == ranked('a', 'b').decide({'a': a, 'b': b})


def test_ranked_needs_every_neighbour():
    runs = {'a': [3., 3.1, 3.2], 'b': [2., 2.1, 2.2], 'c': [1.9, 2.15, 2.2]}
    assert ranked('a', 'b').decide(runs) == HOLDS
    assert ranked('a', 'b', 'c').decide(runs) == PARTLY
    assert ranked('b', 'a').decide(runs) == NOT
    assert [q.name for q in ranked('a', 'b', 'c').quantities(runs)] == ['a', 'b', 'c', 'a - b', 'b - c']


@given(st.integers(0, 10_000), st.sampled_from(['spearman', 'pearson']))
@settings(max_examples=40)
def test_correlation_is_scipys_on_every_seed(seed, kind):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, 12).astype(float) + (kind == 'pearson')*rng.normal(size=12)     # ties too
    y = x + rng.normal(size=(4, 12))
    want = [getattr(stats, f'{kind}r')(x, row)[0] for row in y]
    q, = correlated(.2, kind=kind).quantities({'x': x, 'y': y})
    assert q.values == pytest.approx(want) and (q.mean, q.lo, q.hi) == pytest.approx(interval(want))


def test_pooled_correlation_has_an_interval_over_points():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    q, = correlated(.5, kind='pearson').quantities({'x': x, 'y': x + .5*rng.normal(size=50)})
    assert q.n == 50 and -1 < q.lo < q.mean < q.hi < 1
    assert correlated(.5).decide({'x': x, 'y': x**3}) == HOLDS                                  # ranks agree exactly
    assert correlated(at_most=-.5).decide({'x': x, 'y': -x}) == HOLDS
    with pytest.raises(ValueError, match='5 points'): claim('few', 'x', correlated(.5)).measure({'x': [1, 2, 3], 'y': [1, 2, 3]})
    with pytest.raises(ValueError, match='not finite'): claim('flat', 'x', correlated(.5)).measure({'x': x, 'y': 0*x})


@given(st.lists(st.sampled_from(VERDICTS), min_size=2, max_size=4))
def test_all_of_is_its_parts(wanted):
    sample = {HOLDS: [1., 1.1, 1.2], PARTLY: [-1., 1., 1.], NOT: [-1., -1., -1.]}
    rule = all_of(**{f'p{i}': above(0) for i in range(len(wanted))})
    got = rule.decide({f'p{i}': sample[w] for i, w in enumerate(wanted)})
    assert got == (HOLDS if set(wanted) == {HOLDS} else NOT if set(wanted) == {NOT} else PARTLY)


def test_parts_may_share_the_runs_or_bring_their_own():
    runs = {'er': [.8, .7, .9], 'ft': [.5, .4, .6]}
    rule = all_of(er=above(.1, of='er - ft'), order=ranked('er', 'ft'), gain=above(0))      # 'er' is a part and an entry
    assert rule.decide({**runs, 'gain': [1., 1., 1.]}) == HOLDS
    with pytest.raises(ValueError, match="'gain'"): rule.decide(runs)
    with pytest.raises(ValueError, match='dict'): rule.decide([1, 2, 3])


# --- failed seeds ---------------------------------------------------------------------------------------------------------------------
@given(seeds, st.integers(1, 12))
def test_failed_seeds_never_hold(v, k):
    bad = min(k, len(v))
    w = v[:len(v) - bad] + [nan]*bad
    for rule in (above(-1e9), below(1e9), between(-1e9, 1e9), each(lo=-1e9)):
        assert rule.decide(w) == (NOT if 2*bad > len(v) else PARTLY)


def test_nan_must_be_announced():
    with pytest.raises(ValueError, match="nan='report'"): claim('a', 'x', above(0)).measure([1, 1, nan])
    with pytest.raises(ValueError, match="nan='report'"): claim('a', 'x', above(0)).measure([1, 1, math.inf])
    c = claim('b', 'x', above(0), nan='report')
    c.measure([1, 1, 1, nan])
    assert c.verdict == PARTLY and c.record['values'] == [1, 1, 1, None] and c.record['n'] == 4
    c = claim('c', 'x', above(0), nan='report')
    c.measure([nan, nan, nan])
    assert c.verdict == NOT and c.interval == (None, None, None)


# --- the claim ------------------------------------------------------------------------------------------------------------------------
def test_a_rule_cannot_move():
    c = claim('a', 'says', above(.1))
    for change in (lambda: setattr(c, 'rule', above(0)), lambda: setattr(c.rule, 'lo', 0.), lambda: setattr(c, 'min_seeds', 1)):
        with pytest.raises(AttributeError): change()


def test_a_claim_is_measured_once():
    c = claim('twice', 'says', above(.1))
    with pytest.raises(ValueError, match="'twice' has not been measured"): c.verdict
    c.measure([1, 2, 3])
    c.measure([1, 2, 3])                                                            # the same numbers: the same cell, shown again
    with pytest.raises(ValueError, match="'twice' was measured already"): c.measure([1, 2, 4])
    assert c.record['values'] == [1, 2, 3]
    c.record['values'][0] = 9                                                       # a copy: the record itself stays
    assert c.record['values'] == [1, 2, 3]
    again = claim('twice', 'says', above(.1))                                       # the declaring cell was run again
    again.measure([1, 2, 4])
    assert again.record['values'] == [1, 2, 4]


def test_later_changes_of_the_measured_array_do_not_matter():
    v = np.array([1., 2., 3.])
    c = claim('a', 'says', above(.1))
    c.measure(v)
    v[:] = -1
    assert c.record['values'] == [1, 2, 3] and c.verdict == PARTLY


@pytest.mark.parametrize('v, seeds, words', [
    ([1, 2], None, 'expected 3 seeds or more, got 2'), ([], None, 'one number a seed'), (1., None, 'one number a seed'),
    ([1, 2, 3], [0, 1], '3 different seeds'), ([1, 2, 3], [0, 1, 1], '3 different seeds'), ([[1, 2, 3]], None, 'one number a seed'),
    ({'a': [1, 2, 3], 'b': [1, 2, 3]}, None, 'of='), (['x', 'y', 'z'], None, 'expected numbers')])
def test_measure_refuses(v, seeds, words):
    with pytest.raises(ValueError, match=words): claim('a', 'x', above(0)).measure(v, seeds=seeds)


@pytest.mark.parametrize('make, words', [
    (lambda: claim('', 'x', above(0)), 'claim id'), (lambda: claim('a b', 'x', above(0)), 'claim id'), (lambda: claim('a', '', above(0)), 'says'),
    (lambda: claim('a', 'x', lambda v: True), 'rule such as'), (lambda: claim('a', 'x', above(0), nan='drop'), "'raise' or 'report'"),
    (lambda: claim('a', 'x', above(0), min_seeds=2), '3 or more'), (lambda: above('a'), 'finite number'), (lambda: above(True), 'finite number'),
    (lambda: above(nan), 'finite'), (lambda: between(1, 1), 'lo < hi'), (lambda: each(), 'neither'), (lambda: each(2, 1), 'lo <= hi'),
    (lambda: ranked('a', 'a'), 'different names'), (lambda: correlated(), 'one of'), (lambda: correlated(2), r'\[-1, 1\]'),
    (lambda: correlated(.5, kind='kendall'), 'spearman'), (lambda: all_of(a=above(0)), 'two or more')])
def test_bad_declarations_say_what_was_expected(make, words):
    with pytest.raises(ValueError, match=words): make()


def test_more_seeds_may_be_demanded():
    with pytest.raises(ValueError, match='expected 5 seeds'): claim('a', 'x', above(0), min_seeds=5).measure([1, 2, 3, 4])


def test_unmeasured_claims_are_found():
    a, b = claim('a', 'x', above(0)), claim('b', 'x', above(0))
    a.measure([1, 2, 3])
    assert unmeasured() == ['b']
    b.measure([1, 2, 3])
    assert unmeasured() == []


# --- card and record ------------------------------------------------------------------------------------------------------------------
class Shape(HTMLParser):
    "What a page is made of; fails on tags that do not close."
    def __init__(self, page):
        super().__init__()
        self.tags, self.attrs, self.words, self.open = set(), set(), [], []
        self.feed(page)
        assert not self.open
    def handle_starttag(self, tag, attrs): self.tags.add(tag); self.open.append(tag); self.attrs |= {k for k, _ in attrs}
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.words.append(data)


def shown(monkeypatch, c, *args, **kwargs):
    "(html, text, record) that a measurement displays."
    seen = []
    monkeypatch.setattr(claims, 'display_bundle', lambda page, text, **more: seen.append((page, text, more[MIME])))
    c.measure(*args, **kwargs)
    return seen[0]


CASES = {
    'mean': (above(.5), [1., 2., 3.]), 'gap': (above(.5, of='a - b'), {'a': [1., 2., 3.], 'b': [0., 1., 2.]}),
    'ranked': (ranked('a', 'b'), {'a': [1., 2., 3.], 'b': [0., 1., 2.]}), 'constant': (each(lo=1), [1, 1, 1]),
    'parts': (all_of(x=above(0), y=each(hi=3)), {'x': [1, 2, 3], 'y': [2, 3, 4]}),
    'points': (correlated(.2), {'a': list(range(8)), 'b': [0, 2, 1, 3, 5, 4, 7, 6]}), 'tiny': (below(1e-5), [1e-9, 2e-9, 0.])}


@pytest.mark.parametrize('name', CASES)
def test_card_survives_a_sanitiser_and_says_everything(monkeypatch, name):
    rule, values = CASES[name]
    c = claim(name, 'A sentence with <b>tags</b> & "quotes".', rule, unit='nats', paper='1 < 2', ablation=name == 'gap')
    page, text, record = shown(monkeypatch, c, values, note='because </div><script>', detail={'steps': 100})
    shape = Shape(page)
    assert shape.tags <= {'div', 'span', 'b'} and shape.attrs <= {'style'}
    words = ''.join(shape.words)
    for piece in (c.says, rule.text if name != 'parts' else 'on every seed', c.verdict, '1 < 2', 'because </div><script>', 'steps 100', name, 'nats'):
        assert piece in words and piece in text
    assert ('ablation' in words) == (name == 'gap') == record['ablation']
    assert len(page) < 8000


@pytest.mark.parametrize('name', CASES)
def test_record_is_strict_json_and_complete(monkeypatch, name):
    rule, values = CASES[name]
    c = claim(name, 'says', rule)
    _, _, record = shown(monkeypatch, c, values)
    assert json.loads(json.dumps(record, allow_nan=False)) == record == c.record
    assert {'id', 'says', 'rule', 'unit', 'paper', 'values', 'n', 'mean', 'lo', 'hi', 'verdict', 'note', 'ablation', 'seeds', 'quantities', 'parts'} <= set(record)
    assert record['verdict'] in VERDICTS and record['rule'] == rule.text
    if len(record['quantities']) == 1: assert c.interval == (record['mean'], record['lo'], record['hi'])
    else: assert set(c.interval) == set(record['values'])
    if name == 'parts': assert [(p['name'], p['verdict']) for p in record['parts']] == [('x', PARTLY), ('y', PARTLY)]
    if name == 'gap': assert record['means'] == {'a': 2, 'b': 1}


def test_outside_a_notebook_the_text_is_printed(capsys):
    claim('a', 'A sentence.', above(0)).measure([1, 2, 3])
    assert 'A sentence.' in capsys.readouterr().out


def notebook(path, *cells):
    cells = [dict(cell_type='code', source=s, outputs=[dict(output_type='display_data', data={MIME: r}, metadata={}) for r in rs]) for s, rs in cells]
    path.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
    return path


def test_collect_and_unmeasured_of_a_notebook(tmp_path):
    c = claim('one', 'says', above(0))
    c.measure([1, 2, 3])
    nb = notebook(tmp_path/'n.ipynb', ("%matplotlib inline\nclaim('hidden', 'x', above(0))", []), ("a = claim('one', 'says', above(0))", []),
                  ("b = claims.claim(id='two', says='x', rule=above(0))", []), ('a.measure(v)', [c.record]))
    assert collect(nb) == [c.record] and declared(nb) == ['one', 'two'] and unmeasured(nb) == ['two']
    with pytest.raises(ValueError, match="'one'"): collect(notebook(tmp_path/'m.ipynb', ('', [c.record]), ('', [c.record])))


def test_the_claims_chapter_itself_has_its_records(root):
    found = {r['id']: r['verdict'] for r in collect(root/'nbs/00_core/06_claims.ipynb')}
    assert found == {'example/forest': HOLDS, 'example/forest_size': NOT, 'example/no_bootstrap': PARTLY}
