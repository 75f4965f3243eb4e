"""Build the documentation site: notebooks -> `_proc/` (nbdev's processors) -> `_docs/` (Sphinx).

    python tools/site/build.py              (what `make docs` calls)
"""
import argparse, hashlib, json, os, re, shutil, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
sys.path[1:1] = [str(ROOT), str(ROOT/'tools')]

import course as books
import pages
from parts import CORE, PARTS, part_of


def sha(*parts) -> str: return hashlib.sha1(b'\0'.join(p if isinstance(p, bytes) else str(p).encode() for p in parts)).hexdigest()


def version() -> str:
    "Changes when the code that makes pages from notebooks changes."
    return sha(*[(HERE/f).read_bytes() for f in ('notebooks.py', 'apidoc.py', 'parts.py', '../course.py')])


def write(path: Path, text: str) -> bool:
    "Write `text` unless the file has it already: Sphinx looks at the time."
    if path.exists() and path.read_text() == text: return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def default_exp(path: Path) -> str | None:
    "Module that a notebook exports, without the package's name."
    m = re.search(r'#\|\s*default_exp\s+([\w.]+)', path.read_text())
    return m[1] if m else None


def target(proc: Path, docname: str) -> Path:
    "Where a processed notebook goes; the index is an ingredient of the landing page, not a page."
    return proc/('.cache/index.ipynb' if docname == 'index' else f'{docname}.ipynb')


def other_picture(p) -> bool:
    "Has the picture (file, name with its hash) changed since its notebook was processed?"
    src, name = Path(p[0]), p[1]
    return src.is_file() != bool(name) or bool(name) and hashlib.sha1(src.read_bytes()).hexdigest()[:8] not in name


# ---- notebooks --------------------------------------------------------------------------------------------------------

def read_course(nbs: Path, proc: Path, force: bool, say) -> tuple[list[dict], list[dict]]:
    "Records of all notebooks and documentation of all modules; only what changed is processed again."
    v, records, docs, done = version(), [], [], 0
    start = time.process_time()
    for path in books.paths(nbs.parent):
        exp = default_exp(path)
        mod = ROOT/'courselib'/(exp.replace('.', '/') + '.py') if exp else None
        api = None
        if mod and mod.exists():
            from apidoc import cached
            api = cached(f'courselib.{exp}', mod, proc/'.cache'/'api', v)
            docs.append(api)
        elif mod: say(f'{path.name}: {mod.relative_to(ROOT)} is missing; the page has no documentation cards')
        key = sha(path.read_bytes(), v, api['key'] if api else '')
        store = proc/'.cache'/'records'/(path.relative_to(nbs).as_posix().replace('/', '.') + '.json')
        old = json.loads(store.read_text()) if store.exists() else {}
        if force or old.get('key') != key or not target(proc, old['docname']).exists() or any(map(other_picture, old['pictures'])):
            from notebooks import process
            nb, old = process(path, nbs, {i['name']: i for i in api['items']} if api else {}, proc/'.static'/'thumbs')
            old['key'] = key
            write(target(proc, old['docname']), json.dumps(nb, indent=1))
            for src, name in filter(lambda p: p[1], old['pictures']):
                for d in (proc/'_pictures', proc/'.static'/'pictures'):
                    d.mkdir(exist_ok=True)
                    shutil.copyfile(src, d/name)
            write(store, json.dumps(old))
            done += 1
        records.append(old)
    say(f'{len(records)} notebooks, {done} processed again in {time.process_time() - start:.1f} s of CPU time')
    return records, docs


def resolve(name: str, docs: set[str]) -> str | None:
    "Page of what a `needs` line names: 'continual.bench' or 'data'."
    name = name.removeprefix('courselib.').replace('.', '/')
    return next((d for d in (name, f'core/{name}') if d in docs), None)


def course(records: list[dict], say) -> dict:
    "Parts in order, needs and needed-by, previous and next."
    by = {r['docname']: r for r in records}
    needs = {}
    for r in records:
        needs[r['docname']] = []
        for n in r['needs']:
            d = resolve(n, set(by))
            if d: needs[r['docname']].append(d)
            else: say(f'{r["source"]}: needs {n!r}, which no notebook exports')
    after = {d: [] for d in by}
    for d, ns in needs.items():
        for n in ns: after[n].append(d)
    parts, folders = [], [f'{n}_{s}' for n, s, *_ in PARTS]
    for f in sorted({r['folder'] for r in records if r['kind'] in ('chapter', 'bench', 'overview')}, key=lambda f: (f not in folders, f)):
        mine = [r for r in records if r['folder'] == f]
        one = lambda kind: next((r for r in mine if r['kind'] == kind), None)
        parts.append(part_of(f) | dict(bench=one('bench'), overview=one('overview'), chapters=[r for r in mine if r['kind'] == 'chapter']))
    core = [r for r in records if r['kind'] == 'core']
    order = [r['docname'] for r in core], [r['docname'] for p in parts for r in in_part(p)]
    near = {}
    for seq in order:
        for a, b in zip(seq, seq[1:]): near.setdefault(a, {})['next'] = b; near.setdefault(b, {})['prev'] = a
    claims = [(r, c) for p in parts for r in p['chapters'] for c in r['claims']]
    return dict(by=by, needs=needs, after=after, parts=parts, core=core, near=near, claims=claims)


# ---- generated pages --------------------------------------------------------------------------------------------------

def landing(site: dict, proc: Path) -> str:
    "The landing page as a notebook: hero and gallery, then what the index notebook says besides its start, table and picture."
    from markdown_it import MarkdownIt
    home = site['by'].get('index') or dict(title='courselib', description='Machine-learning papers you can run, poke and check.')
    nb = json.loads(target(proc, 'index').read_text()) if 'index' in site['by'] else dict(cells=[], metadata={}, nbformat=4, nbformat_minor=4)
    text = lambda s: dict(cell_type='markdown', metadata={}, source=s)
    cells = [c for c in nb['cells'][2:] if '<!-- chapters -->' not in ''.join(c['source'])]      # title and head come first
    at = next((i for i, c in enumerate(cells) if c['cell_type'] == 'markdown' and re.match(r'##\s', ''.join(c['source']))), len(cells))
    intro = '\n\n'.join(''.join(c['source']) for c in cells[:at] if c['cell_type'] == 'markdown')
    picture = re.search(r'!\[([^\]]*)\]\(/_(pictures/[^)]+)\)', intro)
    intro = MarkdownIt().render(re.sub(r'!\[[^\]]*\]\([^)]*\)', '', intro)).strip()
    shows = picture and next((r['docname'] for r in site['by'].values() if re.fullmatch(rf'pictures/{r["slug"]}-[0-9a-f]{{8}}\.\w+', picture[2])), None)
    hero = pages.hero(home, intro, (f'_static/{picture[2]}', picture[1], shows) if picture else None, site['parts'], site['claims'], site['core'])
    nb['metadata'] |= dict(orphan=True, **{'html_theme.sidebar_secondary.remove': True})
    nb['cells'] = [text(f'# {home["title"]}'), text(pages.raw(hero)), text('## Chapters'), text(pages.raw(pages.gallery(site['parts']))), *cells[at:]]
    return json.dumps(nb, indent=1)


def contributing() -> str | None:
    "The repository's own page on how a chapter is made."
    src = ROOT/'CONTRIBUTING.md'
    return '---\norphan: true\n---\n' + src.read_text() if src.exists() else None


def overview(p: dict, proc: Path) -> tuple[str, str]:
    "What the overview of a part says up to its table of methods, and the table."
    if not p['overview']: return '', ''
    words, open_ = [], False
    for c in json.loads(target(proc, p['overview']['docname']).read_text())['cells']:
        text = ''.join(c['source'])
        html = ''.join(''.join(o.get('data', {}).get('text/html', '')) for o in c.get('outputs', []))
        if 'class="cl-methods"' in html: return '\n\n'.join(words), html
        if c['cell_type'] == 'markdown' and text.startswith('## '): open_ = True
        if open_ and c['cell_type'] == 'markdown': words.append(text)
        if '## All methods on one bench' in text: open_ = False
    return '\n\n'.join(words), ''


def generate(site: dict, docs: list[dict], proc: Path) -> set[str]:
    "Write every page that is not a notebook; returns all page names of the site."
    made = {}
    for p in site['parts']: made[f'{p["slug"]}/index.md'] = pages.part_page(p, overview(p, proc), site['needs'])
    if site['core']: made['core/index.md'] = pages.library_page(site['core'])
    made['claims.md'] = pages.claims_page(site['claims'])
    made['map.md'] = pages.map_page(site['parts'], site['needs'], site['by'])
    made['api/index.md'] = pages.api_index(docs, {'core': CORE[2]} | {p['slug']: p['title'] for p in site['parts']})
    from apidoc import page
    homes = {r['module']: r for r in site['by'].values() if r['module']}
    for d in docs:
        r = homes.get(d['module'])
        made[f'api/{d["module"]}.md'] = page(d, r['title'] if r else d['module'], f'../{r["docname"]}.html' if r else None)
    if text := contributing(): made['contributing.md'] = text
    for f, text in made.items(): write(proc/f, text)
    write(proc/'index.ipynb', landing(site, proc))
    return {f[:-3] for f in made} | {'index'} | set(site['by'])


def prune(proc: Path, docs: Path, names: set[str]):
    "Remove sources and pages of notebooks that are gone."
    for f in [*proc.rglob('*.ipynb'), *proc.rglob('*.md')]:
        if f.relative_to(proc).parts[0].startswith('.'): continue
        name = f.relative_to(proc).with_suffix('').as_posix()
        if name not in names:
            f.unlink()
            (docs/f'{name}.html').unlink(missing_ok=True)


# ---- frames: what a page shows of other pages --------------------------------------------------------------------------

def label(part: dict | None) -> dict | None: return part and {k: part[k] for k in ('num', 'slug', 'title')}


def in_part(p: dict) -> list[dict]: return [r for r in (p['bench'], *p['chapters'], p['overview']) if r]


def frames(site: dict, docs: list[dict]) -> dict:
    "For each page: header, navigation and links to names; a page is written again when its frame changes."
    public, modules = {f'{d["module"]}.{i["name"]}' for d in docs for i in d['items']}, {d['module'] for d in docs}
    entry = lambda d: dict(doc=d, title=site['by'][d]['title'])
    entries = lambda records: [entry(r['docname']) for r in records]
    beside = {p['slug']: entries(in_part(p)) for p in site['parts']} | {'core': entries(site['core'])}
    out = {}
    for d, r in site['by'].items():
        uses = r['uses'] | ({n: f'{r["module"]}.{n}' for n in r['names'] if '.' not in n} if r['module'] else {})
        named = {r['module'], *uses.values(), *(v.rpartition('.')[0] for v in uses.values())}
        near = site['near'].get(d, {})
        out[d] = {k: r[k] for k in ('kind', 'title', 'description', 'paper', 'authors', 'year', 'arxiv', 'level', 'module', 'slug', 'source', 'plotly')} | dict(
            part=label(r['part']), siblings=beside.get(r['part']['slug'], []) if r['part'] else [], needs=[entry(n) for n in site['needs'][d]], after=[entry(n) for n in site['after'][d]],
            prev=entry(near['prev']) if 'prev' in near else None, next=entry(near['next']) if 'next' in near else None,
            claims=[c['verdict'] for c in r['claims'] if not c.get('ablation')], names={k: v for k, v in uses.items() if v in public}, modules=sorted(named & modules))
    api = {}
    for d in docs: api.setdefault(pages.group(d['module']), []).append(dict(doc=f'api/{d["module"]}', title=d['module'].removeprefix('courselib.')))
    for d in docs: out[f'api/{d["module"]}'] = dict(kind='api', title=d['module'], siblings=api[pages.group(d['module'])])
    titles = {'core': CORE[2]} | {p['slug']: p['title'] for p in site['parts']}
    out['api/index'] = dict(kind='api', title='API reference', siblings=[dict(doc='api/index', at=f'api-{g}', title=titles.get(g, g)) for g in api])
    for p in site['parts']: out[f'{p["slug"]}/index'] = dict(kind='part', title=p['title'], part=label(p), siblings=beside[p['slug']])
    out['core/index'] = dict(kind='core', title='The library', siblings=beside['core'])
    return {d: f | dict(hash=sha(json.dumps(f, sort_keys=True))) for d, f in out.items()}


# ---- the whole --------------------------------------------------------------------------------------------------------

def assets(proc: Path):
    "Files that pages load and that are not this folder's: plotly and the widget driver, as installed; thumbnails."
    import plotly
    static = proc/'.static'
    static.mkdir(exist_ok=True)
    for src in (ROOT/'LICENSE', Path(plotly.__file__).parent/'package_data'/'plotly.min.js', ROOT/'courselib'/'assets'/'explore.js'):
        if not (static/src.name).exists() or sha((static/src.name).read_bytes()) != sha(src.read_bytes()): shutil.copyfile(src, static/src.name)
    (static/'thumbs').mkdir(exist_ok=True)


def build(root=ROOT, proc=ROOT/'_proc', docs=ROOT/'_docs', force=False, jobs=None, strict=False) -> int:
    "Build the site; returns the exit status."
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    nbs, proc, docs = Path(root).resolve()/'nbs', Path(proc).resolve(), Path(docs).resolve()
    start, say = time.perf_counter(), lambda *a: print('docs:', *a, flush=True)
    if not books.paths(nbs.parent): sys.exit(f'docs: no notebooks in {nbs}')
    if force:
        for d in (proc, docs): shutil.rmtree(d, ignore_errors=True)
    proc.mkdir(parents=True, exist_ok=True)
    assets(proc)
    records, api = read_course(nbs, proc, force, say)
    site = course(records, say)
    names = generate(site, api, proc)
    prune(proc, docs, names)
    summaries = {r['docname']: [r['description'], (r['part'] or {}).get('title', '')] for r in records} | {f'api/{d["module"]}': [d['doc'].split('\n')[0], 'API'] for d in api}
    (proc/'site.json').write_text(json.dumps(dict(frames=frames(site, api), summaries=summaries, parts=[label(p) for p in site['parts']])))
    from sphinx.cmd.build import build_main
    look = sha(*[f.read_bytes() for f in (HERE/'conf.py', *sorted((HERE/'templates').glob('*')))])     # changes that Sphinx does not see: write every page
    seen = proc/'.cache'/'look'
    rewrite = ['-a'] if not seen.exists() or seen.read_text() != look else []
    args = [*rewrite, '-b', 'html', '-c', str(HERE), '-d', str(proc/'.doctrees'), '-j', str(jobs or os.cpu_count() or 1), '-q', *(['-W', '--keep-going'] if strict else []), str(proc), str(docs)]
    status = build_main(args)
    if status == 0: seen.write_text(look)
    say(f'{docs.relative_to(ROOT) if docs.is_relative_to(ROOT) else docs}/index.html, {time.perf_counter() - start:.1f} s')
    return status


def main():
    ap = argparse.ArgumentParser(description='Build the documentation site.')
    ap.add_argument('--root', default=ROOT, help='folder whose nbs/ holds the notebooks')
    ap.add_argument('--proc', default=ROOT/'_proc', help='folder of the processed notebooks')
    ap.add_argument('--out', default=ROOT/'_docs', help='folder of the site')
    ap.add_argument('--force', action='store_true', help='build everything again')
    ap.add_argument('--strict', action='store_true', help='warnings are errors')
    ap.add_argument('--jobs', type=int, help='processes (default: one a core)')
    a = ap.parse_args()
    sys.exit(build(a.root, a.proc, a.out, a.force, a.jobs, a.strict))


if __name__ == '__main__': main()
