"""Run one chapter from a fresh kernel, with a progress bar, and store its outputs in the notebook.

    python tools/chapter.py continual/stability_gap      (what `make chapter NB=continual/stability_gap` calls)
"""
import argparse, os, re, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'


def find_notebook(name: str) -> Path:
    "The notebook for `part/slug`, a path, or a slug that is unique in the course."
    p = Path(name)
    for q in (p, ROOT/p, NBS/p):
        if q.is_file(): return q.resolve()
    strip = lambda s: re.sub(r'^\d+_', '', s)
    want = tuple(strip(s) for s in Path(name).with_suffix('').parts)
    notebooks = [q for q in sorted(NBS.rglob('*.ipynb')) if '.ipynb_checkpoints' not in q.parts]
    hits = [q for q in notebooks
            if tuple(strip(s) for s in q.relative_to(NBS).with_suffix('').parts)[-len(want):] == want]
    if len(hits) == 1: return hits[0]
    if hits: raise ValueError(f"'{name}' names {len(hits)} notebooks: {', '.join(str(h.relative_to(ROOT)) for h in hits)}")
    raise ValueError(f"no chapter '{name}'. Expected part/slug, for example continual/stability_gap; "
                     f"chapters: {', '.join('/'.join(strip(s) for s in q.relative_to(NBS).with_suffix('').parts) for q in notebooks)}")


def wanted(cell, skip: set[str]) -> bool:
    "Code cells run, except those with a flag such as `#| slow` that was not asked for."
    flags = {f for m in re.findall(r'^#\|\s*(.+)$', cell.source, re.M) for f in m.replace(':', ' ').split()}
    return cell.cell_type == 'code' and cell.source.strip() and not flags & skip


def run(path: Path, flags: set[str] = frozenset(), timeout: int = 600, save: bool = True):
    "Run every cell of the notebook at `path`; returns (notebook, seconds per code cell)."
    import nbformat
    from nbclient import NotebookClient
    from tqdm.auto import tqdm
    nb = nbformat.read(path, as_version=4)
    skip = {'slow', 'cuda'} - set(flags)
    env = dict(os.environ, COURSELIB_WIDGETS='frozen', PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'): env.setdefault(name, '1')
    client = NotebookClient(nb, timeout=timeout, kernel_name='python3', store_widget_state=False,
                            resources={'metadata': {'path': str(path.parent)}})
    todo, seconds = [(i, c) for i, c in enumerate(nb.cells) if wanted(c, skip)], {}
    with client.setup_kernel(env=env):
        bar = tqdm(todo, desc=path.stem, unit='cell', bar_format='{desc} {bar} {n}/{total} cells, {elapsed} so far, {remaining} left')
        for i, cell in bar:
            start = time.perf_counter()
            client.execute_cell(cell, i)
            seconds[i] = time.perf_counter() - start
            cell.execution_count = None
            for out in cell.outputs:
                if 'execution_count' in out: out['execution_count'] = None
            cell.metadata.pop('execution', None)
    nb.metadata.pop('widgets', None)
    nb.metadata['language_info'] = {'name': 'python'}
    if save: nbformat.write(nb, path)
    return nb, seconds


def main():
    ap = argparse.ArgumentParser(description='Run one chapter and store its outputs.')
    ap.add_argument('name', help='part/slug or a path')
    ap.add_argument('--flags', default='', help='run cells with these flags too, for example "slow cuda"')
    ap.add_argument('--dry', action='store_true', help='do not write the outputs back')
    args = ap.parse_args()
    from nbclient.exceptions import CellExecutionError
    try: path = find_notebook(args.name)
    except ValueError as e: sys.exit(f'chapter: {e}')
    start = time.perf_counter()
    try: nb, seconds = run(path, set(args.flags.split()), save=not args.dry)
    except CellExecutionError as e: sys.exit(f'chapter: {path.name} failed\n{e}')
    slow = sorted(seconds.items(), key=lambda kv: -kv[1])[:3]
    print(f'{path.relative_to(ROOT)}: {len(seconds)} cells in {time.perf_counter()-start:.1f} s, {path.stat().st_size/1000:.0f} kB; slowest: '
          + ', '.join(f'cell {i} ({s:.1f} s)' for i, s in slow))


if __name__ == '__main__': main()
