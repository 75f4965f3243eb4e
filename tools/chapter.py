"""Run one chapter from a fresh kernel, with a progress bar, and store its outputs in the notebook.

    python tools/chapter.py continual/stability_gap      (what `make chapter NB=continual/stability_gap` calls)
"""
import argparse, os, sys, time
from pathlib import Path

from course import ROOT, Cell, find, records

find_notebook = find   # the name that other tools use


def wanted(cell, skip: set[str]) -> bool:
    "Code cells run, except those with a flag such as `#| slow` that was not asked for, or `#| eval: false`."
    c = Cell(0, cell)
    return c.kind == 'code' and bool(c.source.strip()) and not c.flags & (skip | {'eval:'})


def tidy(nb):
    "What differs from run to run is left out: counts, times, widget state."
    for cell in nb.cells:
        if cell.cell_type != 'code': continue
        cell.execution_count = None
        cell.metadata.pop('execution', None)
        for out in cell.outputs:
            if 'execution_count' in out: out['execution_count'] = None
    nb.metadata.pop('widgets', None)
    nb.metadata['language_info'] = {'name': 'python'}


def save(nb, path: Path):
    "Write the notebook whole or not at all, and trust it, so that its widgets move when JupyterLab opens it."
    import nbformat
    from nbformat.sign import NotebookNotary
    part = path.with_name(f'.{path.name}.part')
    nbformat.write(nb, part)
    os.replace(part, path)
    try: NotebookNotary().sign(nb)
    except Exception: pass   # no home folder to keep the signature in: the reader runs the cell instead


def run(path: Path, flags: set[str] = frozenset(), timeout: int = 600, store: bool = True):
    "Run every cell of the notebook at `path`; returns (notebook, seconds per code cell). A failing cell raises and stores nothing."
    import nbformat
    from nbclient import NotebookClient
    from tqdm.auto import tqdm
    nb = nbformat.read(path, as_version=4)
    skip = {'slow', 'cuda'} - set(flags)
    env = dict(os.environ, COURSELIB_WIDGETS='frozen', PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep))
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'): env.setdefault(name, '1')
    client = NotebookClient(nb, timeout=timeout, kernel_name='python3', store_widget_state=False, extra_arguments=['--log-level=40'],
                            resources={'metadata': {'path': str(path.parent)}})
    todo, seconds = [(i, c) for i, c in enumerate(nb.cells) if wanted(c, skip)], {}
    with client.setup_kernel(env=env):
        bar = tqdm(todo, desc=path.stem, unit='cell', bar_format='{desc} {bar} {n}/{total} cells, {elapsed} so far, {remaining} left')
        for i, cell in bar:
            start = time.perf_counter()
            client.execute_cell(cell, i)
            seconds[i] = time.perf_counter() - start
    tidy(nb)
    if store: save(nb, path)
    return nb, seconds


def report(path, nb, seconds, took) -> str:
    "What one run is worth knowing about."
    import nbformat
    size = len(nbformat.writes(nb).encode())
    slow = sorted(seconds.items(), key=lambda kv: -kv[1])[:3]
    lines = [f'{path.relative_to(ROOT)}: {len(seconds)} cells in {took:.1f} s, {size/1000:.0f} kB; slowest: '
             + ', '.join(f'cell {i} ({s:.1f} s)' for i, s in slow)]
    for r in records(nb.cells):
        lines.append(f"  {'ablation' if r.get('ablation') else 'claim'} {r.get('id')}: {r.get('verdict')}"
                     + (f" (mean {r['mean']:.3g}, 95 % {r['lo']:.3g} to {r['hi']:.3g}, {r.get('n')} {r.get('over', 'seeds')})" if isinstance(r.get('mean'), (int, float)) else ''))
    return '\n'.join(lines)


def main():
    ap = argparse.ArgumentParser(description='Run one chapter and store its outputs.')
    ap.add_argument('name', help='part/slug or a path')
    ap.add_argument('--flags', default='', help='run cells with these flags too, for example "slow cuda"')
    ap.add_argument('--dry', action='store_true', help='do not write the outputs back')
    args = ap.parse_args()
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    try: path = find(args.name)
    except ValueError as e: sys.exit(f'chapter: {e}')
    start = time.perf_counter()
    try: nb, seconds = run(path, set(args.flags.split()), store=not args.dry)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as e:
        sys.exit(f'chapter: {path.relative_to(ROOT)} failed, its stored outputs are as they were\n{e}')
    except KeyboardInterrupt: sys.exit('\nchapter: interrupted, nothing stored')
    print(report(path, nb, seconds, time.perf_counter() - start))


if __name__ == '__main__': main()
