"""The built site in a real browser with nothing but itself to load: widgets move, search finds, links hold, dark and narrow pages read well."""
import ast, asyncio, hashlib, html, json, os, re, subprocess, sys, time
from pathlib import Path
from urllib.parse import unquote

import pytest

import browser as B
from course import ROOT, Notebook, paths

SITE = ROOT/'tools'/'site'
sys.path.insert(0, str(SITE))
DOCS = ROOT/'_docs'
needs_browser = pytest.mark.skipif(B.no_browser() is not None, reason=str(B.no_browser()))
AT_ONCE = int(os.environ.get('SITE_PAGES', 3))      # pages open at the same time

BOOKS = [Notebook(p) for p in paths()]
PAGES = {nb.rel: '/'.join(re.sub(r'^\d+_', '', x) for x in Path(nb.rel).with_suffix('').parts) for nb in BOOKS}
ALIVE = [nb for nb in BOOKS if any('courselib-widget' in ''.join(o.get('data', {}).get('text/html', '')) for c in nb.code if 'hide' not in c.flags for o in c.outputs)]
CHAPTERS = [nb for nb in BOOKS if nb.kind == 'chapter']


def build(*args):
    return subprocess.run([sys.executable, SITE/'build.py', *map(str, args)], capture_output=True, text=True, cwd=ROOT, timeout=1800, env=dict(os.environ, OMP_NUM_THREADS='1'))


@pytest.fixture(scope='session')
def site() -> Path:
    "The built site; only what changed since the last build is made again."
    start, r = time.perf_counter(), build()
    assert r.returncode == 0 and 'WARNING' not in r.stderr, f'the site does not build cleanly:\n{r.stdout}\n{r.stderr}'
    print(f'\nsite: up to date in {time.perf_counter() - start:.1f} s')
    return DOCS


# ---- notebooks to pages, without a browser ------------------------------------------------------------------------------

def test_quarto_becomes_myst():
    from notebooks import quarto_to_myst
    say = quarto_to_myst('::: {.callout-note}\nHm.\n:::\n::: {.callout-tip title="A hint"}\nx\n:::\n## Title {#here .unnumbered}\n```\n::: {.callout-note}\n```')
    assert say.startswith(':::{note}\nHm.\n:::') and ':::{admonition} A hint\n:class: tip' in say
    assert '(here)=\n## Title\n' in say
    assert say.endswith('```\n::: {.callout-note}\n```'), 'code is left alone'


def cell(kind, source, outputs=None, **metadata):
    return dict(cell_type=kind, metadata=metadata, source=source, **(dict(outputs=outputs or [], execution_count=None) if kind == 'code' else {}))


@pytest.fixture
def processed(tmp_path):
    "Process one made-up chapter: cells -> (notebook, record)."
    def run(*cells, api=None):
        from notebooks import process
        path = tmp_path/'nbs'/'09_continual'/'01_trial.ipynb'
        path.parent.mkdir(parents=True, exist_ok=True)
        head = [cell('code', '#| default_exp continual.trial'), cell('markdown', '# A trial\n> One line.\n\n- paper: On trials: a study\n- needs: continual.bench, data\n\nText below.')]
        path.write_text(json.dumps(dict(cells=head + list(cells), metadata={}, nbformat=4, nbformat_minor=5)))
        return process(path, tmp_path/'nbs', api or {}, tmp_path/'thumbs')
    return run


def sources(nb): return [''.join(c['source']) for c in nb['cells']]


def test_front_matter_leaves_the_text_and_reaches_the_record(processed):
    nb, r = processed()
    text = sources(nb)
    assert text[0] == '# A trial' and text[2:] == ['Text below.'] and 'One line.' in text[1] and 'On trials: a study' in text[1]
    assert (r['docname'], r['title'], r['paper'], r['needs'], r['module']) == ('continual/trial', 'A trial', 'On trials: a study', ['continual.bench', 'data'], 'courselib.continual.trial')


def test_flags_decide_what_is_shown(processed):
    nb, r = processed(cell('code', '#| export\ndef hidden(x): ...'), cell('code', '#| exports\ndef seen(x): ...'), cell('code', '#| hide\nsecret = 1'), cell('code', 'plain = 1'),
                      cell('code', '#| cuda\ny = 1'), api={n: dict(name=n, kind='function', params=[], ret={}, doc='What it does.', source='') for n in ('hidden', 'seen')})
    text = '\n'.join(sources(nb))
    assert 'def hidden' not in text and 'What it does.' in text and '{py:function} hidden()' in text
    assert 'def seen(x): ...' in text and '#|' not in text and 'id="seen"' in text
    assert 'secret' not in text and 'plain = 1' in text
    assert 'cl-cuda' in next(c for c in nb['cells'] if 'y = 1' in c['source'])['metadata']['tags']
    assert r['names'] == ['hidden', 'seen']


def test_solutions_are_folded(processed):
    nb, _ = processed(cell('code', '# Solution\ndef f(): return 1', tags=['hide-input'], jupyter=dict(source_hidden=True)))
    meta = nb['cells'][-1]['metadata']
    assert 'hide-cell' in meta['tags'] and meta['mystnb']['code_prompt_show'] == 'Solution' and not sources(nb)[-1].startswith('#')


def test_outputs_lose_scripts_and_private_mime_types(processed):
    from courselib.claims import MIME
    widget = '<div class="courselib-widget"><script type="application/json" class="cl-data">{"payload": "x", "controls":[{}]}</script><script class="cl-driver">long</script></div>'
    out = dict(output_type='display_data', metadata={}, data={'text/html': [widget], 'text/plain': ['W'], MIME: dict(id='a', verdict='holds'), 'application/vnd.plotly.v1+json': {}})
    nb, r = processed(cell('code', 'w', [out]))
    assert list(nb['cells'][-1]['outputs'][0]['data']) == ['text/html'] and 'cl-driver' not in json.dumps(nb) and 'cl-data' in json.dumps(nb)
    assert r['claims'] == [dict(id='a', verdict='holds')] and r['widgets'] == 1 and r['plotly']


def test_signatures_are_as_written():
    from apidoc import _item, signature, table
    from fastcore.docments import docments     # the generator reads a function of the library as any other
    item = _item('docments', docments)
    assert signature(item) == '(s, full=False, eval_str=False, returns=True, args_kwargs=False)'
    import courselib.train as t
    item = _item('fit', t.fit)
    assert '<function' not in signature(item) and 'loss=F.cross_entropy' in signature(item).replace(' = ', '=').replace('loss: Callable=', 'loss=')
    assert table(item).count('<tr') >= len(item['params'])


# ---- the site as files --------------------------------------------------------------------------------------------------

def attributes(text, *names):
    text = re.sub(r'<script\b[^>]*>.*?</script>|<style.*?</style>|<!--.*?-->', lambda m: re.match(r'<script[^>]*>', m[0])[0] if m[0].startswith('<script') else '', text, flags=re.S)
    for tag in re.findall(r'<[a-zA-Z][^>]*>', text):
        for k, v in re.findall(r'\s([\w:-]+)="([^"]*)"', tag):
            if k in names: yield tag, k, html.unescape(v)


@pytest.fixture(scope='session')
def files(site) -> dict[str, str]: return {p.relative_to(site).as_posix(): p.read_text() for p in sorted(site.rglob('*.html'))}


def test_every_notebook_has_a_page(site): assert [p for p in PAGES.values() if not (site/f'{p}.html').exists()] == []


def test_internal_links_resolve(site, files):
    ids = {f: {v for _, _, v in attributes(t, 'id', 'name')} for f, t in files.items()}
    broken = []
    for f, text in files.items():
        for tag, k, url in attributes(text, 'href', 'src', 'xlink:href'):
            if re.match(r'[a-z]+:|//', url): continue
            path, _, frag = url.partition('#')
            path = unquote(path.split('?')[0])
            target = (site/f).parent/path if path else site/f
            name = os.path.normpath(target.relative_to(site)) if target.is_relative_to(site) else None
            if not target.is_file(): broken.append(f'{f}: {url}')
            elif frag and name in ids and unquote(frag) not in ids[name]: broken.append(f'{f}: {url} (no such place)')
    assert not broken, '\n'.join(sorted(set(broken))[:30])


def test_nothing_is_loaded_from_elsewhere(site, files):
    bad = [f'{f}: {tag[:120]}' for f, text in files.items() for tag, k, url in attributes(text, 'src', 'href', 'srcset', 'poster', 'data')
           if re.match(r'(https?:)?//', url) and not tag.startswith('<a ')]
    assert not bad, '\n'.join(bad[:20])
    css = [f'{p.name}: {u}' for p in site.rglob('*.css') for u in re.findall(r'url\(\s*["\']?((?:https?:)?//[^)]*)', p.read_text())]
    assert not css


def test_plotly_is_there_once_and_only_where_it_draws(site, files):
    assert len(list(site.rglob('plotly*.js'))) == 1
    for f, text in files.items():
        assert '<script class="cl-driver"' not in text and len(text) < 3_000_000, f
        if 'plotly.min.js' in text: assert 'courselib-widget' in text, f


def test_claims_table_has_every_record(site, files):
    from courselib.claims import collect
    records = [(nb, r) for nb in CHAPTERS for r in collect(nb.path)]
    rows = re.findall(r'<tr data-verdict="([^"]*)" data-ablation="(\d)"[^>]*>(.*?)</tr>', files['claims.html'], re.S)
    assert sorted((html.unescape(v), a == '1') for v, a, _ in rows) == sorted((r['verdict'], bool(r.get('ablation'))) for _, r in records)
    page = html.unescape(re.sub(r'<[^>]+>', '', files['claims.html']))
    plain = lambda s: re.sub(r'[`\\]', '', s)
    assert [r['says'] for _, r in records if plain(r['says']) not in page] == []
    for v, n in re.findall(r'<button type="button" data-verdict="([^"]*)"[^>]*><b>(\d+)</b>', files['claims.html']):
        assert int(n) == sum(r['verdict'] == v and not r.get('ablation') for _, r in records), v


def test_api_has_every_public_name(files):
    missing = []
    for path in sorted((ROOT/'courselib').rglob('*.py')):
        if path.name.startswith('_'): continue
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        tree = ast.parse(path.read_text())
        names = next((ast.literal_eval(o.value) for o in tree.body if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__'), [])
        defined = {o.name for o in tree.body if isinstance(o, (ast.FunctionDef, ast.ClassDef))}
        text = files.get(f'api/{module}.html')
        if text is None: missing.append(f'{module}: no page')
        else: missing += [f'{module}.{n}' for n in names if n in defined and f'id="{module}.{n}"' not in text]
    assert not missing, missing


def test_map_has_every_chapter_and_need(files):
    nodes = set(re.findall(r'data-doc="([^"]+)"', files['map.html']))
    pages = {PAGES[nb.rel] for nb in BOOKS if nb.kind in ('chapter', 'bench')}
    assert nodes == pages
    edges = set(re.findall(r'data-from="([^"]+)" data-to="([^"]+)"', files['map.html']))
    wanted = {(n.replace('.', '/'), PAGES[nb.rel]) for nb in CHAPTERS for n in nb.needs if n.replace('.', '/') in pages}
    assert edges == wanted
    for nb in CHAPTERS: assert f'href="{PAGES[nb.rel]}.html"' in files['map.html'].split('The same as a list')[1]


def test_chapter_pages_name_their_paper_and_neighbours(files):
    for nb in CHAPTERS:
        text, fm = files[f'{PAGES[nb.rel]}.html'], nb.front
        plain = html.unescape(re.sub(r'<[^>]+>', ' ', text))
        assert fm['paper'] in plain and fm.get('authors', '') in plain and f'make chapter NB={PAGES[nb.rel]}' in plain, nb.rel
        if 'arxiv' in fm: assert f'https://arxiv.org/abs/{fm["arxiv"]}' in text
        for n in nb.needs: assert f'{n.replace(".", "/").split("/")[-1]}.html' in text, f'{nb.rel}: needs {n}'
        assert text.count('<details class="admonition hide') >= sum('# Solution' in c.source for c in nb.code), f'{nb.rel}: solutions are folded'


def state() -> str:
    "A hash of everything the site is made from."
    files = [*paths(), *sorted((ROOT/'courselib').rglob('*.py')), *sorted((ROOT/'tools').rglob('*.py'))]
    return hashlib.sha1(b''.join(p.read_bytes() for p in files)).hexdigest()


def test_a_second_build_has_nothing_to_do(site):
    build()
    start, was = time.perf_counter(), state()
    stamp = {p: p.stat().st_mtime_ns for p in site.rglob('*.html')}
    r = build()
    if state() != was: pytest.skip('somebody changed a notebook just now')
    assert ' 0 processed again' in r.stdout, r.stdout
    again = [p.name for p, t in stamp.items() if p.stat().st_mtime_ns != t and p.name not in ('search.html',)]
    assert len(again) <= 2, f'written again: {again[:10]}'
    print(f'\nsecond build: {time.perf_counter() - start:.1f} s')


# ---- the site in a browser ----------------------------------------------------------------------------------------------

async def visit(context, base: str, page: str) -> dict:
    "Open a page, move everything on it, turn it dark, make it narrow; what was seen."
    out, start = dict(page=page), time.perf_counter()
    p = await context.new_page()
    try:
        watch = await B.Watch(base).on(p)
        await p.set_viewport_size(dict(width=1280, height=900))
        await p.goto(f'{base}/{page}.html')
        await p.wait_for_function(B.READY, timeout=60_000)
        out['load'] = time.perf_counter() - start
        roots = p.locator('div.courselib-widget')
        out['widgets'], out['still'], out['controls'] = await roots.count(), [], 0
        for i in range(out['widgets']):
            root = roots.nth(i)
            controls = await B.exercise(p, root)
            out['controls'] += len(controls)
            out['still'] += [f'widget {i + 1}: {c}' for c in B.unmoved(controls)]
        out['ms'] = [int(await roots.nth(i).get_attribute('data-ms')) for i in range(out['widgets'])]
        out['math'], out['images'] = await p.locator('.katex-error').count(), await p.evaluate(B.BROKEN_IMAGES)
        out['raw_math'] = await p.locator('.math:not(.cl-set)').count()
        out['wide_math'] = await p.evaluate(B.WIDE_MATH)
        await p.evaluate("document.querySelector('.theme-change-button[data-mode=dark]').click()")
        await p.wait_for_timeout(120)
        await p.wait_for_function(B.READY, timeout=60_000)
        out['theme'], out['contrast'] = await p.evaluate('document.documentElement.dataset.theme'), await p.evaluate(B.CONTRAST)
        await p.evaluate("document.querySelector('.theme-change-button[data-mode=light]').click()")
        await p.set_viewport_size(dict(width=390, height=844))
        await p.wait_for_timeout(250)
        await p.wait_for_function(B.READY, timeout=60_000)
        out['overflow'], out['wide'], out['lost'] = await p.evaluate(B.OVERFLOW), await p.evaluate(B.WIDE), await p.evaluate(B.OUTSIDE_CONTROLS)
        out['outside'], out['complaints'] = watch.outside, watch.complaints
    except Exception as e: out['failed'] = f'{type(e).__name__}: {e}'
    finally: await p.close()
    out['seconds'] = time.perf_counter() - start
    return out


async def visit_all(base, pages):
    gate = asyncio.Semaphore(AT_ONCE)
    async with B.browser() as b:
        context = await b.new_context(color_scheme='light')
        async def one(page):
            async with gate: return page, await visit(context, base, page)
        return dict(await asyncio.gather(*map(one, pages)))


OTHERS = ['index', 'claims', 'map', 'search', 'core/index', 'api/index', 'api/courselib.explore']


@pytest.fixture(scope='session')
def seen(site) -> dict[str, dict]:
    "One report a page: all pages with a widget, and one of each other kind, visited side by side in one browser."
    start = time.perf_counter()
    pages = sorted({PAGES[nb.rel] for nb in ALIVE} | set(OTHERS) | {f'{nb.part}/index' for nb in CHAPTERS[:1]})
    with B.serve(site) as base: reports = asyncio.run(visit_all(base, pages))
    took, ms = time.perf_counter() - start, sorted(m for r in reports.values() for m in r.get('ms', []))
    if ms: print(f'\nbrowser: {len(pages)} pages, {sum(r.get("controls", 0) for r in reports.values())} controls in {took:.0f} s ({took/len(pages):.1f} s a page); a drawing takes {ms[len(ms)//2]} ms (median)')
    return reports


def report(seen, page):
    r = seen[page]
    assert 'failed' not in r, f'{page}: {r.get("failed")}'
    return r


@needs_browser
@pytest.mark.parametrize('nb', ALIVE, ids=lambda nb: PAGES[nb.rel])
def test_every_control_of_every_widget_changes_the_picture(seen, nb):
    r = report(seen, PAGES[nb.rel])
    assert r['widgets'] >= 1
    assert not r['still'], f'{nb.rel}: nothing happens at {"; ".join(r["still"])}'


def each_page(seen, f):
    bad = {p: f(report(seen, p)) for p in seen}
    bad = {p: v for p, v in bad.items() if v}
    assert not bad, '\n'.join(f'{p}: {v}' for p, v in bad.items())


@needs_browser
def test_no_page_asks_for_anything_from_elsewhere(seen): each_page(seen, lambda r: r['outside'])


@needs_browser
def test_no_page_complains(seen): each_page(seen, lambda r: r['complaints'])


@needs_browser
def test_formulas_fit_their_column(seen): each_page(seen, lambda r: r['wide_math'])


@needs_browser
def test_mathematics_and_images_are_drawn(seen): each_page(seen, lambda r: [r['math'], r['raw_math'], r['images']] if r['math'] or r['raw_math'] or r['images'] else None)


@needs_browser
def test_plots_read_well_in_the_dark(seen):
    each_page(seen, lambda r: [c for c in r['contrast'] if c[0] < 3] or ([c for c in r['contrast'] if c[0] < 4.5 and 'tick' in c[2]]) or (r['theme'] != 'dark' and 'not dark'))


@needs_browser
def test_phone_width_needs_no_sideways_scrolling(seen): each_page(seen, lambda r: (r['overflow'], r['wide']) if r['overflow'] > 0 or r['wide'] else r['lost'])


def run(site, test, **kw):
    "An async test on one page object of the served site."
    async def go():
        with B.serve(site) as base:
            async with B.browser() as b:
                p = await (await b.new_context(viewport=dict(width=1280, height=900), **kw)).new_page()
                watch = await B.Watch(base).on(p)
                await test(p, base)
                assert not watch.outside and not watch.complaints, (watch.outside, watch.complaints)
    asyncio.run(go())


async def search(p, words):
    await p.keyboard.press('Control+k')
    await p.keyboard.type(words)
    await p.wait_for_selector('#search-results li a', timeout=60_000)
    hits = []
    while len(found := await p.eval_on_selector_all('#search-results li a', 'els => els.map(a => a.href)')) > len(hits):     # results come one by one, as their pages are read
        hits = found
        await p.wait_for_timeout(1000)
    return hits


@needs_browser
def test_search_finds_a_page_by_a_word_of_its_text(site):
    nb = (CHAPTERS or [nb for nb in BOOKS if nb.kind == 'core'])[0]
    from sphinx.search.en import SearchEnglish
    word = max((w for w in re.findall(r'[a-z]{6,}', nb.front['description']) if w not in SearchEnglish.stopwords), key=len)
    async def test(p, base):
        await p.goto(f'{base}/api/courselib.explore.html')
        hits = await search(p, word)
        assert any(f'/{PAGES[nb.rel]}.html' in h for h in hits), f'{word!r}: {hits[:8]}'
        await p.locator(f'#search-results a[href*="{PAGES[nb.rel]}.html"]').first.click()
        await p.wait_for_url(f'**/{PAGES[nb.rel]}.html*')
        assert await p.locator('h1').inner_text() == nb.front['title'] + '#' or nb.front['title'] in await p.locator('h1').inner_text()
        await p.goto(f'{base}/index.html')
        hits = await search(p, 'slider')
        assert any('courselib.explore' in h or 'core/explore' in h for h in hits), hits[:8]
    run(site, test)


@needs_browser
def test_the_search_page_works_without_a_server_and_so_do_widgets(site):
    page = PAGES[ALIVE[0].rel]
    async def go():
        async with B.browser() as b:
            p = await b.new_page()
            watch = await B.Watch(site.as_uri()).on(p)
            await p.goto(f'{site.as_uri()}/search.html?q=slider')
            await p.wait_for_selector('#search-results li a', timeout=60_000)
            await p.goto(f'{site.as_uri()}/{page}.html')
            await p.wait_for_function(B.READY, timeout=60_000)
            assert await p.locator('div.courselib-widget').count() > 0
            assert not watch.outside and not watch.complaints, (watch.outside, watch.complaints)
    asyncio.run(go())


@needs_browser
def test_gallery_filters(site):
    async def test(p, base):
        await p.goto(f'{base}/index.html')
        shown = lambda: p.locator('.cl-card:visible').count()
        assert await shown() == len(CHAPTERS)
        for level in sorted({nb.front['level'] for nb in CHAPTERS}):
            await p.locator(f'.cl-seg button[data-level="{level}"]').click()
            assert await shown() == sum(nb.front['level'] == level for nb in CHAPTERS), level
        if CHAPTERS: await p.locator('.cl-seg button[data-level=""]').click()
        for part in sorted({nb.part for nb in CHAPTERS}):
            await p.locator('.cl-filter select').select_option(part)
            assert await shown() == sum(nb.part == part for nb in CHAPTERS), part
        await p.locator('.cl-filter select').select_option('')
        await p.locator('.cl-filter input[name=words]').fill('no chapter has these words')
        assert await shown() == 0 and await p.locator('.cl-none').is_visible()
    run(site, test)


@needs_browser
def test_claims_filter(site):
    async def test(p, base):
        await p.goto(f'{base}/claims.html')
        rows = p.locator('.cl-claims tbody tr:visible')
        if await p.locator('.cl-claims').count() == 0: return
        total = await rows.count()
        for v in ('holds', 'partly', 'not at this scale'):
            b = p.locator(f'.cl-counts button[data-verdict="{v}"]')
            await b.click()
            assert await b.get_attribute('aria-pressed') == 'true' and {await r.get_attribute('data-verdict') for r in await rows.all()} <= {v}
            await b.click()
        await p.locator('input[name=ablations]').uncheck()
        assert {await r.get_attribute('data-ablation') for r in await rows.all()} <= {'0'} and await rows.count() <= total
    run(site, test)


@needs_browser
def test_the_map_lights_up_what_a_chapter_rests_on(site):
    chapter = next((nb for nb in CHAPTERS if any(n.replace('.', '/') in PAGES.values() for n in nb.needs)), None)
    if chapter is None: pytest.skip('no chapter needs another one yet')
    async def test(p, base):
        await p.goto(f'{base}/map.html')
        await p.locator(f'.cl-node[data-doc="{PAGES[chapter.rel]}"]').focus()
        on = set(await p.eval_on_selector_all('.cl-node.on', 'els => els.map(e => e.dataset.doc)'))
        assert {PAGES[chapter.rel]} | {n.replace('.', '/') for n in chapter.needs if n.replace('.', '/') in PAGES.values() and not n.startswith('core')} <= on | {PAGES[nb.rel] for nb in BOOKS if nb.kind == 'core'}
        await p.keyboard.press('Enter')
        await p.wait_for_url(f'**/{PAGES[chapter.rel]}.html')
    run(site, test)


@needs_browser
def test_keyboard_focus_is_visible_everywhere(site):
    async def test(p, base):
        for page in ('index', 'claims', PAGES[ALIVE[0].rel]):
            await p.goto(f'{base}/{page}.html')
            for _ in range(14):
                await p.keyboard.press('Tab')
                bad = await p.evaluate("""() => { const el = document.activeElement; if (el === document.body) return null; const s = getComputedStyle(el);
                    return s.outlineStyle === 'none' || parseFloat(s.outlineWidth) < 1.5 ? el.outerHTML.slice(0, 120) : null; }""")
                assert bad is None, f'{page}: {bad}'
    run(site, test)


@needs_browser
def test_dark_mode_is_chosen_by_hand_and_remembered(site):
    async def test(p, base):
        await p.goto(f'{base}/index.html')
        theme = lambda: p.evaluate('document.documentElement.dataset.theme')
        assert await theme() == 'light'
        await p.locator('.theme-switch-button:visible').click()
        await p.locator('.theme-change-button[data-mode=dark]:visible').click()
        assert await theme() == 'dark'
        await p.goto(f'{base}/claims.html')
        assert await theme() == 'dark'
        lum = await p.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)/3")
        assert lum < 40
    run(site, test, color_scheme='light')


# ---- the tests' own test: a widget that is broken is found ---------------------------------------------------------------

DEAD = """<!doctype html><div class="courselib-widget" data-state="ready" data-frame="0"><div class="cl-figure"><svg><text>1</text></svg></div>
<label><input type="range" min="0" max="3" value="0" data-control="alive"></label><label><input type="range" min="0" max="3" value="0" data-control="dead"></label>
<select data-control="menu"><option>a<option>b</select><label><input type="checkbox" data-control="only_b"></label></div>
<script>const r = document.querySelector('.courselib-widget'), q = n => r.querySelector(`[data-control=${n}]`), draw = () => {
  r.querySelector('text').textContent = q('alive').value + (q('menu').selectedIndex ? `b${q('only_b').checked}` : 'a'); };
r.addEventListener('input', draw); r.addEventListener('change', draw);</script>"""


@needs_browser
def test_a_dead_control_and_a_foreign_request_are_noticed():
    async def go():
        async with B.browser() as b:
            p = await b.new_page()
            watch = await B.Watch('about:').on(p)
            await p.set_content(DEAD)
            controls = await B.exercise(p, p.locator('.courselib-widget'))
            assert B.unmoved(controls) == ['range dead'], controls      # `only_b` works only with the menu at b, and counts as alive
            await p.evaluate("fetch('https://example.org/x.js').catch(() => 0)")
            await p.evaluate("console.error('hm')")
            await p.wait_for_timeout(100)
            assert watch.outside == ['https://example.org/x.js'] and any('hm' in c for c in watch.complaints)
    asyncio.run(go())
