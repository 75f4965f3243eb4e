"""A real browser for the tests: a local file server, a watch on what a page asks for and complains about, widgets moved by keyboard."""
import asyncio, contextlib, functools, hashlib, http.server, os, shutil, threading
from pathlib import Path

ARGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--no-first-run', '--mute-audio']
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


def chromium() -> str | None:
    "The installed Chromium, or None; the variable CHROMIUM names another."
    return os.environ.get('CHROMIUM') or next((p for n in NAMES if (p := shutil.which(n))), None)


def no_browser() -> str | None:
    "Why browser tests cannot run here, or None."
    if chromium() is None: return f'no Chromium on this machine (looked for {", ".join(NAMES)}); install it or set CHROMIUM'
    try: import playwright
    except ImportError: return 'playwright is not installed (it comes with `make test`)'
    return None


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
    def handle(self):
        with contextlib.suppress(ConnectionError, BrokenPipeError): super().handle()


@contextlib.contextmanager
def serve(folder: Path):
    "A plain file server on a free port; yields its address."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(_Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try: yield f'http://127.0.0.1:{server.server_port}'
    finally: server.shutdown(); server.server_close()


@contextlib.asynccontextmanager
async def browser():
    "Headless Chromium."
    from playwright.async_api import async_playwright
    async with async_playwright() as p:
        b = await p.chromium.launch(executable_path=chromium(), args=ARGS)
        try: yield b
        finally: await b.close()


class Watch:
    "What a page tried to load from elsewhere (and did not get), and everything it complained about."
    def __init__(self, *local): self.local, self.outside, self.complaints = local, [], []

    async def on(self, page):
        await page.route('**/*', self.route)
        page.on('websocket', lambda w: None if self.is_local(w.url) else self.outside.append(w.url))
        page.on('console', lambda m: self.complaints.append(f'console: {m.text}') if m.type == 'error' else None)
        page.on('pageerror', lambda e: self.complaints.append(f'error: {e}'))
        page.on('response', lambda r: self.complaints.append(f'{r.status}: {r.url}') if r.status >= 400 else None)
        return self

    def is_local(self, url): return url.startswith(('data:', 'blob:', 'about:', *self.local)) or url.startswith(tuple(u.replace('http', 'ws', 1) for u in self.local if u.startswith('http')))

    async def route(self, route):
        if self.is_local(route.request.url): return await route.continue_()
        self.outside.append(route.request.url)
        await route.abort()


# ---- widgets ----------------------------------------------------------------------------------------------------------

READY = "() => [...document.querySelectorAll('div.courselib-widget')].every(r => r.dataset.state === 'ready')"
# What the figure shows, as text: the drawing itself, not its attributes for screen readers.
SHOWN = """root => {
  const fig = root.querySelector('.cl-figure');
  if (!fig) return '';
  return [...fig.querySelectorAll('svg')].map(s => s.innerHTML).join('|') + [...fig.querySelectorAll('canvas')].map(c => c.toDataURL()).join('|')
    + [...fig.querySelectorAll('img')].map(i => i.src).join('|');
}"""
CONTROLS = """root => [...root.querySelectorAll('[data-control]')].map((el, i) => {
  el.dataset.test = i;
  const kind = el.matches('button.cl-play') ? 'play' : el.matches('select') ? 'select' : el.type === 'checkbox' ? 'checkbox' : 'range';
  return {i, name: el.dataset.control, item: el.dataset.item || '', kind, n: kind === 'select' ? el.options.length : kind === 'range' ? +el.max - +el.min + 1 : 2, value: el.value};
})"""


async def ready(root, timeout=60):
    "Wait until the widget has drawn its newest state."
    for _ in range(int(timeout/.02)):
        if await root.get_attribute('data-state') == 'ready': return
        await asyncio.sleep(.02)
    raise AssertionError(f'widget is {await root.get_attribute("data-state")!r} after {timeout} s')


async def shown(root) -> str:
    "A hash of what the figure shows now."
    return hashlib.sha1((await root.evaluate(SHOWN)).encode()).hexdigest()


async def settle(page, root):
    "One turn of the page's event loop, then wait for the drawing."
    await page.evaluate('() => new Promise(r => setTimeout(r, 0))')
    await ready(root)


async def press(page, root, c) -> list:
    "Move control `c` through its values by keyboard until the figure changes; the distinct figures seen."
    el = root.locator(f'[data-test="{c["i"]}"]')
    before, seen = await shown(root), []
    await el.focus()
    if c['kind'] == 'play':
        at = await root.get_attribute('data-frame')
        await page.keyboard.press('Enter')
        for _ in range(150):
            await asyncio.sleep(.02)
            if await root.get_attribute('data-frame') != at: break
        await page.keyboard.press('Enter')
        await settle(page, root)
        return [await shown(root)] if await shown(root) != before else []
    keys = ['Space'] if c['kind'] == 'checkbox' else ['ArrowRight']*(c['n'] - 1) + ['Home'] + ['ArrowRight']*(c['n'] - 1) if c['kind'] == 'range' else range(c['n'])
    for k in keys:
        if c['kind'] == 'select': await el.select_option(index=k)
        else: await page.keyboard.press(k)
        await settle(page, root)
        if (now := await shown(root)) != before: return [now]
    return []


async def exercise(page, root) -> list[dict]:
    "Move every control of a widget; says for each whether the figure changed. Controls that act only under other settings get a second chance."
    controls = await root.evaluate(CONTROLS)
    for c in controls:
        if c['kind'] == 'play': c['n'] = next((d['n'] for d in controls if d['name'] == c['name'] and d['kind'] == 'range'), 2)
        c['moved'] = c['n'] < 2 or bool(await press(page, root, c))
    for c in [c for c in controls if not c['moved']]:
        for other in [o for o in controls if o['i'] != c['i'] and o['kind'] in ('select', 'checkbox', 'range') and o['n'] > 1]:
            el = root.locator(f'[data-test="{other["i"]}"]')
            for k in range(min(other['n'] - 1, 4)):
                if other['kind'] == 'select': await el.select_option(index=(await el.evaluate('e => e.selectedIndex') + 1) % other['n'])
                else: await el.focus(); await page.keyboard.press('Space' if other['kind'] == 'checkbox' else 'ArrowRight')
                await settle(page, root)
                c['moved'] = bool(await press(page, root, c))
                if c['moved']: break
            if c['moved']: break
    return controls


def unmoved(controls) -> list[str]:
    "Names of controls that changed nothing."
    return [f'{c["kind"]} {c["name"]}{"/" + c["item"] if c["item"] else ""}' for c in controls if not c['moved']]


# ---- how a page looks -------------------------------------------------------------------------------------------------

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
WIDE = """() => { const w = document.documentElement.clientWidth, inside = el => { for (let p = el.parentElement; p; p = p.parentElement) { const o = getComputedStyle(p).overflowX; if (o === 'auto' || o === 'scroll' || o === 'hidden') return true; } return false; };
  return [...document.querySelectorAll('main *')].filter(el => el.getBoundingClientRect().right > w + 1 && !inside(el)).slice(0, 5).map(el => el.tagName + '.' + el.className); }"""
WIDE_MATH = """() => [...document.querySelectorAll('.katex-display')].filter(e => e.scrollWidth > e.clientWidth + 4).map(e => `${e.scrollWidth} px in ${e.clientWidth}: ${e.textContent.slice(0, 60)}`)"""
OUTSIDE_CONTROLS = """() => [...document.querySelectorAll('.courselib-widget [data-control]')].filter(el => { const b = el.getBoundingClientRect(); return b.width === 0 || b.left < -1 || b.right > document.documentElement.clientWidth + 1; }).map(el => el.dataset.control)"""
# Contrast of every text of every plot against what is behind it (WCAG 2), the worst first.
CONTRAST = """() => {
  const parse = s => (s.match(/[\\d.]+/g) || []).map(Number), lin = v => (v /= 255) <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4;
  const lum = ([r, g, b]) => .2126*lin(r) + .7152*lin(g) + .0722*lin(b);
  const behind = el => { for (let p = el; p; p = p.parentElement) { const c = parse(getComputedStyle(p).backgroundColor); if (c.length && (c[3] === undefined || c[3] > .5)) return c; } return [255, 255, 255]; };
  return [...document.querySelectorAll('.cl-figure svg text')].filter(t => t.textContent.trim() && t.getBoundingClientRect().width).map(t => {
    const a = lum(parse(getComputedStyle(t).fill)), b = lum(behind(t.closest('.cl-figure')));
    return [(Math.max(a, b) + .05)/(Math.min(a, b) + .05), t.textContent, t.getAttribute('class') || ''];
  }).sort((x, y) => x[0] - y[0]).slice(0, 3);
}"""
BROKEN_IMAGES = "() => [...document.images].filter(i => i.complete && !i.naturalWidth && i.loading !== 'lazy').map(i => i.src.slice(0, 100))"
