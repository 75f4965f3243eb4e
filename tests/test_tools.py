"""The tools: the notebook runner and its records, the export, README, finding and running a chapter."""
import json, os, shutil, subprocess, sys
from pathlib import Path

import pytest

import course, export, readme
from course import ROOT, Notebook
from good_chapter import code, md, said, write


@pytest.fixture
def small(tmp_path) -> Path:
    "A project of its own: the tools, settings, an almost empty library, no notebooks yet."
    for f in ('course', 'test_notebooks', 'export', 'readme', 'chapter'):
        (tmp_path/'tools').mkdir(exist_ok=True)
        shutil.copy(ROOT/'tools'/f'{f}.py', tmp_path/'tools')
    (tmp_path/'tools'/'site').mkdir()
    shutil.copy(ROOT/'tools'/'site'/'parts.py', tmp_path/'tools'/'site')
    for f in ('settings.ini', 'pyproject.toml', 'courselib/__init__.py'):
        (tmp_path/f).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT/f, tmp_path/f)
    (tmp_path/'nbs').mkdir()
    return tmp_path


def call(root, tool, *args):
    env = dict(os.environ, PYTHONPATH=str(root), HOME=str(root/'home'))
    return subprocess.run([sys.executable, root/'tools'/f'{tool}.py', *map(str, args)], cwd=root, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def put(root, name, *cells): write(root/'nbs'/f'{name}.ipynb', cells)


# ---- the runner -------------------------------------------------------------------------------------------------------

CLAIM = "from IPython.display import display\ndisplay({'application/vnd.courselib.claim+json': dict(id='a/b', verdict='holds', mean=.5, n=3), 'text/plain': 'x'}, raw=True)"


def test_runner(small):
    "Good, failing, crashing, hanging and leaking notebooks, told apart; one process each; records kept."
    put(small, '01_part/01_good', code('#| default_exp part.good'), md('# Good\n> It runs.'), code(CLAIM), code('#| slow\n1/0'), code('#| eval: false\n1/0'),
        code('import os, sys\nassert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["COURSELIB_WIDGETS"] == "frozen"\nsys.modules["leak"] = 1'))
    put(small, '01_part/02_alone', code('import sys\nassert "leak" not in sys.modules\nimport torch; torch.set_default_dtype(torch.float64)'))
    put(small, '01_part/03_bad', md('# Bad'), code('def f(x): return x.nothing\nx = 3\nassert f(x) == 2, "never"'))
    put(small, '01_part/04_crash', code('import os\nos.kill(os.getpid(), 9)'))
    put(small, '01_part/05_hangs', code('import time\ntime.sleep(60)'))
    put(small, '01_part/_draft', code('1/0'))
    result = call(small, 'test_notebooks', '--timeout', 8)
    out = result.stdout
    assert result.returncode == 1 and 'Traceback' not in result.stderr, out + result.stderr
    assert 'running 5 notebooks, 2 at a time' in out and 'notebooks: 2 passed, 3 failed' in out
    assert 'nbs/01_part/03_bad.ipynb, cell 1' in out and '>   3 assert f(x) == 2' in out and "AttributeError: 'int' object has no attribute 'nothing'" in out
    assert 'execnb' not in out and 'IPython' not in out
    assert '04_crash.ipynb\nits process died (exit status -9)' in out
    assert '05_hangs.ipynb\nstopped after 8 s' in out
    assert 'slowest (CPU seconds): ' in out
    rec = json.loads((small/'.cache'/'runs'/'01_part.01_good.ipynb.json').read_text())
    assert rec['ok'] and rec['cpu'] > 0 and [c['id'] for c in rec['claims']] == ['a/b']


def test_runner_flags_and_choice(small):
    put(small, '01_part/01_good', code('#| cuda\n1/0'))
    put(small, '01_part/02_plain', code('1'))
    assert 'running 1 notebooks' in call(small, 'test_notebooks', 'part/good').stdout
    result = call(small, 'test_notebooks', '--flags', 'cuda', '--containing', 'cuda')
    assert 'running 1 notebooks' in result.stdout and 'ZeroDivisionError' in result.stdout
    assert not (small/'.cache'/'runs'/'01_part.02_plain.ipynb.json').exists()
    assert call(small, 'test_notebooks', '--containing', 'slow').stdout == '0 notebooks to run with a cell marked slow\n'
    assert "no chapter 'nope'" in call(small, 'test_notebooks', 'nope').stderr


def test_record_is_good_for_one_version_of_the_code(small, monkeypatch):
    "Changed code in the notebook or in a module it uses, directly or not, asks for a new run; changed prose does not."
    import test_notebooks as runner
    (small/'courselib'/'deep.py').write_text('x = 1')
    (small/'courselib'/'mid.py').write_text('from .deep import x')
    (small/'courselib'/'other.py').write_text('y = 1')
    path = small/'nbs'/'01_part'/'01_a.ipynb'
    monkeypatch.setattr(runner, 'ROOT', small)
    monkeypatch.setattr(runner.module_files, '__defaults__', (None, small/'courselib'))
    monkeypatch.setattr(course.Notebook.__init__, '__defaults__', (small,))

    def mark(prose='# A', source='from courselib.mid import x'):
        runner._imports.cache_clear()
        put(small, '01_part/01_a', md(prose), code(source))
        return runner.fingerprint(path)
    first = mark()
    assert mark(prose='# B') == first and mark(source='from courselib.mid import x as z') != first
    (small/'courselib'/'other.py').write_text('y = 2')
    assert mark() == first
    (small/'courselib'/'deep.py').write_text('x = 2')
    assert mark() != first


# ---- export and README ------------------------------------------------------------------------------------------------

CHAPTER = [code('#| default_exp continual.halves'), md('# Halves | more\n> Half of it.\n\n- paper: On halves\n- authors: A\n- year: 2023\n- arxiv: 2301.00001\n- level: core\n- needs: continual.bench'),
           code('#| export\ndef halve(x): return x/2')]
BENCH = [code('#| default_exp continual.bench'), md('# bench\n> Streams and learners.'), code('#| export\ndef double(x): return 2*x')]
INDEX = [md('# courselib\n\n[this](09_continual/01_halves.ipynb), [that](../LICENSE), ![x](../images/x.png), [web](https://example.org), [below](#use)\n\n<!-- chapters -->\n<!-- /chapters -->'),
         code('print(1 + 1)', said('2\n')), code('#| hide\nassert 1')]


@pytest.fixture
def full(small):
    put(small, '09_continual/00_bench', *BENCH); put(small, '09_continual/01_halves', *CHAPTER); put(small, 'index', *INDEX)
    return small


def test_export_writes_and_then_is_in_step(full):
    assert call(full, 'export', '--check').returncode == 1
    assert call(full, 'export').returncode == 0
    assert 'def halve' in (full/'courselib'/'continual'/'halves.py').read_text()
    assert 'courselib.continual.halves' in (full/'courselib'/'_modidx.py').read_text()
    result = call(full, 'export', '--check')
    assert result.returncode == 0 and 'in step' in result.stdout, result.stderr


def test_export_makes_lazy_parts(full):
    call(full, 'export')
    src = 'import sys, courselib; assert "courselib.continual" not in sys.modules; print(courselib.continual.halves.halve(3), dir(courselib.continual)); import courselib.continual.bench'
    out = subprocess.run([sys.executable, '-c', src], cwd=full, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(full)))
    assert out.stdout == "1.5 ['bench', 'halves']\n", out.stderr


@pytest.mark.parametrize('change, says', [
    (lambda r: put(r, '09_continual/01_halves', *CHAPTER[:2], code('#| export\ndef halve(x): return x*.5')), "courselib/continual/halves.py differs: the notebook"),
    (lambda r: (r/'courselib'/'continual'/'halves.py').unlink(), 'courselib/continual/halves.py is missing'),
    (lambda r: (r/'nbs'/'09_continual'/'01_halves.ipynb').unlink(), 'courselib/continual/halves.py is left over'),
    (lambda r: put(r, '09_continual/01_halves', CHAPTER[0], md(CHAPTER[1]['source'].replace('Half of it', 'A half')), CHAPTER[2]), 'table of chapters is out of date'),
    (lambda r: put(r, 'index', md('# New'), *INDEX[1:]), 'README.md differs'),
])
def test_export_check_says_what_is_out_of_step(full, change, says):
    call(full, 'export')
    change(full)
    before = {p: p.read_bytes() for p in full.rglob('*') if p.is_file() and '__pycache__' not in p.parts}
    result = call(full, 'export', '--check')
    assert result.returncode == 1 and says in result.stderr and 'make export' in result.stderr, result.stderr
    assert before == {p: p.read_bytes() for p in full.rglob('*') if p.is_file() and '__pycache__' not in p.parts}, '--check changed something'
    assert call(full, 'export').returncode == 0 and call(full, 'export', '--check').returncode == 0


def test_readme(full):
    call(full, 'export')
    out = (full/'README.md').read_text()
    assert '[this](nbs/09_continual/01_halves.ipynb), [that](LICENSE), ![x](images/x.png), [web](https://example.org), [below](#use)' in out
    assert '| [Halves \\| more](nbs/09_continual/01_halves.ipynb) | Half of it. | [On halves (2023)](https://arxiv.org/abs/2301.00001) | core |' in out
    assert '**Continual learning** · [bench](nbs/09_continual/00_bench.ipynb): Streams and learners' in out
    assert '```python\nprint(1 + 1)\n```\n\n```text\n2\n```' in out and 'assert 1' not in out
    index = Notebook(full/'nbs'/'index.ipynb', full)
    assert '[Halves \\| more](09_continual/01_halves.ipynb)' in index.cells[0].source


def test_links_of_readme_and_contributing_exist():
    "Pictures too: each is made by a command and committed."
    import re
    for name in ('README.md', 'CONTRIBUTING.md'):
        src = re.sub(r'```.*?```', '', (ROOT/name).read_text(), flags=re.S)
        for target in re.findall(r'\]\(([^)\s#]+)', src):
            if not re.match(r'[a-z]+:', target): assert (ROOT/target).exists(), f'{name} links to {target}, which is not there'


# ---- finding and running a chapter ------------------------------------------------------------------------------------

def test_find(full):
    for name in ('continual/halves', 'halves', '09_continual/01_halves', 'nbs/09_continual/01_halves.ipynb', '09_continual/01_halves.ipynb', str(full/'nbs/09_continual/01_halves.ipynb')):
        assert course.find(name, full) == full/'nbs'/'09_continual'/'01_halves.ipynb', name
    put(full, '08_shift/01_halves', *CHAPTER)
    with pytest.raises(ValueError, match='names 2 notebooks'): course.find('halves', full)
    with pytest.raises(ValueError, match='there are: .*continual/halves'): course.find('nothing', full)
    with pytest.raises(ValueError, match='which chapter'): course.find('', full)


def test_chapter_stores_outputs(small):
    put(small, '01_part/01_a', md('# A\n> a'), code('x = 20'), code('print(x + 1)'), code('#| slow\n1/0'), code('#| eval: false\n1/0'))
    result = call(small, 'chapter', 'part/a')
    assert result.returncode == 0 and '3/3 cells' not in result.stderr and '2/2 cells' in result.stderr, result.stderr
    nb = Notebook(small/'nbs'/'01_part'/'01_a.ipynb', small)
    assert nb.cells[2].outputs[0]['text'] in ('21\n', ['21\n'])
    assert all(c.raw['execution_count'] is None and c.metadata == {} for c in nb.code)
    assert '2 cells in' in result.stdout


def test_chapter_that_fails_keeps_what_is_stored(small):
    put(small, '01_part/01_a', code('print(1)', said('old\n')), code('1/0'))
    before = (small/'nbs'/'01_part'/'01_a.ipynb').read_bytes()
    result = call(small, 'chapter', 'part/a')
    assert result.returncode == 1 and 'ZeroDivisionError' in result.stderr and 'outputs are as they were' in result.stderr
    assert (small/'nbs'/'01_part'/'01_a.ipynb').read_bytes() == before
    assert not list((small/'nbs'/'01_part').glob('.*'))


def test_chapter_without_a_name(small):
    result = call(small, 'chapter', '')
    assert result.returncode == 1 and 'which chapter? Expected part/slug' in result.stderr and 'Traceback' not in result.stderr


def test_an_older_driver_in_stored_outputs_is_renewed(tmp_path):
    from courselib.explore import driver
    page = lambda js: f'<div class="courselib-widget"><script class="cl-driver">{js}</script></div>\n<p>kept</p>'
    write(tmp_path/'a.ipynb', [code('explore(f)', dict(output_type='display_data', data={'text/html': page('old();')}, metadata={}))])
    old, new = export.stored_drivers(tmp_path/'a.ipynb')
    out = lambda text: ''.join(json.loads(text)['cells'][0]['outputs'][0]['data']['text/html'])
    assert out(old) == page('old();') and out(new) == page(driver())
    (tmp_path/'a.ipynb').write_text(new, encoding='utf-8')
    assert len(set(export.stored_drivers(tmp_path/'a.ipynb'))) == 1
