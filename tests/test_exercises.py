"Exercises: a right answer passes in any dress, a wrong one never does, and no reader can crash `check`."
import copy
import re

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from courselib import exercises
from courselib.exercises import Mark, Rebuild, attempt, difference, generator, predict, rebuild

finite = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 2))
arrays = st.lists(finite, min_size=1, max_size=6).map(lambda v: torch.tensor(v, dtype=torch.float64))
nested = st.recursive(arrays | finite | st.integers(-99, 99) | st.booleans() | st.text(max_size=3) | st.none(),
                      lambda kids: st.lists(kids, min_size=1, max_size=3).map(tuple) | st.dictionaries(st.sampled_from('abc'), kids, min_size=1, max_size=3), max_leaves=8)


@pytest.fixture
def said(monkeypatch):
    "What the reader is told: a list of (head, lines, what)."
    seen = []
    monkeypatch.setattr(exercises, '_say', lambda head, lines, what: seen.append((head, '\n'.join(lines), what)))
    return seen


# --- comparison -----------------------------------------------------------------------------------------------------------------------
@given(nested)
def test_equal_to_itself(v): assert difference(copy.deepcopy(v), v) is None


def dressed(v):
    "The same value in other types: float32 for float64, arrays for tensors, lists for tuples."
    if isinstance(v, torch.Tensor): return v.float().numpy()
    if isinstance(v, dict): return {k: dressed(x) for k, x in v.items()}
    if isinstance(v, tuple): return [dressed(x) for x in v]
    return np.float32(v) if type(v) in (int, float) else v


@given(nested)
def test_types_are_forgiven(v): assert difference(dressed(v), v) is None and difference(v, dressed(v)) is None


def bent(v, draw):
    "`v` with exactly one number, string or length changed, or None where there is nothing to bend."
    if isinstance(v, torch.Tensor):
        if draw(st.booleans()): return torch.cat([v, v[:1]])
        w = v.clone()
        i = draw(st.integers(0, len(w) - 1))
        w[i] += 1 + abs(w[i])
        return w
    if isinstance(v, bool): return not v
    if isinstance(v, (int, float)): return v + 1 + abs(v)
    if isinstance(v, str): return v + '?'
    if isinstance(v, dict):
        k = draw(st.sampled_from(sorted(v)))
        return {**v, k: bent(v[k], draw)}
    if isinstance(v, tuple):
        i = draw(st.integers(0, len(v) - 1))
        return v[:i] + (bent(v[i], draw),) + v[i + 1:]
    return 'something'


@given(nested, st.data())
def test_one_change_anywhere_is_seen_and_said(v, data):
    said = difference(bent(v, data.draw), v)
    assert isinstance(said, str) and len(said) > 5 and '\n' not in said


@pytest.mark.parametrize('got, want, words', [
    (torch.zeros(3, 1), torch.zeros(3), r'shape \(3, 1\), expected \(3,\)'), (torch.zeros(2), 0., r'shape \(2,\), expected \(\)'),
    (torch.tensor([1., float('nan')]), torch.tensor([1., 2.]), 'NaN in 1 of 2'), (torch.tensor([1., float('inf')]), torch.tensor([1., 2.]), 'infinite in 1 of 2'),
    ((1, 2), {'a': 1}, 'is a tuple, expected a dict'), ({'a': 1}, {'a': 1, 'b': 2}, 'keys'), (3, (1, 2), 'is a int, expected 2 values'),
    ({'a': (1, {'b': 2.})}, {'a': (1, {'b': 3.})}, r"\['a'\] value 2 \['b'\] is off by up to 1"), (None, 1., 'is None'), (1., None, 'expected None'),
    (torch.nn.Linear(2, 2), torch.nn.Linear(3, 2), 'parameter'), (1, torch.nn.Linear(2, 2), 'expected a module'), (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2), 'off by')])
def test_messages(got, want, words): assert re.search(words, difference(got, want))


def test_nan_and_infinity_where_they_belong():
    v = torch.tensor([float('nan'), float('inf'), 1.])
    assert difference(v, v) is None and difference(-v, v)


# --- one attempt ----------------------------------------------------------------------------------------------------------------------
def spoil(x, d, l):
    x.zero_(); d['a'].zero_(); l.append(1)
    return x


def test_inputs_are_copied_deeply():
    args = (torch.ones(2, requires_grad=False), {'a': torch.ones(2)}, [torch.ones(1)])
    got = attempt(spoil, args)
    assert got.error is None and got.args[0].sum() == 0
    assert args[0].sum() == 2 and args[1]['a'].sum() == 2 and len(args[2]) == 1


def test_modules_generators_and_non_leaves_can_be_inputs():
    net, g = torch.nn.Linear(2, 2), torch.Generator().manual_seed(3)
    hidden = (torch.ones(2, requires_grad=True)*2)
    draw = lambda net, g, h: (net(h), torch.rand(2, generator=g))
    a, b = (attempt(draw, (net, g, hidden)) for _ in range(2))
    assert a.error is None and difference(a.value, b.value) is None


def test_noise_is_the_same_for_both_and_the_readers_generator_is_left_alone():
    before = torch.get_rng_state()
    assert difference(attempt(torch.rand_like, (torch.zeros(3),), seed=1).value, attempt(lambda x: torch.rand(3), (torch.zeros(3),), seed=1).value) is None
    assert torch.equal(before, torch.get_rng_state())


# --- rebuild --------------------------------------------------------------------------------------------------------------------------
def centre(x, scale): return (x - x.mean(0))*scale

def make(**kw):
    kw = {'wrong': {'wrong axis': (lambda x, scale: (x - x.mean(1, keepdim=True))*scale, 'HINT-AXIS'),
                    'scale forgotten': (lambda x, scale: x - x.mean(0), 'HINT-SCALE'),
                    'scale squared': (lambda x, scale: (x - x.mean(0))*scale**2, 'HINT-SQUARE')}, **kw}
    return rebuild('centre', centre, lambda rng: (torch.randn(4, 4, generator=generator(rng)), float(rng.uniform(2, 3))), **kw)


RIGHT = {'same': centre, 'float64': lambda x, scale: (x.double() - x.double().mean(0))*scale, 'numpy': lambda x, scale: (x.numpy() - x.numpy().mean(0))*scale,
         'list': lambda x, scale: ((x - x.mean(0))*scale).tolist(), 'loop': lambda x, scale: torch.stack([c - c.mean() for c in x.T], 1)*scale}

@pytest.mark.parametrize('name', RIGHT)
def test_right_answers_pass(said, name):
    ok = make().check(RIGHT[name])
    assert ok == True and isinstance(ok, int) and said[-1][0] == 'correct'


WRONG = {'wrong axis': 'HINT-AXIS', 'scale forgotten': 'HINT-SCALE', 'scale squared': 'HINT-SQUARE'}

@pytest.mark.parametrize('name', WRONG)
def test_known_mistakes_get_their_own_hint(said, name):
    ex = make()
    assert not ex.check(ex.wrong[name][0]) and WRONG[name] in said[-1][1] and name in said[-1][1]
    assert sum(h in said[-1][1] for h in WRONG.values()) == 1


def weird(): yield 1


BAD = {'shape': lambda x, scale: centre(x, scale)[None], 'raises': lambda x, scale: x.nope, 'no arguments': lambda: 1,
       'exits the shape': lambda x, scale: x @ torch.ones(7), 'string': lambda x, scale: 'x', 'type': lambda x, scale: object(), 'itself': lambda x, scale: (lambda: x),
       'nan': lambda x, scale: centre(x, scale)*float('nan'), 'ragged': lambda x, scale: [[1, 2], [3]], 'recursion': lambda x, scale: BAD['recursion'](x, scale),
       'in place': lambda x, scale: x.sub_(x.mean(0)).mul_(scale), 'not a function': 3, 'a class': dict, 'generator': lambda x, scale: weird(),
       'numpy object': lambda x, scale: np.array([object()]), 'error with lines': lambda x, scale: (_ for _ in ()).throw(ValueError('one\ntwo'))}

@pytest.mark.parametrize('name', BAD)
def test_nothing_a_reader_returns_can_crash_check(said, name):
    assert make().check(BAD[name]) == False
    head, text, _ = said[-1]
    assert head == 'not yet' and text and 'Traceback' not in text and len(text) < 2000


def test_what_is_said_about_the_usual_slips(said):
    ex = make()
    ex.check(BAD['in place']); assert 'changed its input x in place' in said[-1][1]
    ex.check(BAD['shape']); assert 'shape (1, 4, 4), expected (4, 4)' in said[-1][1] and 'x = ' in said[-1][1] and 'scale = ' in said[-1][1]
    ex.check(BAD['raises']); assert 'AttributeError' in said[-1][1] and 'x.nope' in said[-1][1]
    ex.check(lambda x, scale: centre(x, scale) + .1); assert 'expected' in said[-1][1] and 'got' in said[-1][1] and 'off by up to 0.1' in said[-1][1]


def blank(x, scale): ...
def blank_with_words(x, scale):
    "Centre the columns."
def blank_pass(x, scale): pass
def blank_raise(x, scale): raise NotImplementedError
def half(x, scale):
    m = x.mean(0)
    ...

def test_not_written_yet(said):
    for f in (blank, blank_with_words, blank_pass, blank_raise, ..., None): assert not make().check(f) and said[-1][0] == 'not written yet'
    assert not make().check(half) and 'None' in said[-1][1] and 'return' in said[-1][1]


def test_each_check_draws_new_inputs_and_a_rerun_draws_the_same(said):
    seen = []
    def spy(x, scale): seen.append(x.clone()); return centre(x, scale)
    for _ in range(2):
        ex = make(trials=3)
        ex.check(spy); ex.check(spy)
    assert len(seen) == 12 and not torch.equal(seen[0], seen[3]) and not torch.equal(seen[0], seen[1])
    assert all(torch.equal(a, b) for a, b in zip(seen[:6], seen[6:]))


def test_a_function_that_is_right_on_most_inputs_fails(said):
    ex = rebuild('relu', torch.relu, lambda rng: (torch.tensor([1., 2., float(rng.uniform(-1, .5))]),), trials=20)
    assert not ex.check(lambda x: x)


def test_reference_that_changes_its_input_or_raises(said):
    step = rebuild('step', lambda p, g: p.sub_(g), lambda rng: (torch.ones(2), torch.ones(2)))
    assert step.check(lambda p, g: p.sub_(g)) and not step.check(lambda p, g: p - g) and 'which the function changes' in said[-1][1]
    def strict(n):
        if n < 0: raise ValueError('n is 0 or more')
        return n
    guard = rebuild('guard', strict, lambda rng: (int(rng.integers(-3, 3)),), trials=12)
    assert guard.check(strict) and not guard.check(lambda n: n) and 'expected ValueError' in said[-1][1]


# --- gradients ------------------------------------------------------------------------------------------------------------------------
def loss(s, t): return ((s - t.detach())**2).mean()

def grad_exercise(): return rebuild('loss', loss, lambda rng: tuple(torch.randn(2, 5, generator=generator(rng))), grads=True,
                                    wrong={'leak': (lambda s, t: ((s - t)**2).mean(), 'HINT-LEAK')})

def test_gradients_are_part_of_the_answer(said):
    ex = grad_exercise()
    assert ex.check(lambda s, t: (s - t.detach()).pow(2).sum()/len(s))
    assert not ex.check(lambda s, t: ((s - t)**2).mean()) and 'HINT-LEAK' in said[-1][1] and 'reaches t' in said[-1][1]
    assert not ex.check(lambda s, t: torch.tensor(((s - t)**2).mean().item())) and 'no gradient reaches s' in said[-1][1]
    assert not ex.check(lambda s, t: loss(s, t) + s.sum() - s.sum().detach()) and 'gradient of s' in said[-1][1]
    ex.prove(loss)


def test_gradients_of_module_parameters_and_chosen_inputs(said):
    ex = rebuild('layer', lambda net, x: net(x), lambda rng: (torch.nn.Linear(3, 2), torch.randn(4, 3)), grads=True)
    assert ex.check(lambda net, x: x @ net.weight.T + net.bias)
    assert not ex.check(lambda net, x: x @ net.weight.T + net.bias.detach()) and 'net.bias' in said[-1][1]
    chosen = rebuild('chosen', lambda a, b: a*b, lambda rng: (torch.ones(2, requires_grad=True), torch.ones(2)), grads=True)
    assert chosen.check(lambda a, b: a*b.detach())          # only `a` asks for a gradient


# --- prove ----------------------------------------------------------------------------------------------------------------------------
def test_prove(said):
    make().prove(centre)
    assert said[-1][0] == 'correct' and all(n in said[-1][1] for n in WRONG)
    with pytest.raises(AssertionError, match='the solution is marked'): make().prove(lambda x, scale: x)
    with pytest.raises(AssertionError, match='the solution is marked'): make().prove(blank)


def test_prove_refuses_a_toothless_exercise():
    easy = make(wrong={'harmless': (lambda x, scale: centre(x, scale)*1., 'never')})
    with pytest.raises(AssertionError, match="'harmless' is marked 'correct'"): easy.prove(centre)
    twins = make(wrong={'one': (lambda x, scale: x, 'a'), 'two': (lambda x, scale: x + 0, 'b')})
    with pytest.raises(AssertionError, match='taken for'): twins.prove(centre)
    lazy = make(wrong={'blank': (blank, 'never')})
    with pytest.raises(AssertionError, match='not written yet'): lazy.prove(centre)


@pytest.mark.parametrize('kw, words', [(dict(wrong={'a': centre}), "'hint'"), (dict(wrong={'a': (centre, 3)}), "'hint'"), (dict(trials=0), '1 or more')])
def test_bad_exercises(kw, words):
    with pytest.raises(ValueError, match=words): make(**kw)


# --- predict --------------------------------------------------------------------------------------------------------------------------
@given(st.floats(.1, 100), st.floats(0, 2))
def test_numbers_pass_within_their_tolerance(truth, off):
    q = predict('How much?', truth, tol=1.)
    assert (q.mark(truth + off)[0] == 'correct') == (abs(truth + off - truth) <= 1)
    assert (predict('How much?', truth).mark(truth*(1 + off/10))[0] == 'correct') == (abs(truth*(1 + off/10) - truth) <= .05*truth)


def test_predictions(said):
    calls = []
    q = predict('Which?', lambda: calls.append(1) or 'Falls', options=['rises', 'falls'], wrong={'rises': 'HINT-UP'})
    assert not q.check() and not q.check(...) and not q.check(None) and not calls            # asking does not run the experiment
    assert said[-1][0] == 'not written yet' and 'rises, falls' in said[-1][1]
    assert not q.check('rises') and 'HINT-UP' in said[-1][1] and 'Falls' not in said[-1][1]     # the answer is not given away
    assert not q.check('melts') and 'not among the options' in said[-1][1]
    assert q.check(' FALLS ') and len(calls) == 1
    q.prove()
    assert 'Falls' in said[-1][1]


def test_predicted_numbers(said):
    q = predict('How many?', torch.tensor(7), wrong={8: 'HINT-FENCE'})
    assert q.check(7) and q.check('7') and not q.check(7.01) and 'too high' in said[-1][1]
    assert not q.check(8) and 'HINT-FENCE' in said[-1][1]
    assert not q.check('many') and not q.check([7]) and not q.check(object()) and not q.check(True)
    assert predict('p?', .5, tol=.1).check(np.float32(.55))
    assert not predict('boom?', lambda: 1/0).check(3) and 'ZeroDivisionError' in said[-1][1]


@pytest.mark.parametrize('make, words', [
    (lambda: predict('', 1), 'question'), (lambda: predict('q', 1, tol=-1), '0 or more'), (lambda: predict('q', 'a', ['b']), 'not among'),
    (lambda: predict('q', 'a', ['a'], wrong={'z': 'x'}), 'not among')])
def test_bad_questions(make, words):
    with pytest.raises(ValueError, match=words): make()


@pytest.mark.parametrize('q', [predict('q', 3, wrong={3: 'never'}), predict('q', 3., wrong={3.01: 'never'}), predict('q', lambda: 'c', ['a', 'b'])])
def test_prove_refuses_a_question_that_cannot_be_failed_or_answered(q):
    with pytest.raises(AssertionError): q.prove()


# --- what is shown --------------------------------------------------------------------------------------------------------------------
def test_marks_are_shown_as_text_outside_a_notebook_and_escaped_inside(capsys, monkeypatch):
    make().check(lambda x, scale: '<script>')
    out = capsys.readouterr().out
    assert 'not yet: centre' in out and "'<script>'" in out
    pages = []
    monkeypatch.setattr(exercises, 'display_bundle', lambda page, text: pages.append(page))
    make().check(lambda x, scale: '<script>')
    assert '<script>' not in pages[0] and '&lt;script&gt;' in pages[0] and 'class=' not in pages[0]


def test_a_mark_is_a_bool_that_notebooks_do_not_print():
    assert Mark(True) == True and not Mark(False) and repr(Mark(True)) == 'True' and Mark(True)._ipython_display_() is None


def test_rebuild_keeps_what_it_was_given():
    ex = rebuild('double', lambda x: 2*x, inputs=lambda rng: (rng.normal(),), wrong={'square': (lambda x: x*x, 'that is the square')}, trials=4)
    assert isinstance(ex, Rebuild) and ex.name == 'double' and ex.trials == 4 and list(ex.wrong) == ['square']
