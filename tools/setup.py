"""Set-up of the course in a fresh clone: a virtual environment in .venv and everything in it, under pinned versions.

    python3 tools/setup.py           what `make lab`, `make test`, ... call once, before anything else
    python3 tools/setup.py --hooks   nbdev's git hooks (called by `make lab`)

Each thing that can go wrong ends in one line that says what to do. Nothing but the standard library here, and the syntax of
Python 3.6, so that an old Python gets as far as the message.
"""
import argparse
import os
import shutil
import stat
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CPU_TORCH = 'https://download.pytorch.org/whl/cpu'


class Problem(Exception):
    "Something that the user has to put right; the text says what and how."


def min_python(root=ROOT):
    "(major, minor) of the oldest Python that settings.ini allows."
    import configparser
    cfg = configparser.ConfigParser(interpolation=None)
    cfg.read(os.path.join(root, 'settings.ini'), encoding='utf-8')
    return tuple(int(v) for v in cfg['DEFAULT']['min_python'].split('.'))


def newer_pythons(need):
    "Names of interpreters on the path that are new enough, newest first."
    return [n for n in ('python3.%d' % m for m in range(20, need[1] - 1, -1)) if shutil.which(n)]


def check_python(need, version=None, found=None):
    "Complain about a Python older than `need`."
    version = tuple(version or sys.version_info)[:2]
    if version >= need: return
    found = newer_pythons(need) if found is None else found
    hint = 'use the one you have: make PYTHON=%s ...' % found[0] if found else 'install a newer one and name it: make PYTHON=python3.12 ...'
    raise Problem('Python %d.%d is too old, the course needs %d.%d or newer; %s' % (version + need + (hint,)))


def check_venv():
    "Complain where Python came without its venv module (Debian and Ubuntu split it off)."
    try: import ensurepip, venv  # noqa
    except ImportError:
        raise Problem('this Python has no venv module; on Debian or Ubuntu: sudo apt install python%d.%d-venv' % sys.version_info[:2])


def has_gpu():
    "Is there an NVIDIA GPU whose driver runs?"
    return sys.platform == 'linux' and (os.path.exists('/proc/driver/nvidia/version') or shutil.which('nvidia-smi') is not None)


def check_disk(root=ROOT, need_gb=None):
    "Complain about a disk on which the packages have no room (a CUDA build of torch takes some 5 GB more)."
    need_gb = need_gb or (10 if has_gpu() else 4)
    free = shutil.disk_usage(root).free / 1e9
    if free < need_gb:
        raise Problem('%.1f GB free in %s, the packages need about %d GB; make room or clone to a larger disk' % (free, root, need_gb))


def venv_python(root=ROOT): return os.path.join(root, '.venv', 'bin', 'python')


def venv_works(root=ROOT):
    "Is .venv there, able to run, and not from another folder? (A moved clone keeps paths to its old place.)"
    try:
        with open(os.path.join(root, '.venv', 'made-in')) as f: here = f.read()
    except OSError: here = root
    if os.path.realpath(here) != os.path.realpath(root): return False
    try: return subprocess.call([venv_python(root), '-m', 'pip', '--version'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError: return False


def own_index(python):
    "Has the user told pip where to get packages from? Then nothing is added to it."
    try: out = subprocess.check_output([python, '-m', 'pip', 'config', 'list'], universal_newlines=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError): out = ''
    return any(w in out for w in ('index-url', 'find-links', 'no-index')) or any(
        os.environ.get(v) for v in ('PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'PIP_FIND_LINKS', 'PIP_NO_INDEX'))


def reachable(url, timeout=5):
    "Does `url` answer?"
    from urllib.request import Request, urlopen
    try: return urlopen(Request(url + '/', method='HEAD'), timeout=timeout).status < 400
    except Exception: return False


def torch_args(python):
    "Without a GPU, Linux would get torch with 3 GB of CUDA libraries: prefer PyTorch's own CPU builds, if they can be reached."
    if sys.platform != 'linux' or has_gpu() or own_index(python) or not reachable(CPU_TORCH): return []
    return ['--extra-index-url', CPU_TORCH]


def run(cmd, **kw):
    "The exit status of a command, its output shown."
    return subprocess.call(cmd, **kw)


def why_pip_failed(log):
    "One line about a pip that failed, from what it said."
    text = log.lower()
    if 'no space left' in text: return 'the disk is full; make room (about 4 GB) and run the same command again'
    network = ('connection', 'timed out', 'timeout', 'name or service not known', 'name resolution', 'unreachable', 'proxy', 'ssl', 'no matching distribution')
    if any(w in text for w in network):
        return 'the package registry was not reached or lacks a package; check the network (or pip\'s index and proxy settings) and run the same command again'
    return 'pip failed, its messages are above; the same command continues where it stopped'


def progress(line, tty):
    "What the reader sees of pip's output: one moving line on a terminal, the large downloads elsewhere."
    word, _, rest = line.strip().partition(' ')
    if word not in ('Collecting', 'Downloading', 'Building', 'Installing'): return
    if tty: sys.stdout.write('\r\033[K  ' + line.strip()[:100])
    elif rest.startswith('collected') or (word == 'Downloading' and ' MB' in rest): print('  ' + line.strip().split(':')[0][:100])
    sys.stdout.flush()


def pip_install(python, args, root=ROOT, runner=None):
    "pip, its output kept so that a failure can be named."
    cmd = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '--progress-bar', 'off'] + args
    if runner: status, lines = runner(cmd, cwd=root), []
    else:
        lines, tty = [], sys.stdout.isatty()
        proc = subprocess.Popen(cmd, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        for line in proc.stdout: progress(line, tty); lines.append(line)
        status = proc.wait()
        if tty: sys.stdout.write('\r\033[K')
    if not status: return
    sys.stdout.write(''.join(lines[-25:])); sys.stdout.flush()
    raise Problem(why_pip_failed(''.join(line for line in lines if 'error' in line.lower() or 'warning' in line.lower())))


def make_venv(root=ROOT, runner=run):
    "A new, empty .venv in `root`."
    print('courselib: making .venv with Python %d.%d' % sys.version_info[:2]); sys.stdout.flush()
    if runner([sys.executable, '-m', 'venv', '--clear', os.path.join(root, '.venv')]):
        raise Problem('.venv was not made, the messages are above; remove the folder .venv and run the same command again')
    with open(os.path.join(root, '.venv', 'made-in'), 'w') as f: f.write(root)


def setup(root=ROOT, stamp=None, runner=None, extras='lab,dev'):
    "The whole set-up; leaves the file `stamp`, newer than what it depends on, when all went well."
    start = time.time()
    check_python(min_python(root))
    check_venv()
    if not venv_works(root):
        check_disk(root)
        make_venv(root, runner or run)
    python = venv_python(root)
    print('courselib: installing (a few minutes and about 3 GB the first time)'); sys.stdout.flush()
    pip_install(python, ['-e', '.[%s]' % extras, '-c', 'constraints.txt'] + torch_args(python), root, runner)
    if stamp:
        for old in os.listdir(os.path.dirname(stamp)):
            if old.startswith('.stamp'): os.remove(os.path.join(os.path.dirname(stamp), old))
        with open(stamp, 'w') as f: f.write(time.strftime('%Y-%m-%d %H:%M:%S\n'))
    print('courselib: set up in %.0f s' % (time.time() - start))


HOOK = '''#!/bin/sh
# Trust the notebooks that a merge or pull brought, so that their widgets move at once (written by `make lab`).
nbdev_trust="$(git rev-parse --show-toplevel)/.venv/bin/nbdev_trust"
[ -x "$nbdev_trust" ] && exec "$nbdev_trust"
exit 0
'''

GITCONFIG = '''# Written by `make lab`. To switch it off: git config --local --unset include.path
[merge "nbdev-merge"]
	name = notebooks: conflicts cell by cell (nbdev), line by line where the course is not set up
	driver = "if [ -x .venv/bin/nbdev_merge ]; then .venv/bin/nbdev_merge %O %A %B %P; else git merge-file %A %O %B; fi"
'''


def hooks(root=ROOT):
    """nbdev's git hooks: `nbdev_install_hooks`, then its hook and merge driver made to find the tools in .venv (as nbdev writes them they
    need an activated environment, and git breaks off without one). It runs with an empty home, so the reader's Jupyter settings stay as they are."""
    if not os.path.isdir(os.path.join(root, '.git')): return print('courselib: no git clone of its own here, so no git hooks')
    post = os.path.join(root, '.git', 'hooks', 'post-merge')
    if os.path.exists(post) and 'nbdev_trust' not in open(post).read():
        return print('courselib: you have a post-merge hook of your own, nbdev\'s are left out')
    if os.path.exists(post) and open(post).read() == HOOK and os.path.exists(os.path.join(root, '.gitconfig')): return
    home = os.path.join(root, '.venv', 'empty-home')
    if not os.path.isdir(home): os.makedirs(home)
    env = dict(os.environ, HOME=home, GIT_CONFIG_GLOBAL=os.environ.get('GIT_CONFIG_GLOBAL', os.path.expanduser('~/.gitconfig')),
               PATH=os.path.join(root, '.venv', 'bin') + os.pathsep + os.environ.get('PATH', ''))
    try: status = subprocess.call([os.path.join(root, '.venv', 'bin', 'nbdev_install_hooks')], cwd=root, env=env, stdout=subprocess.DEVNULL)
    except OSError: status = 1
    if status: return print('courselib: nbdev\'s git hooks were not installed; everything else works')
    with open(post, 'w') as f: f.write(HOOK)
    os.chmod(post, os.stat(post).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    with open(os.path.join(root, '.gitconfig'), 'w') as f: f.write(GITCONFIG)
    print('courselib: nbdev\'s git hooks installed')


def main():
    ap = argparse.ArgumentParser(description='Set up the course in this clone.')
    ap.add_argument('--stamp', help='file to leave behind when all went well')
    ap.add_argument('--hooks', action='store_true', help='install the git hooks instead')
    args = ap.parse_args()
    try: hooks() if args.hooks else setup(stamp=args.stamp and os.path.abspath(args.stamp))
    except Problem as e: sys.exit('courselib: %s' % e)
    except KeyboardInterrupt: sys.exit('courselib: interrupted; the same command continues')


if __name__ == '__main__': main()
