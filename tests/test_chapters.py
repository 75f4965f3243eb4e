"""The chapter contract on every notebook, one test a rule; and for every rule a chapter that breaks it, which must be caught.

The rules are in tools/contract.py.
"""
import copy

import pytest

import contract
from good_chapter import CELLS, PATH, RUN, WIDGET, code, display, md, measured, project, record, said
from course import ROOT, Notebook, paths

NOTEBOOKS = [Notebook(p) for p in paths()]


def label(nb): return nb.slug if nb.kind in ('chapter', 'core') else f'{nb.part}.{nb.kind}' if nb.kind in ('bench', 'overview') else nb.name


# ---- the contract -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('nb, rule', [pytest.param(nb, name, id=f'{label(nb)}-{name}') for nb in NOTEBOOKS
                                      for name, (_, kinds) in contract.RULES.items() if nb.kind in kinds])
def test_rule(nb, rule):
    if problems := contract.check(nb, only={rule}): pytest.fail('\n'.join(problems), pytrace=False)


def test_there_are_notebooks():
    assert {'index', 'core'} <= {nb.kind for nb in NOTEBOOKS}


def test_names_are_unique():
    "Claims are gathered in one table and modules in one library, so neither may occur twice."
    for what, names in (('claim', [(r['id'], nb.rel) for nb in NOTEBOOKS for r in nb.claims]), ('module', [(nb.module, nb.rel) for nb in NOTEBOOKS])):
        seen = {}
        for name, rel in names: assert seen.setdefault(name, rel) == rel, f'{what} {name} is in {seen[name]} and in {rel}'


def test_numbers_are_unique():
    "The folder's and the file's number give the order of the course."
    where = {}
    for nb in NOTEBOOKS:
        if nb.folder: assert where.setdefault((nb.folder, nb.path.name.split('_')[0]), nb.rel) == nb.rel, f'two notebooks with one number: {where[nb.folder, nb.path.name.split("_")[0]]} and {nb.rel}'


def test_every_part_has_a_bench():
    parts = {nb.folder for nb in NOTEBOOKS if nb.kind == 'chapter'}
    assert not parts - {nb.folder for nb in NOTEBOOKS if nb.kind == 'bench'}, 'a part opens with 00_bench.ipynb'


# ---- every rule catches what breaks it --------------------------------------------------------------------------------

class Broken:
    "A copy of the good chapter with changes."
    def __init__(self): self.cells, self.run, self.export = copy.deepcopy(CELLS), copy.deepcopy(RUN), True
    def put(self, i, source=None, outputs=None, **metadata):
        if source is not None: self.cells[i]['source'] = source
        if outputs is not None: self.cells[i]['outputs'] = outputs
        if metadata: self.cells[i]['metadata'] = metadata
        return self
    def swap(self, i, old, new):
        assert old in self.cells[i]['source'], f'{old!r} is not in cell {i}'
        return self.put(i, self.cells[i]['source'].replace(old, new))
    def add(self, i, cell): self.cells.insert(i, cell); return self
    def drop(self, *at): self.cells = [c for i, c in enumerate(self.cells) if i not in at]; return self
    def ran(self, **more): self.run |= more; return self


B = Broken
LONG = '#| export\ndef long(x: int) -> int:\n    "Long."\n' + '\n'.join(f'    x = x + {i}' for i in range(45)) + '\n    return x'
BREAKS = [   # rule, what the message has to say, the broken chapter
    ('front_matter', "'- paper: ...'", lambda: B().swap(1, '- paper: On halves\n', '')),
    ('front_matter', "'- needs: ...'", lambda: B().swap(1, '\n- needs: continual.bench', '')),
    ('front_matter', "'authors' is empty", lambda: B().swap(1, 'A. Author', '')),
    ('front_matter', 'no \'> description\'', lambda: B().swap(1, '> Half of a number, twice.', '')),
    ('front_matter', 'year should be four digits', lambda: B().swap(1, '2023', 'last year')),
    ('front_matter', "level should be one of", lambda: B().swap(1, 'level: core', 'level: hard')),
    ('front_matter', 'arxiv should be like', lambda: B().swap(1, '2301.00001', 'unknown')),
    ('front_matter', "unknown front matter 'skip_exec'", lambda: B().swap(1, '- year', '- skip_exec: true\n- year')),
    ('front_matter', 'the first cell should be', lambda: B().drop(0)),
    ('headings', "no heading '## Explore'", lambda: B().swap(12, '## Explore', '### Explore')),
    ('headings', "'## Results' is not one", lambda: B().add(14, md('## Results'))),
    ('headings', "'## Check it' occurs twice", lambda: B().add(14, md('## Check it'))),
    ('headings', 'headings are in the order', lambda: B().swap(12, 'Explore', 'Exercises').swap(15, 'Exercises', 'Explore')),
    ('question', 'no question to guess at', lambda: B().swap(2, 'What is half of a half?', '')),
    ('words', '500 to 1,200', lambda: B().put(2, '## The idea\n\nWhat?')),
    ('words', '500 to 1,200', lambda: B().swap(2, 'What is', 'word '*1300)),
    ('prose', 'exclamation mark', lambda: B().swap(14, 'claim says.', 'claim says!')),
    ('prose', "'simply'", lambda: B().swap(14, 'watch', 'simply watch')),
    ('prose', 'emoji', lambda: B().swap(14, 'watch', 'watch \U0001F600')),
    ('module', "default_exp should be 'continual.halves'", lambda: B().put(0, '#| default_exp continual.thirds')),
    ('module', 'exports nothing', lambda: B().swap(3, '#| export\n', '').swap(5, '#| exports\n', '')),
    ('in_step', 'not in step with the notebook', lambda: B().swap(5, 'x/2', 'x*.5')),
    ('docs', 'halve (cell 5) has no docstring', lambda: B().swap(5, '    "Half of `x`."\n', '')),
    ('docs', 'parameter x', lambda: B().swap(5, ' # (N,) numbers', '')),
    ('docs', 'no type hint for what it returns', lambda: B().swap(5, ' -> torch.Tensor: # (N,)', ':')),
    ('docs', 'halve (cell 5) has no type hints', lambda: B().swap(5, 'x: torch.Tensor,', 'x,').swap(5, ' -> torch.Tensor: # (N,)', ':')),
    ('docs', 'Half (cell 6) has no docstring', lambda: B().add(6, code('#| export\nclass Half:\n    def __init__(self, x): self.x = x'))),
    ('docs', 'Half.x (cell 6) has neither', lambda: B().add(6, code('#| export\nclass Half:\n    "A half."\n    def __init__(self, x): self.x = x'))),
    ('cell_length', 'at most 40', lambda: B().add(6, code(LONG))),
    ('module_length', 'at most 300', lambda: [b := B(), [b.add(6, code(LONG)) for _ in range(7)]][0]),
    ('star_imports', 'name what it uses', lambda: B().swap(3, 'import double', 'import *')),
    ('dependencies', 'there is no module courselib.continual.nothing', lambda: B().swap(1, 'continual.bench', 'continual.bench, continual.nothing')),
    ('dependencies', "another part's bench", lambda: B().add(6, code('from courselib.shift.bench import x'))),
    ('dependencies', "not under 'needs'", lambda: B().add(6, code('from courselib.continual.other import x'))),
    ('dependencies', "not under 'needs'", lambda: B().swap(1, 'needs: continual.bench', 'needs: none')),
    ('assertions', "0 assertions under 'Check it'", lambda: B().put(7, 'print(halve(torch.ones(1)))', [said('0.5\n')])),
    ('assertions', 'halve (cell 5) has no test', lambda: B().put(7, 'assert double(1)\nassert double(2)\nassert double(3)').add(6, code('1')).add(6, code('2')).add(6, code('3'))),
    ('assertions', 'cannot fail', lambda: B().swap(7, 'assert halve(torch.tensor([4.])) == 2', 'assert True')),
    ('claim', 'no measured claim', lambda: B().put(10, outputs=[])),
    ('claim', '`c` (cell 9) is never measured', lambda: B().swap(10, 'c.measure(halves)', '')),
    ('claim', 'in the cell that declares it', lambda: B().drop(9).add(9, code("c = claim('halves/half', 'A half.', above(.4))\nc.measure([halve(s) for s in range(3)])", measured('halves/half')))),
    ('claim', "has the verdict 'nearly'", lambda: B().put(10, outputs=[measured('halves/half', verdict='nearly')])),
    ('ablation', 'no measured ablation', lambda: B().put(11, outputs=[measured('halves/not', ablation=False)])),
    ('seeds', 'rests on 2 seeds', lambda: B().put(10, outputs=[measured('halves/half', n=2)])),
    ('measured', 'written in the notebook', lambda: B().swap(10, 'c.measure(halves)', 'c.measure([.5, .51, .49])')),
    ('measured', 'written in the notebook', lambda: B().put(10, 'halves = torch.tensor([.5, .51, .49])\nc.measure(values=halves)')),
    ('same_claims', "stored as 'holds', a new run says 'partly'", lambda: B().ran(claims=[record('halves/half', verdict='partly'), record('halves/not')])),
    ('same_claims', 'a new run gives 0.9', lambda: B().ran(claims=[record('halves/half', quantities=[dict(name='', mean=.9, lo=.8, hi=1, n=3)]), record('halves/not')])),
    ('same_claims', 'not in a new run', lambda: B().ran(claims=[record('halves/half')])),
    ('same_claims', 'is not in the stored outputs', lambda: B().ran(claims=RUN['claims'] + [record('halves/more')])),
    ('explore', 'no explore(...)', lambda: B().put(13, 'print(1)', [said('1\n')])),
    ('explore', 'has no stored output', lambda: B().put(13, outputs=[said('Explorer()')])),
    ('explore', 'what to try', lambda: B().drop(14)),
    ('live_names', 'reads `size`, which cell 14 binds again', lambda: B().swap(13, "explore(lambda x: x,", "size = 2\ndef grow(x): return size*x\ndef picture(x): return grow(x)\nexplore(picture,").add(14, code('size = 3'))),
    ('alt_text', 'has no alt text', lambda: B().swap(13, "alt='A line', ", '')),
    ('alt_text', 'has no alt text', lambda: B().add(12, code('from courselib.plots import show\nshow(fig)', said('x')))),
    ('exercises', '1 exercises', lambda: B().drop(19, 20)),
    ('exercises', 'no rebuild(...)', lambda: B().drop(16, 17, 18)),
    ('exercises', 'plants 1 wrong answers', lambda: B().swap(16, ", 'kept': (lambda x: x, 'nothing done')", '')),
    ('exercises', 'no cell in which the reader calls ex.check', lambda: B().drop(17)),
    ('exercises', 'blank body', lambda: B().swap(17, '...  # your turn', 'return x/2')),
    ('solutions', 'no solution cell that ends with ex.prove', lambda: B().drop(18)),
    ('solutions', "does not begin with '# Solution'", lambda: B().swap(18, '# Solution\n', '')),
    ('solutions', 'is not folded', lambda: B().put(18, tags=['hide-input'])),
    ('flags', "which the course does not use", lambda: B().swap(7, 'assert', '#| eval: false\nassert')),
    ('flags', 'CI does not run its measure', lambda: B().swap(10, 'halves =', '#| slow\nhalves =')),
    ('flags', "does not stand under 'On the GPU'", lambda: B().swap(7, 'assert', '#| cuda\nassert')),
    ('network', 'imports urllib.request', lambda: B().add(6, code('import urllib.request'))),
    ('network', 'imports requests', lambda: B().add(6, code('from requests import get'))),
    ('network', 'has the address', lambda: B().add(6, code("load('https://example.org/x.pt')"))),
    ('network', 'runs `!pip install', lambda: B().add(6, code('!pip install nothing'))),
    ('environment', 'looks at the environment', lambda: B().add(6, code("import os\nif os.environ.get('CI'): steps = 1"))),
    ('environment', 'looks at the environment', lambda: B().add(6, code('from os import getenv\nfast = getenv("CI")'))),
    ('run_time', 'takes 31.0 s', lambda: B().ran(cpu=31.)),
    ('run_time', 'does not run: ZeroDivisionError', lambda: B().ran(ok=False, error='cell 3\nZeroDivisionError: division by zero')),
    ('size', 'at most 300', lambda: B().put(13, outputs=[display(**{'text/html': WIDGET + 'x'*300_000})])),
    ('outputs', 'cell 17 shows something (check)', lambda: B().put(17, outputs=[])),
    ('outputs', 'no record of it is stored', lambda: B().put(11, outputs=[said('a claim')])),
    ('clean_outputs', 'stores a traceback', lambda: B().put(7, outputs=[dict(output_type='error', ename='ValueError', evalue='bad', traceback=[])])),
    ('clean_outputs', 'text on stderr', lambda: B().put(7, outputs=[dict(output_type='stream', name='stderr', text='oh')])),
    ('clean_outputs', 'a path of one machine', lambda: B().put(7, outputs=[said('saved in /home/me/x.pt\n')])),
    ('clean_outputs', 'a warning: UserWarning', lambda: B().put(7, outputs=[said('UserWarning: careful\n')])),
    ('clean_outputs', 'address of an object', lambda: B().put(7, outputs=[said('<object at 0x7f00aa00bb00>')])),
    ('clean_outputs', 'a progress bar', lambda: B().put(7, outputs=[said(' 40%|####      | 4/10')])),
    ('clean_outputs', 'execution count', lambda: [b := B(), b.cells[7].update(execution_count=3)][0]),
    ('clean_outputs', "metadata 'scrolled'", lambda: B().put(7, scrolled=True)),
]


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    "Writes a chapter into a project of its own and opens it, with `run` as its test run's record."
    def make(cells=None, run=RUN):
        monkeypatch.setattr(contract, 'run_record', lambda nb: run)
        return Notebook(project(tmp_path, cells), tmp_path)
    return make


def test_the_good_chapter_keeps_every_rule(chapter):
    assert contract.check(chapter()) == []


@pytest.mark.parametrize('rule, says, broken', [pytest.param(*b, id=f'{b[0]}-{i}') for i, b in enumerate(BREAKS)])
def test_a_broken_chapter_is_caught(chapter, rule, says, broken):
    b = broken()
    problems = contract.check(chapter(b.cells, b.run), only={rule})
    assert problems and all(p.startswith(f'{PATH.removeprefix("nbs/")}: {rule}: ') for p in problems), problems
    assert any(says in p for p in problems), problems


def test_every_rule_is_shown_to_catch_something():
    assert {b[0] for b in BREAKS} == set(contract.RULES)


def test_what_may_look_wrong_is_accepted(chapter):
    "An assertion that says where an error should have come, a kernel without type hints, a plain parameter without a comment."
    b = B().add(6, code('try: halve(None)\nexcept TypeError: pass\nelse: assert False')).add(7, code('#| export\n@jit\ndef kernel(x_ptr, N):\n    "Copies."\n    return x_ptr')).add(8, code(
        '#| export\ndef named(n: int, title: str|None=None) -> int:\n    "n."\n    return n')).add(9, code('assert kernel and named'))
    assert contract.check(chapter(b.cells), only={'assertions', 'docs'}) == []


def test_a_bench_and_core_keep_the_direction(tmp_path, chapter):
    "core <- bench <- chapters."
    from good_chapter import write
    chapter()
    for where, source, says in (('09_continual/00_bench', 'from courselib.continual.halves import halve', 'a bench does not build on chapters'),
                                ('00_core/01_data', 'from courselib.continual.bench import x', 'core does not build on a part')):
        p = tmp_path/'nbs'/f'{where}.ipynb'
        write(p, [code('#| default_exp x'), md('# x\n> y'), code(source)])
        assert says in contract.check(Notebook(p, tmp_path), only={'dependencies'})[0]
