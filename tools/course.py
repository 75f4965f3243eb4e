"""The notebooks of the course as the tools see them: where they are, what kind each is, its front matter, cells and records."""
import functools, importlib.util, json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLAIM = 'application/vnd.courselib.claim+json'


def strip_number(name: str) -> str:
    "01_stability_gap -> stability_gap"
    return re.sub(r'^\d+_', '', name)


def text(x) -> str:
    "Notebook text, which is stored as one string or a list of lines."
    return x if isinstance(x, str) else ''.join(x or [])


def flags_of(source: str) -> set[str]:
    "nbdev's flags of a cell: `#| export`, `#|eval: false` -> {'export'}, {'eval:'}."
    return {m.split()[0] for m in re.findall(r'^\s*#\s*\|\s*(\S.*)$', source, re.M)}


class Cell:
    "One cell: `kind` is 'code', 'markdown' or 'raw'."
    def __init__(self, i, raw):
        self.i, self.raw, self.kind, self.source = i, raw, raw['cell_type'], text(raw.get('source'))
        self.metadata, self.outputs = raw.get('metadata', {}), raw.get('outputs', [])
        self.flags = flags_of(self.source) if self.kind == 'code' else set()
        self.exported = bool(self.flags & {'export', 'exports', 'exporti'})

    @property
    def code(self) -> str:
        "Source without flags and magics, ready for `ast`."
        return '\n'.join('' if re.match(r'\s*(#\s*\||[%!])', line) else line for line in self.source.split('\n'))

    def mime(self, kind: str) -> list:
        "What its outputs hold of one mime type."
        return [o['data'][kind] for o in self.outputs if kind in o.get('data', {})]


class Notebook:
    "A notebook file below `root/nbs`."
    def __init__(self, path, root=ROOT):
        self.path, self.root = Path(path).resolve(), Path(root).resolve()
        self.raw = json.loads(self.path.read_text(encoding='utf-8'))
        self.cells = [Cell(i, c) for i, c in enumerate(self.raw['cells'])]
        self.rel = self.path.relative_to(self.root/'nbs').as_posix()
        folder = self.path.parent.name if self.path.parent != self.root/'nbs' else ''
        self.part, self.slug, self.folder = strip_number(folder), strip_number(self.path.stem), folder
        self.kind = ('index' if not folder else 'core' if self.part == 'core' else self.slug if self.slug in ('bench', 'overview') else 'chapter')
        self.name = f'{self.part}/{self.slug}' if folder else self.slug
        self.module = self.slug if self.part == 'core' else f'{self.part}.{self.slug}'   # what `default_exp` should say

    def __repr__(self): return f'Notebook({self.rel})'

    @functools.cached_property
    def code(self): return [c for c in self.cells if c.kind == 'code' and c.source.strip()]

    @functools.cached_property
    def markdown(self): return [c for c in self.cells if c.kind == 'markdown']

    @functools.cached_property
    def exported(self): return [c for c in self.code if c.exported]

    @functools.cached_property
    def title_cell(self): return next((c for c in self.markdown if re.search(r'^# ', c.source, re.M)), None)

    @functools.cached_property
    def front(self) -> dict:
        "Title, description and the `- key: value` lines under them, as texts."
        src = self.title_cell.source if self.title_cell else ''
        fm = {k: v.strip() for k, v in re.findall(r'^-\s+([a-z_]+):[ \t]*(.*)$', src, re.M)}
        for key, mark in (('title', '#'), ('description', '>')):
            if m := re.search(rf'^{mark}\s+(\S.*?)\s*$', src, re.M): fm[key] = m[1]
        return fm

    @functools.cached_property
    def needs(self) -> list[str]:
        return [n for n in re.split(r'[,\s]+', self.front.get('needs', '').strip('[]')) if n and n.lower() not in ('none', '-')]

    @functools.cached_property
    def headings(self) -> list[tuple[str, int]]:
        "(second-level heading, cell number), code fences left out."
        found = []
        for c in self.markdown:
            plain = re.sub(r'```.*?```', '', c.source, flags=re.S)
            found += [(h.strip(), c.i) for h in re.findall(r'^## +(.+?)\s*$', plain, re.M)]
        return found

    def section(self, heading: str) -> list[Cell]:
        "The cells from `heading` up to the next second-level heading."
        at = [i for h, i in self.headings if h == heading]
        if not at: return []
        end = min((i for h, i in self.headings if i > at[0]), default=len(self.cells))
        return self.cells[at[0]:end]

    @functools.cached_property
    def claims(self) -> list[dict]:
        "The claim records in the stored outputs."
        return records(c.raw for c in self.cells)

    @functools.cached_property
    def words(self) -> int:
        "Words of prose: markdown without front matter, code, mathematics and links' addresses."
        return len(re.findall(r"[A-Za-z][\w'’-]*", self.prose))

    @functools.cached_property
    def prose(self) -> str:
        "The markdown a reader reads as sentences."
        out = []
        for c in self.markdown:
            s = c.source
            if c is self.title_cell: s = re.sub(r'^-\s+[a-z_]+:.*$', '', s, flags=re.M)
            s = re.sub(r'```.*?```|\$\$.*?\$\$|<!--.*?-->|<[^>]+>', ' ', s, flags=re.S)
            s = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', s)
            out.append(re.sub(r'`[^`]*`|\$[^$\n]*\$', ' ', s))
        return '\n\n'.join(out)


def records(cells) -> list[dict]:
    "Claim records in the outputs of raw notebook cells."
    found = []
    for c in cells:
        for o in c.get('outputs') or []:
            r = (o.get('data') or {}).get(CLAIM)
            if r is not None: found.append(json.loads(text(r)) if isinstance(r, (str, list)) else r)
    return found


def paths(root=ROOT) -> list[Path]:
    "All notebooks of the course, in its order; folders and files that begin with `_` or `.` are left out, as nbdev does."
    nbs = Path(root)/'nbs'
    return [p for p in sorted(nbs.rglob('*.ipynb')) if not any(x[0] in '_.' for x in p.relative_to(nbs).parts)]


def find(name: str, root=ROOT) -> Path:
    "The notebook for `part/slug`, a path, or a slug that is unique in the course."
    root = Path(root)
    if not name.strip(): raise ValueError(f"which chapter? Expected part/slug, for example NB=continual/stability_gap; {_chapters(root)}")
    for q in (Path(name), root/name, root/'nbs'/name):
        if q.suffix == '.ipynb' and q.is_file(): return q.resolve()
    key = lambda p: tuple(strip_number(s) for s in Path(p).with_suffix('').parts)
    hits = [p for p in paths(root) if key(p.relative_to(root/'nbs'))[-len(key(name)):] == key(name)]
    if len(hits) == 1: return hits[0].resolve()
    if hits: raise ValueError(f"'{name}' names {len(hits)} notebooks: {', '.join(str(h.relative_to(root)) for h in hits)}; write part/slug")
    raise ValueError(f"no chapter '{name}'. Expected part/slug, for example continual/stability_gap; {_chapters(root)}")


def _chapters(root):
    names = ['/'.join(strip_number(s) for s in p.relative_to(root/'nbs').with_suffix('').parts) for p in paths(root)]
    shown = names if len(names) <= 40 else [n for n in names if '/' in n and not n.startswith('core/')][:40] + ['...']
    return 'there are: ' + ', '.join(shown)


@functools.cache
def _parts():
    spec = importlib.util.spec_from_file_location('courselib_site_parts', Path(__file__).parent/'site'/'parts.py')
    spec.loader.exec_module(mod := importlib.util.module_from_spec(spec))
    return mod


def part_title(folder: str) -> str:
    "Title of the part in a folder such as 09_continual."
    return _parts().part_of(folder)['title']
