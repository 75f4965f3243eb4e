"""README.md from nbs/index.ipynb, and the table of chapters in both. Part of `make export`; no Quarto.

The table stands between `<!-- chapters -->` and `<!-- /chapters -->` in the notebook; it is made from the front matter of all chapters.
"""
import json, posixpath, re, sys
from pathlib import Path

from course import ROOT, Notebook, flags_of, part_title, paths, text

BEGIN, END = '<!-- chapters -->', '<!-- /chapters -->'
HEAD = '<!-- Made from nbs/index.ipynb by tools/readme.py. Do not edit. -->\n\n'


def cell_text(s: str) -> str: return s.replace('|', '\\|')


def table(root: Path) -> str:
    "The chapters part by part, links relative to nbs/."
    parts = {}
    for p in paths(root):
        nb = Notebook(p, root)
        if nb.kind in ('chapter', 'bench', 'overview'): parts.setdefault(nb.folder, []).append(nb)
    out = []
    for folder, nbs in parts.items():
        bench = next((nb for nb in nbs if nb.kind == 'bench'), None)
        intro = f' · [bench]({bench.rel}): {bench.front["description"].rstrip(".")}' if bench and 'description' in bench.front else ''
        last = next((nb for nb in nbs if nb.kind == 'overview'), None)
        if last: intro += f' · [overview]({last.rel}): {last.front.get("description", "").rstrip(".")}'
        out.append(f'**{part_title(folder)}**{intro}\n')
        rows = [nb for nb in nbs if nb.kind == 'chapter']
        if not rows: out.append('No chapters yet.\n'); continue
        out.append('| chapter | in one line | paper | level |\n|---|---|---|---|')
        for nb in rows:
            f = nb.front
            paper = f"{f.get('paper', '')} ({f.get('year', '')})"
            if 'arxiv' in f: paper = f"[{paper}](https://arxiv.org/abs/{f['arxiv']})"
            out.append('| ' + ' | '.join(map(cell_text, (f"[{f.get('title', nb.slug)}]({nb.rel})", f.get('description', ''), paper, f.get('level', '')))) + ' |')
        out.append('')
    return '\n'.join(out).strip() or 'No chapters yet.'


def with_table(source: str, root: Path) -> str:
    "`source` with the table of chapters as it should be now."
    return re.sub(f'{BEGIN}.*?{END}', lambda m: f'{BEGIN}\n\n{table(root)}\n\n{END}', source, flags=re.S)


def index(root: Path) -> str:
    "The text of nbs/index.ipynb with the table brought up to date, everything else as it is."
    path = root/'nbs'/'index.ipynb'
    old = path.read_text(encoding='utf-8')
    nb = json.loads(old)
    changed = False
    for c in nb['cells']:
        src = text(c['source'])
        if c['cell_type'] == 'markdown' and (new := with_table(src, root)) != src: c['source'], changed = new.splitlines(True), True
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n' if changed else old


def relink(markdown: str) -> str:
    "Links and pictures as seen from the root instead of from nbs/."
    def fix(m):
        target = m[2]
        return m[0] if re.match(r'[a-z]+:|#|/', target) else m[1] + posixpath.normpath(posixpath.join('nbs', target)) + m[3]
    markdown = re.sub(r'(\]\()([^)\s]+)(\))', fix, markdown)
    return re.sub(r'(<(?:img|a)\b[^>]*?(?:src|href)=")([^"]+)(")', fix, markdown)


def plain_output(cell) -> str:
    "What a code cell printed or returned, as text; richer outputs are for the notebook."
    out = []
    for o in cell.get('outputs', []):
        if o['output_type'] == 'stream' and o.get('name') == 'stdout': out.append(text(o['text']))
        elif o['output_type'] == 'execute_result': out.append(text(o['data'].get('text/plain', '')) + '\n')
    return ''.join(out).rstrip()


def render(root: Path) -> str:
    "The text of README.md."
    out = []
    for c in json.loads(index(root))['cells']:
        src = text(c['source']).strip()
        flags = flags_of(src) if c['cell_type'] == 'code' else set()
        if not src or 'hide' in flags: continue
        if c['cell_type'] == 'markdown': out.append(relink(src))
        elif c['cell_type'] == 'code':
            code = re.sub(r'^\s*#\s*\|.*\n?', '', src, flags=re.M).strip()
            if code: out.append(f'```python\n{code}\n```')
            if shown := plain_output(c): out.append(f'```text\n{shown}\n```')
    return HEAD + '\n\n'.join(out) + '\n'


def write(root: Path = ROOT):
    if not (root/'nbs'/'index.ipynb').exists(): return
    (root/'nbs'/'index.ipynb').write_text(index(root), encoding='utf-8')
    (root/'README.md').write_text(render(root), encoding='utf-8')


def differences(root: Path = ROOT) -> list[str]:
    "One line for each of the two files that is out of step."
    out, path, made = [], root/'nbs'/'index.ipynb', root/'README.md'
    if not path.exists(): return ['nbs/index.ipynb is missing']
    if index(root) != path.read_text(encoding='utf-8'): out.append('nbs/index.ipynb: its table of chapters is out of date')
    if not made.exists() or render(root) != made.read_text(encoding='utf-8'): out.append('README.md differs from nbs/index.ipynb')
    return out


if __name__ == '__main__': sys.exit('run `make export`')
