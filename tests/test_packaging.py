"""The wheel: built from this tree, installed in an environment of its own that holds only what the library asks for, used from another folder."""
import os, subprocess, sys, venv, zipfile
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest

from course import ROOT

DEV = ('nbdev', 'pytest', 'jupyterlab', 'IPython', 'ipywidgets', 'sphinx', 'triton')   # the library must not need them


def run(python, code, cwd, **env):
    "Run `code` in a clean environment; its standard output."
    keep = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'COURSELIB', 'VIRTUAL_ENV'))}
    result = subprocess.run([python, '-c', code], cwd=cwd, env=keep | dict(OMP_NUM_THREADS='1') | env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    "The wheel, built from a copy of the tracked and new files, so that no build folder is left here."
    tmp = tmp_path_factory.mktemp('wheel')
    files = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True).stdout.split('\0')
    for f in filter(None, files):
        if f.startswith(('courselib/', 'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md', 'constraints.txt')) and (ROOT/f).is_file():
            (tmp/'src'/f).parent.mkdir(parents=True, exist_ok=True)
            (tmp/'src'/f).write_bytes((ROOT/f).read_bytes())
    built = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', tmp/'dist', tmp/'src'], capture_output=True, text=True)   # an sdist, and the wheel from it
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    found, = (tmp/'dist').glob('*.whl')
    return found


def closure(names) -> set[str]:
    "Installed distributions that `names` need, with what those need."
    from packaging.requirements import Requirement
    seen, todo = set(), [(Requirement(n), '') for n in names]
    while todo:
        req, extra = todo.pop()
        if req.marker and not req.marker.evaluate(dict(extra=extra)): continue
        name = req.name.lower().replace('_', '-')
        try: dist = metadata.distribution(req.name)
        except metadata.PackageNotFoundError: continue
        more = [(Requirement(r), e) for r in dist.requires or [] for e in (*req.extras, '')]
        if name not in seen: seen.add(name); todo += more
    return seen


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory) -> Path:
    "A Python with the wheel, and links to the installed copies of its requirements (torch is heavy); nothing else."
    tmp = tmp_path_factory.mktemp('env')
    venv.create(tmp/'venv', with_pip=False, symlinks=True)
    exe = tmp/'venv'/'bin'/'python'
    site = Path(run(exe, 'import sysconfig; print(sysconfig.get_path("purelib"))', tmp))
    subprocess.run([sys.executable, '-m', 'pip', '--python', exe, 'install', '--no-deps', '--no-index', '-q', wheel], check=True, stdout=subprocess.DEVNULL)
    need = [line for line in run(exe, 'from importlib import metadata; print("\\n".join(metadata.requires("courselib")))', tmp).splitlines() if 'extra' not in line]
    for name in closure(need):
        dist = metadata.distribution(name)
        base = Path(dist.locate_file(''))
        for top in {f.parts[0] for f in dist.files or [] if f.parts[0] not in ('..', '__pycache__')}:
            if not (site/top).exists() and (base/top).exists(): (site/top).symlink_to(base/top)
    return exe


@pytest.fixture
def away(tmp_path) -> Path:
    "A folder that is not the project's."
    return tmp_path


def settings():
    cfg = ConfigParser(interpolation=None, delimiters=['='])
    cfg.read(ROOT/'settings.ini')
    return cfg['DEFAULT']


def test_wheel_holds_library_and_assets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = {p.relative_to(ROOT).as_posix() for p in (ROOT/'courselib').rglob('*') if p.is_file() and not {'__pycache__', '.ipynb_checkpoints'} & set(p.parts)}
    assert not tracked - names, f'missing in the wheel: {sorted(tracked - names)}'
    assert {n.split('/')[0] for n in names} == {'courselib', f'courselib-{settings()["version"]}.dist-info'}
    assert any(n.endswith('licenses/LICENSE') for n in names)


def test_metadata_comes_from_settings(wheel):
    cfg = settings()
    with zipfile.ZipFile(wheel) as z: text = z.read(next(n for n in z.namelist() if n.endswith('METADATA'))).decode()
    for line in ('Name: courselib', f"Version: {cfg['version']}", f"Summary: {cfg['description']}", 'License-Expression: Apache-2.0',
                 f"Requires-Python: >={cfg['min_python']}", 'Provides-Extra: lab', 'Provides-Extra: dev'): assert line in text or line.replace('-Expression', '') in text, line
    alone = [line for line in text.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert len(alone) == len(cfg['requirements'].split()) and not any('jupyter' in line for line in alone)


def test_library_comes_from_the_wheel(python, away):
    assert run(python, 'import courselib; print(courselib.__file__)', away).startswith(str(python.parent.parent))


def test_versions_agree(python, away):
    assert run(python, 'import courselib; from importlib import metadata; print(courselib.__version__ == metadata.version("courselib"))', away) == 'True'


def test_import_is_quick_and_without_torch(python, away):
    code = 'import sys, time; t = time.perf_counter(); import courselib; print(time.perf_counter() - t, "torch" in sys.modules, "numpy" in sys.modules)'
    took, torch, numpy = min(run(python, code, away).split() for _ in range(3))
    assert torch == numpy == 'False'
    assert float(took) < .2


def test_submodules_are_found_when_used(python, away):
    assert run(python, 'import sys, courselib; f = courselib.models.mlp; print("torch" in sys.modules, "data" in dir(courselib))', away) == 'True True'
    assert "has no attribute 'nothing'; its modules are: " in run(python, 'import courselib\ntry: courselib.nothing\nexcept AttributeError as e: print(e)', away)


def test_no_other_package_is_needed(python, away):
    "Every module of the library imports with its declared requirements alone: no nbdev, no Jupyter, no triton."
    code = f'''
import importlib, importlib.util, pkgutil, courselib
print([n for n in {DEV} if importlib.util.find_spec(n)])
for m in pkgutil.walk_packages(courselib.__path__, 'courselib.'): importlib.import_module(m.name)
'''
    assert run(python, code, away) == '[]'


def test_bundled_data(python, away):
    code = 'from courselib.data import fashion, digits; a, b = fashion(), fashion("test"); print(tuple(a.x.shape), len(b), len(digits()))'
    assert run(python, code, away) == '(10000, 1, 28, 28) 2000 1797'


@pytest.mark.skipif(not (ROOT/'courselib'/'zoo.py').exists(), reason='the library has no zoo yet')
def test_bundled_weights(python, away):
    code = 'from courselib import zoo; print(*[f"{n}:{sum(p.numel() for p in zoo.load(n).parameters()) > 0}" for n in zoo.names()])'
    out = run(python, code, away).split()
    assert out and all(o.endswith(':True') for o in out)


def test_readme_code_runs_as_a_library(python, away):
    "The first lines that a reader copies."
    import re
    blocks = re.findall(r'```python\n(.*?)```', (ROOT/'README.md').read_text(), re.S)
    assert blocks
    run(python, '\n'.join(blocks), away)
