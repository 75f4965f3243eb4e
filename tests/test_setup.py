"""Set-up in a fresh clone: what it does once, what it says when it cannot. tools/setup.py, the Makefile, .ci/run, git hooks."""
import ast, importlib.util, json, os, re, shutil, subprocess, sys, time
from pathlib import Path

import pytest

from course import ROOT

FILES = ('Makefile', 'settings.ini', 'constraints.txt', 'setup.py', 'pyproject.toml', 'tools/setup.py')


def load():
    spec = importlib.util.spec_from_file_location('course_setup', ROOT/'tools'/'setup.py')
    spec.loader.exec_module(mod := importlib.util.module_from_spec(spec))
    return mod


S = load()


@pytest.fixture
def clone(tmp_path) -> Path:
    "The files that set-up needs, in a folder of their own."
    for f in FILES:
        (tmp_path/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/f, tmp_path/f)
    return tmp_path


def fake_python(folder: Path, before: str) -> Path:
    "A Python that runs `before` first: an old one, one without venv, ..."
    path = folder/'fake-python'
    path.write_text(f'#!{sys.executable}\nimport runpy, sys\n{before}\nsys.argv = sys.argv[1:]\nsys.path[0] = "tools"\nrunpy.run_path(sys.argv[0], run_name="__main__")\n')
    path.chmod(0o755)
    return path


def make(folder, *args, **env):
    "make, with this shell's pip settings left out where `env` says so."
    base = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}
    return subprocess.run(['make', '--no-print-directory', *args], cwd=folder, env=base | env, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def complaint(result) -> str:
    "The one line that says what is wrong."
    assert result.returncode != 0, result.stdout
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith('courselib: ') and not re.match(r'courselib: (making|installing)', line)]
    assert len(lines) == 1, result.stdout + result.stderr
    assert 'Traceback' not in result.stdout + result.stderr
    return lines[0]


# ---- what can go wrong ------------------------------------------------------------------------------------------------

def test_an_old_python_gets_as_far_as_the_message():
    ast.parse((ROOT/'tools'/'setup.py').read_text(), feature_version=(3, 6))


def test_old_python(clone):
    fake = fake_python(clone, 'sys.version_info = (3, 8, 10, "final", 0)')
    line = complaint(make(clone, 'setup', f'PYTHON={fake}'))
    assert 'Python 3.8 is too old, the course needs 3.10 or newer' in line and 'make PYTHON=' in line


def test_old_python_names_a_newer_one():
    with pytest.raises(S.Problem, match='use the one you have: make PYTHON=python3.12'): S.check_python((3, 10), (3, 9), ['python3.12'])
    with pytest.raises(S.Problem, match='install a newer one'): S.check_python((3, 10), (3, 9), [])
    S.check_python((3, 10), (3, 10)); S.check_python((3, 10), (3, 14))


def test_no_python(clone):
    assert 'no no-such-python on the path' in complaint(make(clone, 'setup', 'PYTHON=no-such-python'))


def test_no_venv_module(clone):
    fake = fake_python(clone, 'sys.modules["ensurepip"] = None')
    assert 'has no venv module; on Debian or Ubuntu: sudo apt install python3' in complaint(make(clone, 'setup', f'PYTHON={fake}'))


def test_full_disk(clone):
    fake = fake_python(clone, 'import shutil; shutil.disk_usage = lambda p: __import__("types").SimpleNamespace(free=1.2e9)')
    line = complaint(make(clone, 'setup', f'PYTHON={fake}'))
    assert '1.2 GB free' in line and 'need about' in line and 'make room' in line


def test_no_network(clone):
    "pip against a closed port: the last line says what to check, and no stamp is left."
    env = dict(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL='http://127.0.0.1:9/simple', PIP_RETRIES='0', PIP_EXTRA_INDEX_URL='', PIP_FIND_LINKS='', PIP_CONSTRAINT='')
    result = make(clone, 'setup', f'PYTHON={sys.executable}', **env)
    line = complaint(result)
    assert 'the package registry was not reached' in line and 'run the same command again' in line
    assert not list((clone/'.venv').glob('.stamp*'))


def test_pip_failures_are_told_apart():
    assert 'disk is full' in S.why_pip_failed('ERROR: [Errno 28] No space left on device')
    assert 'not reached' in S.why_pip_failed('ERROR: No matching distribution found for torch')
    assert 'messages are above' in S.why_pip_failed('ERROR: Failed building wheel')


# ---- what it does, once -----------------------------------------------------------------------------------------------

def recorder(root, calls):
    "A runner that only notes the commands; a new venv gets its folder."
    def run(cmd, **kw):
        calls.append([str(c) for c in cmd])
        if 'venv' in cmd: Path(cmd[-1]).mkdir(parents=True, exist_ok=True)
        return 0
    return run


def test_commands(clone, monkeypatch):
    calls = []
    monkeypatch.setattr(S, 'torch_args', lambda python: [])
    S.setup(str(clone), str(clone/'.venv'/'.stamp-1'), recorder(clone, calls))
    venv, pip = calls
    assert venv[1:] == ['-m', 'venv', '--clear', str(clone/'.venv')]
    assert pip[0] == str(clone/'.venv'/'bin'/'python') and pip[1:4] == ['-m', 'pip', 'install'] and '.[lab,dev]' in pip and pip[pip.index('-c') + 1] == 'constraints.txt'
    assert (clone/'.venv'/'.stamp-1').exists()


def test_a_moved_clone_gets_a_new_venv(clone, monkeypatch):
    monkeypatch.setattr(S, 'torch_args', lambda python: [])
    (clone/'.venv'/'bin').mkdir(parents=True)
    (clone/'.venv'/'bin'/'python').symlink_to(sys.executable)
    (clone/'.venv'/'made-in').write_text(str(clone))
    assert S.venv_works(str(clone))
    (clone/'.venv'/'made-in').write_text('/somewhere/else')
    assert not S.venv_works(str(clone))


def test_second_call_does_nothing(clone):
    "make runs the set-up again only when what it depends on is newer than its stamp."
    count = clone/'count'
    fake = clone/'fake-python'
    fake.write_text(f'#!/bin/sh\necho x >> {count}\nmkdir -p .venv\ntouch "$3"\n')
    fake.chmod(0o755)
    setup = lambda: make(clone, 'setup', f'PYTHON={fake}').returncode
    assert setup() == 0 and setup() == 0
    assert count.read_text().count('x') == 1
    for f in FILES[1:5]:
        before = count.read_text().count('x')
        future = time.time() + 5
        os.utime(clone/f, (future, future))
        assert setup() == 0 and count.read_text().count('x') == before + 1, f
        os.utime(clone/f, (1, 1))
        assert setup() == 0 and count.read_text().count('x') == before + 1, f


def test_every_command_sets_up_first(clone):
    for target in ('lab', 'test', 'docs', 'chapter', 'check', 'test-cuda', 'export'):
        out = make(clone, '-n', target, f'PYTHON={sys.executable}').stdout
        assert out.index('tools/setup.py --stamp') < re.search(r'^\.venv/bin/python', out, re.M).start(), target
    for target in ('help', 'clean'): assert 'tools/setup.py' not in make(clone, '-n', target).stdout, target


def test_help_is_the_default_and_names_every_command(clone):
    out = make(clone).stdout
    assert out == make(clone, 'help').stdout
    for target in ('lab', 'chapter', 'test', 'docs', 'test-cuda', 'clean', 'export', 'check'): assert re.search(rf'^  make {target}\b', out, re.M), target


def test_lab_opens_the_first_page_with_extra_arguments(clone):
    out = make(clone, '-n', 'lab', 'LAB_ARGS=--no-browser --port 8899').stdout
    assert re.search(r'jupyterlab --LabApp.default_url=/lab/tree/nbs/index.ipynb.*--no-browser --port 8899', out) and 'setup.py --hooks' in out


def test_ci_does_not_install_hooks(clone):
    assert '--hooks' not in make(clone, '-n', 'test').stdout


def test_tests_run_with_one_thread(clone):
    (clone/'show').write_text('#!/bin/sh\necho threads=$OMP_NUM_THREADS $1\n')
    (clone/'show').chmod(0o755)
    (clone/'done').touch()
    for target in ('test', 'chapter', 'docs'):
        out = make(clone, target, 'STAMP=done', 'PY=./show', OMP_NUM_THREADS='7').stdout
        assert 'threads=1 ' in out and 'threads=7' not in out, target


def test_ci_script():
    "It installs what a bare machine lacks, without a terminal, and runs `make test`."
    script = ROOT/'.ci'/'run'
    assert subprocess.run(['bash', '-n', script]).returncode == 0
    src = script.read_text()
    assert src.rstrip().endswith('make test') and src.index('apt-get update') < src.index('apt-get install') and 'set -euo pipefail' in src


@pytest.mark.parametrize('there, installs', [((), 'update -qq|install -y -qq --no-install-recommends make git chromium fonts-dejavu-core'), (('make', 'git', 'chromium'), ''),
                                             (('make', 'git', 'google-chrome'), ''), (('make', 'git'), 'update -qq|install -y -qq --no-install-recommends chromium fonts-dejavu-core')])
def test_ci_installs_what_is_missing(tmp_path, there, installs):
    "With a path on which only `there` is found, and an apt-get that notes what it is asked for."
    bin, log = tmp_path/'bin', tmp_path/'log'
    bin.mkdir(); (tmp_path/'.ci').mkdir()
    shutil.copy(ROOT/'.ci'/'run', tmp_path/'.ci')
    log.write_text('')
    for tool in ('bash', 'dirname', 'tail', 'cat', 'sh'): (bin/tool).symlink_to(shutil.which(tool))
    stub = lambda name, body: ((bin/name).write_text(f'#!/bin/sh\n{body}\n'), (bin/name).chmod(0o755))
    stub('python3', 'exit 0')
    stub('apt-get', f'echo "$@" >> {log}; for w in "$@"; do case $w in make) printf "#!/bin/sh\\necho made \\$1\\n" > {bin}/make; /bin/chmod +x {bin}/make;; esac; done')
    for tool in there: stub(tool, 'echo made $1')
    result = subprocess.run(['bash', '.ci/run'], cwd=tmp_path, env=dict(PATH=str(bin), CI='true'), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0 and result.stdout.rstrip().endswith('made test'), result.stdout + result.stderr
    assert log.read_text().strip().replace('\n', '|') == installs


# ---- CPU builds of torch ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('linux, gpu, own, reached, added', [(1, 0, 0, 1, True), (0, 0, 0, 1, False), (1, 1, 0, 1, False), (1, 0, 1, 1, False), (1, 0, 0, 0, False)])
def test_cpu_builds_of_torch_where_they_help(monkeypatch, linux, gpu, own, reached, added):
    monkeypatch.setattr(S.sys, 'platform', 'linux' if linux else 'darwin')
    monkeypatch.setattr(S, 'has_gpu', lambda: bool(gpu))
    monkeypatch.setattr(S, 'own_index', lambda python: bool(own))
    monkeypatch.setattr(S, 'reachable', lambda url, timeout=5: bool(reached))
    assert S.torch_args('python') == (['--extra-index-url', S.CPU_TORCH] if added else [])


def test_own_index_is_respected(monkeypatch):
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1/simple')
    assert S.own_index(sys.executable)


# ---- pins -------------------------------------------------------------------------------------------------------------

def pins() -> dict[str, list[str]]:
    found = {}
    for line in (ROOT/'constraints.txt').read_text().splitlines():
        if m := re.match(r'([\w.-]+)==([\w.]+)(.*)', line): found.setdefault(m[1].lower().replace('_', '-'), []).append(m[2] + m[3])
        else: assert not line or line[0] == '#', line
    return found


def test_everything_asked_for_is_pinned():
    spec = importlib.util.spec_from_file_location('course_pins', ROOT/'tools'/'pins.py')
    spec.loader.exec_module(mod := importlib.util.module_from_spec(spec))
    asked = {re.match(r'[\w-]+', r)[0].lower() for r in mod.requirements()}
    assert not asked - set(pins())


def test_pins_fit_cpu_and_cuda_builds():
    found = pins()
    assert found['torch'] == ['2.13.0'], 'a local version such as +cpu would leave out the CUDA builds'
    assert not [n for n in found if n.startswith(('nvidia-', 'cuda-'))], 'a CUDA build of torch pins its own'


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13'])
@pytest.mark.parametrize('system', ['linux', 'darwin'])
def test_one_pin_a_package_for_each_python(python, system):
    from packaging.markers import Marker
    env = dict(python_version=python, python_full_version=f'{python}.9', sys_platform=system, platform_system='Linux' if system == 'linux' else 'Darwin', os_name='posix',
               platform_machine='x86_64', implementation_name='cpython', platform_python_implementation='CPython')
    for name, versions in pins().items():
        fits = [v for v in versions if ';' not in v or Marker(v.split(';', 1)[1].strip()).evaluate(env)]
        assert len(fits) <= 1, f'{name} has several pins for Python {python} on {system}: {fits}'


# ---- git hooks --------------------------------------------------------------------------------------------------------

@pytest.fixture
def repo(tmp_path, monkeypatch):
    "A git repository with a notebook, the project's settings and, as its .venv, the tools of this environment."
    home = tmp_path/'home'
    home.mkdir()
    for k, v in dict(HOME=str(home), GIT_CONFIG_GLOBAL=str(home/'.gitconfig'), GIT_CONFIG_NOSYSTEM='1').items(): monkeypatch.setenv(k, v)
    for k in [k for k in os.environ if k.startswith(('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX'))]: monkeypatch.delenv(k)
    root = tmp_path/'repo'
    (root/'nbs').mkdir(parents=True)
    shutil.copy(ROOT/'settings.ini', root); shutil.copy(ROOT/'.gitattributes', root)
    (root/'.gitignore').write_text('.venv\n.gitconfig\n.last_checked\n')
    (root/'.venv'/'bin').mkdir(parents=True)
    for tool in ('nbdev_install_hooks', 'nbdev_merge', 'nbdev_trust'): (root/'.venv'/'bin'/tool).symlink_to(Path(sys.executable).parent/tool)
    git = lambda *a: subprocess.run(['git', *a], cwd=root, capture_output=True, text=True)
    git('init', '-q', '-b', 'main'); git('config', 'user.email', 'a@example.org'); git('config', 'user.name', 'a')
    notebook(root, ['1', '2', '3', '4', '5', '6'])
    git('add', '.'); git('commit', '-qm', 'first')
    return root, git


def notebook(root, sources):
    cells = [dict(cell_type='code', id=f'c{i}', metadata={}, execution_count=None, outputs=[], source=[s]) for i, s in enumerate(sources)]
    (root/'nbs'/'a.ipynb').write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5), indent=1) + '\n')


def diverge(root, git, ours, theirs):
    "Two branches that change the notebook; the merge of the second into the first."
    git('checkout', '-qb', 'other'); notebook(root, theirs); git('commit', '-qam', 'theirs')
    git('checkout', '-q', 'main'); notebook(root, ours); git('commit', '-qam', 'ours')
    return git('merge', 'other', '-m', 'merged')


def sources(root): return [''.join(c['source']) for c in json.loads((root/'nbs'/'a.ipynb').read_text())['cells']]


def test_hooks_leave_commits_and_the_home_folder_alone(repo, tmp_path):
    root, git = repo
    S.hooks(str(root))
    assert git('status', '--short').stdout == '', 'the hooks make the tree dirty'
    assert not (tmp_path/'home'/'.jupyter').exists(), "the reader's Jupyter settings were touched"
    notebook(root, ['1', '2', '3'])
    assert git('commit', '-qam', 'second').returncode == 0
    S.hooks(str(root))   # again: nothing to do
    assert git('status', '--short').stdout == ''


def test_merges_work(repo):
    root, git = repo
    S.hooks(str(root))
    assert diverge(root, git, ['1', '2', '3', '4', '5', 'ours'], ['theirs', '2', '3', '4', '5', '6']).returncode == 0
    assert sources(root) == ['theirs', '2', '3', '4', '5', 'ours']


def test_a_conflict_leaves_a_notebook_that_opens(repo):
    root, git = repo
    S.hooks(str(root))
    assert diverge(root, git, ['1', '2', 'ours', '4', '5', '6'], ['1', '2', 'theirs', '4', '5', '6']).returncode != 0
    assert {'ours', 'theirs'} <= set(sources(root))


def test_merges_work_without_the_environment(repo):
    root, git = repo
    S.hooks(str(root))
    shutil.rmtree(root/'.venv')
    result = diverge(root, git, ['1', '2', '3', '4', '5', 'ours'], ['theirs', '2', '3', '4', '5', '6'])
    assert result.returncode == 0 and sources(root) == ['theirs', '2', '3', '4', '5', 'ours'], result.stderr


def test_a_hook_of_ones_own_stays(repo, capsys):
    root, git = repo
    own = root/'.git'/'hooks'/'post-merge'
    own.parent.mkdir(exist_ok=True)
    own.write_text('#!/bin/sh\necho mine\n')
    S.hooks(str(root))
    assert 'echo mine' in own.read_text() and 'of your own' in capsys.readouterr().out
