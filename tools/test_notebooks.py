"""Run every notebook as a test: nbdev's `test_nb` in one fresh process each, several at a time, with a report that says what went wrong.

    python tools/test_notebooks.py [name ...] [--jobs 2] [--flags "slow cuda"] [--containing cuda]

What nbdev_test does stays (which notebooks, which flags, how a cell runs). Added: a process of its own for each notebook, so that none
leans on what another one imported or seeded; a time limit; CPU seconds; a short message for a failure; the slowest at the end; and a
record of each run (CPU seconds, claims) in .cache/runs/, which tests/test_chapters.py reads.
"""
import argparse, ast, functools, hashlib, json, multiprocessing as mp, os, resource, sys, time, traceback
from multiprocessing.connection import wait
from pathlib import Path

from course import ROOT, Notebook, find, flags_of, paths, records, text

RUNS = ROOT/'.cache'/'runs'
PRELOAD = ['torch', 'numpy', 'matplotlib.pyplot', 'plotly.graph_objects', 'plotly.io', 'IPython', 'nbdev.test']   # imported once, then forked


# ---- records ----------------------------------------------------------------------------------------------------------

@functools.cache
def _imports(path: Path) -> frozenset[Path]:
    "Files of courselib that a module's source imports, directly."
    return module_files(path.read_text(encoding='utf-8'), path.parent)


def module_files(source: str, folder: Path | None = None, lib=ROOT/'courselib') -> frozenset[Path]:
    "Files of courselib that `source` imports (relative imports from `folder`)."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = (folder if node.level == 1 else folder.parents[node.level - 2]) if node.level and folder else lib.parent
            names = [node.module] if node.module else []
            names += [f'{node.module}.{a.name}' if node.module else a.name for a in node.names]
        elif isinstance(node, ast.Import): base, names = lib.parent, [a.name for a in node.names]
        else: continue
        for n in names:
            p = base/(n.replace('.', '/') + '.py')
            if p.is_file() and p.is_relative_to(lib): found.add(p)
    return frozenset(found)


def fingerprint(path: Path) -> str:
    "Of the notebook's code and of every module of the course that it uses: a run's record is good as long as this is the same."
    nb, h, seen = Notebook(path), hashlib.sha256(), set()
    todo = []
    for c in nb.code:
        h.update(c.source.encode() + b'\0')
        try: todo += module_files(c.code)
        except SyntaxError: pass
    while todo:
        if (p := todo.pop()) not in seen: seen.add(p); todo += _imports(p)
    for p in sorted(seen): h.update(p.read_bytes())
    return h.hexdigest()


def record_path(path: Path) -> Path: return RUNS/(Path(path).resolve().relative_to(ROOT/'nbs').as_posix().replace('/', '.') + '.json')


def stored(path: Path) -> dict | None:
    "The record of the last run of a notebook, if that is as the notebook and the library are now."
    try: rec = json.loads(record_path(path).read_text())
    except (OSError, ValueError): return None
    return rec if rec.get('fingerprint') == fingerprint(path) else None


# ---- one notebook -----------------------------------------------------------------------------------------------------

def message(path: Path, shell, cell) -> str:
    "What failed: notebook, cell, the cell's source with the line marked, the error; frames of the machinery are left out."
    exc = shell.exc
    if exc is None: return traceback.format_exc()
    frames = traceback.extract_tb(exc.__traceback__)
    shown = [f for f in frames if 'execnb' not in f.filename and 'IPython' not in f.filename]
    line = next((f.lineno for f in shown if '<ipython-input' in f.filename or 'ipykernel' in f.filename), getattr(exc, 'lineno', None))
    src = [f"{'>' if n == line else ' '} {n:3d} {s}" for n, s in enumerate(text(cell.source).split('\n'), 1)] if cell is not None else []
    if line and len(src) > 30: src = src[max(0, line - 15):line + 5]
    at = [f'  {f.filename.replace(str(ROOT) + os.sep, "")}:{f.lineno} in {f.name}' for f in shown if '<ipython-input' not in f.filename][-6:]
    return '\n'.join([f'{path.relative_to(ROOT)}, cell {cell.idx_ if cell is not None else "?"}', *src,
                      *at, f'{type(exc).__name__}: {exc}'])


def work(path: Path, skip: list, force: list, conn):
    "In the process of its own: nbdev's test of one notebook, its record sent back through `conn`."
    import io, contextlib
    import nbdev.test as nt
    kept = {}

    class Shell(nt.CaptureShell):
        "nbdev's shell, which keeps the notebook that it runs and the cell it is in."
        def run_all(self, nb, **kw): kept.update(nb=nb, shell=self); return super().run_all(nb, **kw)
        def cell(self, cell, **kw): kept.update(cell=cell); return super().cell(cell, **kw)

    nt.CaptureShell = Shell
    os.chdir(ROOT/'nbs')
    start, quiet = time.perf_counter(), io.StringIO()
    ok, error = False, ''
    try:
        with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet): ok, _ = nt.test_nb(path, skip_flags=skip, force_flags=force, showerr=False, basepath=ROOT)
        if not ok: error = message(path, kept['shell'], kept.get('cell'))
    except BaseException: error = f'{path.relative_to(ROOT)}\n{traceback.format_exc()}'
    use = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cells = kept['nb'].cells if 'nb' in kept else []
    conn.send(dict(ok=bool(ok), error=error, wall=time.perf_counter() - start, cpu=sum(u.ru_utime + u.ru_stime for u in use),
                   claims=records(cells), printed=quiet.getvalue()[-2000:]))
    conn.close()


def skip_flags() -> list:
    from nbdev.config import get_config
    return get_config(path=ROOT).tst_flags.split()


def run_all(todo: list[Path], jobs: int = 2, force: list = (), timeout: float = 300, each=None) -> dict[Path, dict]:
    "Records of running the notebooks `todo`, `jobs` at a time, the longest first; `each(path, record)` is called as they finish."
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'): os.environ[name] = '1'
    os.environ['COURSELIB_WIDGETS'] = 'frozen'
    os.environ['PYTHONPATH'] = os.pathsep.join([str(ROOT/'tools'), str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)
    ctx = mp.get_context('forkserver')
    ctx.set_forkserver_preload(PRELOAD)
    skip, done, running = skip_flags(), {}, {}
    queue = sorted(todo, key=lambda p: -(_last_cpu(p) or p.stat().st_size/1e5))
    while queue or running:
        while queue and len(running) < jobs:
            path = queue.pop(0)
            recv, send = ctx.Pipe(duplex=False)
            proc = ctx.Process(target=work, args=(path, skip, list(force), send))
            proc.start(); send.close()
            running[recv] = (proc, path, time.monotonic())
        for conn in wait(list(running), timeout=1) or [c for c, (_, _, t) in running.items() if time.monotonic() - t > timeout]:
            proc, path, began = running.pop(conn)
            rec = dict(ok=False, wall=time.monotonic() - began, cpu=None, claims=[], error='')
            try:
                if conn.poll(): rec = conn.recv()
                else:
                    proc.kill()
                    rec['error'] = f'{path.relative_to(ROOT)}\nstopped after {timeout:.0f} s; a notebook has to run in 20 s of CPU time'
            except EOFError:
                proc.join(5)
                rec['error'] = f'{path.relative_to(ROOT)}\nits process died (exit status {proc.exitcode}): out of memory, or a crash in native code'
            proc.join(); conn.close()
            done[path] = rec
            if each: each(path, rec)
    return done


def _last_cpu(path):
    try: return json.loads(record_path(path).read_text())['cpu']
    except (OSError, ValueError, KeyError): return None


def store(path: Path, rec: dict):
    "Keep a record for the contract; runs with extra flags are not kept, they do other work."
    RUNS.mkdir(parents=True, exist_ok=True)
    dest = record_path(path)
    part = dest.with_suffix(f'.{os.getpid()}')
    part.write_text(json.dumps(dict(rec, fingerprint=fingerprint(path), notebook=path.relative_to(ROOT).as_posix()), indent=1))
    os.replace(part, dest)


def record(path: Path) -> dict:
    "The record of a notebook as it is now; it is run if there is none."
    if rec := stored(path): return rec
    import fcntl, subprocess
    RUNS.mkdir(parents=True, exist_ok=True)
    with open(RUNS/'.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)   # two pytest workers may ask for the same notebook
        if not stored(path): subprocess.run([sys.executable, __file__, str(path)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return stored(path) or dict(ok=False, error=f'{path.name} could not be run', cpu=None, wall=None, claims=[])


# ---- the command ------------------------------------------------------------------------------------------------------

def main():
    ap = argparse.ArgumentParser(description='Run every notebook as a test.')
    ap.add_argument('names', nargs='*', help='part/slug or path; all notebooks if none is given')
    ap.add_argument('--jobs', type=int, default=2, help='notebooks at a time')
    ap.add_argument('--flags', default='', help='run cells with these flags too, for example "slow cuda"')
    ap.add_argument('--containing', default='', help='only notebooks with a cell of this flag')
    ap.add_argument('--timeout', type=float, default=300, help='seconds a notebook may take')
    ap.add_argument('--slowest', type=int, default=10, help='how many to report')
    args = ap.parse_args()
    try: todo = [find(n) for n in args.names] or [p.resolve() for p in paths()]
    except ValueError as e: sys.exit(f'test_notebooks: {e}')
    if args.containing: todo = [p for p in todo if any(args.containing in c.flags for c in Notebook(p).code)]
    if not todo: return print('0 notebooks to run' + (f' with a cell marked {args.containing}' if args.containing else ''))
    count, start = [0], time.monotonic()

    def each(path, rec):
        count[0] += 1
        cpu = f"{rec['cpu']:6.1f} s CPU" if rec['cpu'] is not None else ' '*12
        print(f"[{count[0]:3d}/{len(todo)}] {'ok    ' if rec['ok'] else 'FAILED'} {cpu}  {path.relative_to(ROOT/'nbs')}", flush=True)
        if not args.flags: store(path, rec)

    print(f'running {len(todo)} notebooks, {args.jobs} at a time, one thread each', flush=True)
    done = run_all(todo, args.jobs, args.flags.split(), args.timeout, each)
    failed = {p: r for p, r in done.items() if not r['ok']}
    for path, rec in failed.items(): print(f"\n{'='*20} FAILED {'='*20}\n{rec['error']}")
    slow = sorted(done.items(), key=lambda kv: -(kv[1]['cpu'] or 0))[:args.slowest]
    total = sum(r['cpu'] or 0 for r in done.values())
    print('\nslowest (CPU seconds): ' + ', '.join(f"{p.relative_to(ROOT/'nbs').with_suffix('')} {r['cpu'] or 0:.1f}" for p, r in slow))
    print(f"notebooks: {len(done) - len(failed)} passed, {len(failed)} failed in {time.monotonic() - start:.1f} s "
          f"({total:.1f} s CPU, {total/len(done):.1f} s each)", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == '__main__': main()
