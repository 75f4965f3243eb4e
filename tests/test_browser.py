"""A chapter in real JupyterLab, as a reader meets it: run, saved and not trusted, trusted without a kernel."""
import asyncio, contextlib, json, os, re, secrets, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

import browser as B
from course import ROOT, Notebook, paths

pytestmark = pytest.mark.skipif(B.no_browser() is not None, reason=str(B.no_browser()))


def alive(nb): return [c for c in nb.code if re.search(r'\bexplore\(', c.source) and 'hide' not in c.flags and any('courselib-widget' in ''.join(o.get('data', {}).get('text/html', '')) for o in c.outputs)]


def chosen() -> list[Notebook]:
    "LAB_CHAPTERS=all takes every chapter, LAB_CHAPTERS='part/slug ...' these; without it one: the stability gap, or the first with a widget. LAB_SHOTS=folder keeps a picture of each live widget."
    wanted, books = os.environ.get('LAB_CHAPTERS', ''), [nb for nb in map(Notebook, paths()) if nb.kind in ('chapter', 'core') and alive(nb)]
    if wanted == 'all': return [nb for nb in books if nb.kind == 'chapter']
    if wanted: return [nb for nb in books if nb.name in wanted.split()]
    return sorted(books, key=lambda nb: (nb.name != 'continual/stability_gap', nb.kind != 'chapter'))[:1]


# ---- a server of its own --------------------------------------------------------------------------------------------------

class Lab:
    "A JupyterLab server whose settings, keys and notebooks live in a temporary folder."
    def __init__(self, home: Path):
        self.home, self.token, self.root = home, secrets.token_hex(16), home/'notebooks'
        self.root.mkdir(parents=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith('JUPYTER') and k != 'COURSELIB_WIDGETS'} | dict(
            HOME=str(home), JUPYTER_CONFIG_DIR=str(home/'config'), JUPYTER_DATA_DIR=str(home/'data'), JUPYTER_RUNTIME_DIR=str(home/'runtime'), IPYTHONDIR=str(home/'ipython'),
            PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]), OMP_NUM_THREADS='1')
        settings = home/'config'/'lab'/'user-settings'/'@jupyterlab'/'apputils-extension'/'notification.jupyterlab-settings'
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(dict(fetchNews='false', checkForUpdates=False)))      # it would ask the network
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); self.port = s.getsockname()[1]
        self.url, self.log = f'http://127.0.0.1:{self.port}', open(home/'log.txt', 'w')

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--ServerApp.port={self.port}', '--ServerApp.port_retries=0', '--ServerApp.ip=127.0.0.1',
                                         f'--IdentityProvider.token={self.token}', f'--ServerApp.root_dir={self.root}', '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly'],
                                        env=self.env, stdout=self.log, stderr=subprocess.STDOUT, cwd=self.home)
        for _ in range(600):
            assert self.process.poll() is None, f'JupyterLab does not start:\n{(self.home/"log.txt").read_text()[-3000:]}'
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'{self.url}/api?token={self.token}', timeout=5).close()
                return self
            time.sleep(.1)
        raise AssertionError(f'JupyterLab does not answer:\n{(self.home/"log.txt").read_text()[-3000:]}')

    def __exit__(self, *a):
        self.process.terminate()
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        self.log.close()

    def put(self, nb: Notebook, name: str, keep_outputs: bool) -> str:
        "A copy of a notebook in the server's folder; its name. Without outputs it is to be run: as in CI, its slow and GPU cells are left out."
        raw = json.loads(nb.path.read_text())
        for c, seen in zip(raw['cells'], nb.cells):
            if keep_outputs or seen.kind != 'code': continue
            c['outputs'], c['execution_count'] = [], None
            if seen.flags & {'slow', 'cuda'}: c['source'] = '# left out'
        (self.root/name).write_text(json.dumps(raw))
        return name

    def trust(self, name: str):
        subprocess.run([sys.executable, '-m', 'jupyter', 'trust', str(self.root/name)], env=self.env, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp('lab')) as server: yield server


# ---- a page of it -----------------------------------------------------------------------------------------------------------

MODEL = "() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()"
BUSY = """() => { const w = window.jupyterapp && window.jupyterapp.shell.currentWidget; return !w || !w.sessionContext || !w.sessionContext.isReady || !w.content.model || w.content.model.cells.length < 2; }"""


HERE = '.jp-Notebook .jp-Cell.jp-mod-active div.courselib-widget'      # the widget of the cell that was scrolled to


@contextlib.asynccontextmanager
async def opened(lab, name, width=1300):
    "A page with notebook `name` open, and its watch."
    async with B.browser() as b:
        p = await b.new_page(viewport=dict(width=width, height=1000))
        p.set_default_timeout(120_000)
        watch = await B.Watch(lab.url).on(p)
        await p.goto(f'{lab.url}/lab/tree/{name}?token={lab.token}&reset')
        await p.wait_for_function(f'() => !({BUSY})()', timeout=120_000)
        yield p, watch


async def show(p, cell: int):
    "Scroll to a cell: JupyterLab draws only what is near the window."
    await p.evaluate("""i => { const n = window.jupyterapp.shell.currentWidget.content; n.activeCellIndex = i; return n.scrollToItem(i, 'start'); }""", cell)
    await p.wait_for_timeout(300)


STATE = """() => { const w = window.jupyterapp.shell.currentWidget, cells = [...w.content.model.cells].filter(c => c.type === 'code' && c.sharedModel.source.trim());
  return {waiting: cells.filter(c => !c.executionCount).map(c => c.sharedModel.source.slice(0, 80)), kernel: w.sessionContext.session?.kernel?.status, busy: cells.filter(c => c.executionState === 'running').length}; }"""


async def run_all(p, seconds=420) -> float:
    "Run every cell, wait for the end; the seconds it took."
    start = time.perf_counter()
    await p.evaluate("async () => { const app = window.jupyterapp; await app.shell.currentWidget.sessionContext.ready; app.commands.execute('notebook:run-all-cells'); }")
    while True:
        now = await p.evaluate(STATE)
        if not now['waiting'] and not now['busy'] and now['kernel'] == 'idle': return time.perf_counter() - start
        if errors(await p.evaluate(MODEL)): return time.perf_counter() - start      # JupyterLab stops at the first error; the caller reports it
        if time.perf_counter() - start > seconds: raise AssertionError(f'{len(now["waiting"])} cells still wait after {seconds} s (kernel {now["kernel"]}), the first: {now["waiting"][:1]}')
        await asyncio.sleep(.3)


def errors(model) -> list[str]: return [f"{o['ename']}: {o['evalue']}" for c in model['cells'] for o in c.get('outputs', []) if o['output_type'] == 'error']


async def move(p, root) -> tuple[str, list[float]]:
    "Move the widget's first slider (else its first control) by keyboard; ms from key to the finished picture. Fails if the picture stays."
    controls = await root.evaluate(B.CONTROLS)
    c = next((c for c in controls if c['kind'] == 'range' and c['n'] > 1), controls[0])
    el, before, times = root.locator(f'[data-test="{c["i"]}"]'), await B.shown(root), []
    if c['kind'] != 'range':
        await B.press(p, root, c)
        assert await B.shown(root) != before, f'{c["name"]} changes nothing'
        return c['name'], []
    await el.focus()
    at = int(await el.input_value())
    keys = ['ArrowRight']*8 if at < c['n'] - 1 else ['ArrowLeft']*8
    seen = {before}
    for k in keys[:max(1, min(8, c['n'] - 1))]:
        start = time.perf_counter()
        await p.keyboard.press(k)
        await B.settle(p, root)
        times.append(1000*(time.perf_counter() - start))
        seen.add(await B.shown(root))
    assert len(seen) > 1, f'slider {c["name"]} was moved {len(times)} times and the picture stayed the same'
    return c['name'], times


def middle(x): return sorted(x)[len(x)//2] if x else float('nan')


# ---- the three ways in which a reader meets a chapter -------------------------------------------------------------------------

@pytest.mark.parametrize('nb', chosen(), ids=lambda nb: nb.name)
def test_a_chapter_runs_and_its_widget_is_live(lab, nb, record_property):
    name = lab.put(nb, f'{nb.slug}_run.ipynb', keep_outputs=False)
    async def go():
        async with opened(lab, name) as (p, watch):
            took = await run_all(p)
            model = await p.evaluate(MODEL)
            assert not errors(model), errors(model)
            await show(p, alive(nb)[0].i)
            root = p.locator(f'{HERE}[data-mode="live"]').first
            await root.wait_for(state='visible')
            control, times = await move(p, root)
            own = int(await root.get_attribute('data-ms'))
            if os.environ.get('LAB_SHOTS'): await p.screenshot(path=str(Path(os.environ['LAB_SHOTS'])/f'{nb.slug}.png'))
            print(f'\n{nb.name}: ran in {took:.1f} s; slider {control}: {middle(times):.0f} ms (median of {len(times)}, slowest {max(times, default=0):.0f}) from key to picture with a kernel, the last {own} ms by its own clock')
            record_property('live_ms', middle(times))
            for c in alive(nb)[1:]:                                        # the other widgets live as well, and no cell took anything from them
                await show(p, c.i)
                more = p.locator(f'{HERE}[data-mode="live"]').first
                await more.wait_for(state='visible')
                await move(p, more)
            assert not watch.outside, watch.outside
            bad = [c for c in watch.complaints if 'courselib' in c or c.startswith('error')]
            assert not bad, bad
    asyncio.run(go())


@pytest.mark.parametrize('nb', chosen(), ids=lambda nb: nb.name)
def test_a_saved_chapter_that_is_not_trusted_shows_stills(lab, nb):
    name = lab.put(nb, f'{nb.slug}_fresh.ipynb', keep_outputs=True)
    async def go():
        async with opened(lab, name) as (p, watch):
            await show(p, alive(nb)[0].i)
            root = p.locator(HERE).first
            img = root.locator('img')
            await img.wait_for(state='visible')
            assert await img.evaluate('i => i.complete && i.naturalWidth > 100') and len(await img.get_attribute('alt')) > 20
            assert 'run this cell' in await root.inner_text()
            assert await root.locator('[data-control]').count() == 0 and await root.get_attribute('data-mounted') is None
            assert not watch.outside, watch.outside
    asyncio.run(go())


@pytest.mark.parametrize('nb', chosen(), ids=lambda nb: nb.name)
def test_a_saved_and_trusted_chapter_moves_without_a_kernel(lab, nb):
    name = lab.put(nb, f'{nb.slug}_trusted.ipynb', keep_outputs=True)
    lab.trust(name)
    async def go():
        async with opened(lab, name) as (p, watch):
            await p.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
            await show(p, alive(nb)[0].i)
            root = p.locator(f'{HERE}[data-state="ready"]').first
            await root.wait_for(state='visible')
            assert await root.get_attribute('data-mode') == 'frozen'
            control, times = await move(p, root)
            print(f'\n{nb.name}: slider {control}: {middle(times):.0f} ms (median) from key to picture without a kernel')
            assert await p.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel ?? null") is None
            assert not watch.outside, watch.outside
    asyncio.run(go())
