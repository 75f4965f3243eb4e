"""From a notebook of the course to a page's source: nbdev's processors, without Quarto.

`process` turns one notebook into a notebook that myst-nb can render, and a record of what the rest of the site wants to know about it
(title, paper, claims, thumbnail, exported names). It looks at nothing but the notebook and the documentation of its module, so an
unchanged notebook never needs it again.
"""
import ast, base64, configparser, gzip, hashlib, io, json, re, struct
from html import escape
from pathlib import Path

from execnb.nbio import nb2dict, mk_cell, read_nb
from nbdev.process import NBProcessor, Processor
from nbdev.processors import (ai_magics, clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_header_dash,
                              strip_ansi, strip_hidden_metadata)

from apidoc import card, inline
from course import CLAIM, Notebook, strip_number
from parts import part_of

_settings = configparser.ConfigParser()
_settings.read(Path(__file__).resolve().parent.parent.parent/'settings.ini')
REPOSITORY, BRANCH = _settings['DEFAULT']['git_url'], _settings['DEFAULT']['branch']
EXPORTS = ('export', 'exports', 'exporti')


def docname(path: Path) -> str:
    "Page of a notebook, relative to the notebook folder: 09_continual/01_stability_gap.ipynb -> continual/stability_gap."
    return '/'.join(map(strip_number, path.with_suffix('').parts))


class FrontMatter(Processor):
    "Takes the title, the `>` line and the `- key: value` lines out of the first cell that has them; a raw YAML cell goes altogether."
    def begin(self): self.done = False
    def cell(self, cell):
        if cell.cell_type == 'raw' and cell.source.strip().startswith('---'): cell.source = None
        elif cell.cell_type == 'markdown' and not self.done and re.search(r'^# ', cell.source, re.M):
            self.done, rest, top = True, [], True
            for line in cell.source.splitlines():
                top = top and (not line.strip() or bool(re.match(r'#\s|>\s|-\s+[a-z_]+:', line)))
                if not top: rest.append(line)
            cell.source = '\n'.join(rest).strip() or None


# ---- code cells -------------------------------------------------------------------------------------------------------

def defined(cell) -> list[str]:
    "Public functions and classes that a cell defines; `Class.method` for nbdev's `@patch`."
    names = []
    try: body = ast.parse(cell.source).body
    except SyntaxError: return []
    for o in body:
        if not isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or o.name.startswith('_'): continue
        patched = any(getattr(d, 'id', '') in ('patch', 'patch_to') for d in o.decorator_list) and getattr(o, 'args', None) and o.args.args
        owner = ast.unparse(o.args.args[0].annotation) if patched and o.args.args[0].annotation else None
        names.append(f'{owner}.{o.name}' if owner else o.name)
    return names


def anchors(names): return ''.join(f'<span class="cl-anchor" id="{n}"></span>' for n in names)
def raw_html(html): return f'`````{{raw}} html\n{html}\n`````'


def strip(names: list[str], module: str, up: str) -> str:
    "The line above a cell of exported source: what it defines, linked to the API pages."
    link = lambda n: f'<a href="{up}api/{module}.html#{module}.{n}"><code>{n}</code></a>'
    return raw_html(anchors(names) + f'<div class="cl-exported"><span>{module}</span>{"".join(map(link, names))}</div>')


class Code(Processor):
    "Flags of nbdev: what is hidden, what is shown as source, what as a documentation card; folded and skipped cells."
    def __init__(self, nb): self.nb, self.api, self.module, self.up = nb, {}, None, ''
    def begin(self):
        out, seen = [], set()
        self.nb.names = []
        for cell in self.nb.cells:
            if cell.cell_type != 'code': out.append(cell); continue
            flags = set(cell.directives_ or {})
            if 'default_exp' in flags or 'hide' in flags: continue
            names = defined(cell) if flags & set(EXPORTS) else []
            self.nb.names += [n for n in names if n not in self.nb.names]
            if m := re.match(r'\s*show_doc\(\s*([\w.]+)', cell.source):
                out.append(self.card(m[1], m[1] not in seen)); seen.add(m[1]); continue
            if 'export' in flags or 'exporti' in flags:
                if not any(o.get('output_type') == 'display_data' for o in cell.get('outputs', [])):
                    out += [self.card(n, n not in seen) for n in names if n in self.api]; seen.update(names)
                    continue
                cell.metadata['tags'] = [*cell.metadata.get('tags', []), 'remove-input']
            elif 'exports' in flags:
                cell.metadata['tags'] = [*cell.metadata.get('tags', []), 'cl-exports']
                fresh = [n for n in names if n not in seen and n in self.api]; seen.update(names)
                if fresh: out.append(mk_cell(strip(fresh, self.module, self.up), 'markdown'))
            out.append(self.folded(cell, flags))
        for cell in out: cell.directives_ = getattr(cell, 'directives_', None) or {}
        self.nb.cells = out

    def card(self, name, first):
        item = self.api.get(name)
        if item is None: return mk_cell(f'`{name}`', 'markdown')
        return mk_cell((raw_html(anchors([name])) + '\n\n' if first else '') + card(item, index=False), 'markdown')

    def folded(self, cell, flags):
        tags, meta = set(cell.metadata.get('tags', [])), cell.metadata
        if tags & {'hide-input', 'hide-cell'} or meta.get('jupyter', {}).get('source_hidden') or 'code-fold' in flags:
            solution = cell.source.lstrip().lower().startswith('# solution')
            if solution: cell.source = cell.source.lstrip().split('\n', 1)[-1]
            what = 'Solution' if solution else 'Show the code'
            meta['tags'] = [*(tags - {'hide-input', 'hide-cell'}), 'hide-cell' if solution else 'hide-input'] + ['cl-solution']*solution
            meta['mystnb'] = dict(code_prompt_show=what, code_prompt_hide=what)
        for flag in flags & {'cuda', 'slow'}: meta['tags'] = [*meta.get('tags', []), f'cl-{flag}']
        return cell


# ---- outputs ----------------------------------------------------------------------------------------------------------

def needs_plotly(html: str) -> bool:
    "Does a widget of this output draw with plotly? An unreadable payload counts as yes."
    for m in re.finditer(r'<script type="application/json" class="cl-data">(.*?)</script>', html, re.S):
        try:
            raw = gzip.decompress(base64.b64decode(json.loads(m[1])['payload']))
            kind = json.loads(raw[4:4 + struct.unpack('<I', raw[:4])[0]])['tree']['d']['kind']
            if kind.get('c') in ('image', 'png'): continue
        except Exception: pass
        return True
    return False


class Outputs(Processor):
    "Outputs as the page needs them: no script of their own, no mime types that a page cannot show; claims and stills are recorded."
    def begin(self): self.nb.widgets, self.nb.stills, self.nb.plotly = 0, [], False
    def cell(self, cell):
        if cell.cell_type != 'code': return
        cell.execution_count = None
        for o in cell.get('outputs', []):
            if 'execution_count' in o: o['execution_count'] = None
            data = o.get('data')
            if not data: continue
            for mime in [m for m in data if m == CLAIM or 'vnd.' in m or (m == 'text/plain' and 'text/html' in data)]: del data[mime]
            if 'text/html' in data: data['text/html'] = self.html(''.join(data['text/html']))
        cell.outputs = [o for o in cell.get('outputs', []) if o.get('data') or o['output_type'] in ('stream', 'error')]

    def html(self, html):
        html = re.sub(r'<script class="cl-driver">.*?</script>', '', html, flags=re.S)
        n = len(re.findall(r'class="courselib-widget"', html))
        self.nb.widgets += n
        if n: self.nb.plotly |= needs_plotly(html)
        for m in re.finditer(r'<img src="data:image/png;base64,([^"]+)"', html):
            moves = '"controls":[{' in html
            self.nb.stills.append((not moves, m[1]))
        return re.sub(r'(<a href=")(\w+\.ipynb)"', lambda m: f'{m[1]}{docname(Path(m[2]))}.html"', html)    # a notebook of the same folder is a page of the same folder


# ---- markdown ---------------------------------------------------------------------------------------------------------

CALLOUTS = dict(note='note', tip='tip', warning='warning', caution='caution', important='important')


def quarto_to_myst(text: str) -> str:
    "Callouts, fenced divs and heading attributes of Quarto in MyST's words; code blocks are left alone."
    out, stack, fence = [], [], None
    for line in text.split('\n'):
        if m := re.match(r'\s*(```+|~~~+)', line):
            fence = None if fence and line.strip().startswith(fence) else fence or m[1]
        elif fence is None:
            if m := re.match(r'(:{3,})\s*\{\.callout-(\w+)[^}]*\}\s*$', line):
                title = re.search(r'title="([^"]*)"', line)
                stack.append(m[1])
                line = f'{m[1]}{{admonition}} {title[1]}\n:class: {CALLOUTS.get(m[2], "note")}' if title else f'{m[1]}{{{CALLOUTS.get(m[2], "note")}}}'
            elif m := re.match(r'(:{3,})\s*\{([^}]*)\}\s*$', line):
                if re.match(r'\{?[a-z]', m[2]): out.append(line); stack.append(m[1]); continue     # MyST already
                stack.append(m[1])
                line = f'{m[1]}{{div}} ' + ' '.join(c[1:] for c in m[2].split() if c.startswith('.'))
            elif re.match(r':{3,}\s*$', line) and stack: line = stack.pop()
            elif m := re.match(r'(#{1,6} .*?)\s*\{([^}]*)\}\s*$', line):
                label = re.search(r'#([\w-]+)', m[2])
                line = (f'({label[1]})=\n' if label else '') + m[1]
        out.append(line)
    return '\n'.join(out)


class Markdown(Processor):
    "Prose: Quarto's words, links between notebooks, pictures."
    def __init__(self, nb): self.nb, self.path, self.nbs = nb, None, None
    def begin(self): self.nb.pictures = []
    def cell(self, cell):
        if cell.cell_type != 'markdown': return
        text = quarto_to_myst(cell.source)
        text = re.sub(r'(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)', self.link, text)
        text = re.sub(r'(!\[[^\]]*\]\()(?![a-z]+:)([^)\s]+)', self.picture, text)
        cell.source = re.sub(r'(<img[^>]*src=")(?![a-z]+:)([^"]+)', self.picture, text)

    def link(self, m):
        "A link to another notebook or to a file of the repository, as the site has it."
        target, where = (self.path.parent/m[2]).resolve(), m[3] or ''
        up, html = '../'*docname(self.path.relative_to(self.nbs)).count('/'), lambda href: f'<a href="{href}">{m[1]}</a>'
        if target.suffix == '.ipynb' and target.is_relative_to(self.nbs.resolve()):
            page = docname(target.relative_to(self.nbs.resolve()))
            return html(f'{up}{page}.html{where}') if where or page == 'index' else f'[{m[1]}](/{page}.ipynb)'
        if target.name == 'CONTRIBUTING.md': return html(f'{up}contributing.html{where}')
        if target.name == 'LICENSE': return html(f'{up}_static/LICENSE')
        if not target.exists() or not target.is_relative_to(self.nbs.resolve().parent): return m[0]
        return html(f'{REPOSITORY}/{"tree" if target.is_dir() else "blob"}/{BRANCH}/{target.relative_to(self.nbs.resolve().parent).as_posix()}')

    def picture(self, m):
        src = (self.path.parent/m[2]).resolve()
        if not src.is_file(): self.nb.pictures.append((src, '')); return m[0]
        name = f'{src.stem}-{hashlib.sha1(src.read_bytes()).hexdigest()[:8]}{src.suffix}'
        self.nb.pictures.append((src, name))
        return f'{m[1]}/_pictures/{name}'


# ---- one notebook -----------------------------------------------------------------------------------------------------

def imported(nb) -> dict[str, str]:
    "Names that the notebook imports from courselib: local name -> 'module.name'."
    found = {}
    for cell in nb.cells:
        if cell.cell_type != 'code' or 'courselib' not in cell.source: continue
        try: tree = ast.parse('\n'.join('' if l.startswith(('%', '!')) else l for l in cell.source.split('\n')))
        except SyntaxError: continue
        for o in ast.walk(tree):
            if isinstance(o, ast.ImportFrom) and (o.module or '').split('.')[0] == 'courselib':
                for a in o.names: found[a.asname or a.name] = f'{o.module}.{a.name}'
            elif isinstance(o, ast.Import):
                for a in o.names:
                    if a.name.startswith('courselib') and a.asname: found[a.asname] = a.name
    return found


def thumbnail(stills, dest: Path) -> bool:
    "The first moving figure's still (else the first still) as a small webp."
    from PIL import Image
    if not stills: return False
    im = Image.open(io.BytesIO(base64.b64decode(min(stills, key=lambda s: s[0])[1]))).convert('RGB')
    im.thumbnail((520, 520))
    dest.parent.mkdir(parents=True, exist_ok=True)
    im.save(dest, 'webp', quality=72, method=4)
    return True


def head(r: dict) -> str:
    "What stands under the title, as far as the notebook itself knows it (and search should find it); conf.py adds the rest at the mark."
    o = f'<p class="cl-lead">{inline(r["description"])}</p>' if r['description'] else ''
    if r['paper']:
        arxiv = f'<a class="cl-arxiv" href="https://arxiv.org/abs/{escape(r["arxiv"])}">arXiv {escape(r["arxiv"])}</a>' if r['arxiv'] else ''
        by = ' · '.join(escape(str(x)) for x in (r['authors'], r['year']) if x)
        o += f'<dl class="cl-head"><div><dt>paper</dt><dd><cite>{escape(r["paper"])}</cite><span class="cl-by">{by}</span>{arxiv}</dd></div><!-- rows --></dl>'
    elif r['module']: o += '<dl class="cl-head"><!-- rows --></dl>'
    return o or '<!-- rows -->'


def process(path: Path, nbs: Path, api: dict, thumbs: Path) -> tuple[dict, dict]:
    "Notebook `path` -> (notebook for myst-nb, record). `api`: documentation of its module's names."
    nb, source = read_nb(path), Notebook(path, nbs.parent)
    exp = next((m[1] for c in nb.cells if c.cell_type == 'code' and (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M))), None)
    uses = imported(nb)
    code, md = Code(nb), Markdown(nb)
    code.api, md.path, md.nbs = api, path, nbs
    code.module, code.up = f'courselib.{exp}', '../'*docname(path.relative_to(nbs)).count('/')
    NBProcessor(nb=nb, procs=[populate_language, FrontMatter(nb), strip_ansi, hide_line, filter_stream_, rm_header_dash, code, ai_magics,
                              clean_magics, hide_, md, Outputs(nb), strip_hidden_metadata], process=True)
    fm, doc, thumb = source.front, docname(path.relative_to(nbs)), f'{docname(path.relative_to(nbs)).replace("/", ".")}.webp'
    record = dict(
        docname=doc, source=f'nbs/{source.rel}', kind='home' if source.kind == 'index' else source.kind, folder=source.folder,
        part=part_of(source.folder) if source.folder else None, slug=source.slug, module=f'courselib.{exp}' if exp else None, title=fm.get('title', source.slug),
        **{k: fm.get(k, '') for k in ('description', 'paper', 'authors', 'year', 'arxiv', 'level')}, needs=source.needs, claims=source.claims,
        widgets=nb.widgets, plotly=nb.plotly, names=nb.names, uses=uses, thumb=thumb if thumbnail(nb.stills, thumbs/thumb) else None,
        pictures=[(str(s), n) for s, n in nb.pictures])
    nb.cells[:0] = [mk_cell(f'# {record["title"]}', 'markdown'), mk_cell(raw_html(head(record)), 'markdown')]
    return clean(nb2dict(nb)), record


def clean(d: dict) -> dict:
    "Only what nbformat knows, in its words."
    cells = []
    for c in d['cells']:
        if not c.get('source') and not c.get('outputs'): continue
        meta = {k: v for k, v in c.get('metadata', {}).items() if k in ('tags', 'mystnb', 'jupyter')}
        cell = dict(cell_type=c['cell_type'], metadata=meta, source=c['source'])
        if c['cell_type'] == 'code': cell |= dict(execution_count=None, outputs=c.get('outputs', []))
        cells.append(cell)
    meta = dict(kernelspec=dict(display_name='python3', language='python', name='python3'), language_info=dict(name='python'))
    return dict(cells=cells, metadata=meta, nbformat=4, nbformat_minor=4)
