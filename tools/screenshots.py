"""Make the pictures of README and docs again, from the built site: `python tools/screenshots.py` -> images/.

A picture of a widget, one that moves (gif), the landing page, the claims table, the course map. Needs Chromium.
"""
import argparse, asyncio, io, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT/'tests'), str(ROOT/'tools')]

import browser as B
from course import Notebook, find

IMAGES = ROOT/'images'


def save(png: bytes, path: Path, colors: int = 128):
    "A small PNG: few colours, no metadata."
    from PIL import Image
    im = Image.open(io.BytesIO(png)).convert('RGB').quantize(colors, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    im.save(path, optimize=True)
    print(f'{path.relative_to(ROOT)}: {path.stat().st_size/1000:.0f} kB')


def save_gif(pngs: list[bytes], path: Path, ms: int = 260, colors: int = 128, width: int = 760):
    "Frames as a looping gif that stays longer on its first and last picture."
    from PIL import Image
    frames = []
    for p in pngs:
        im = Image.open(io.BytesIO(p)).convert('RGB')
        frames.append(im.resize((width, round(im.height*width/im.width)), Image.Resampling.LANCZOS) if im.width > width else im)
    sheet = Image.new('RGB', (frames[0].width, frames[0].height*3), 'white')
    for i, f in enumerate((frames[0], frames[len(frames)//2], frames[-1])): sheet.paste(f, (0, i*f.height))
    palette = sheet.quantize(colors, method=Image.Quantize.FASTOCTREE)
    frames = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[900] + [ms]*(len(frames) - 2) + [1200], loop=0, optimize=True)
    print(f'{path.relative_to(ROOT)}: {path.stat().st_size/1000:.0f} kB, {len(frames)} frames')


async def picture(page, root, margin: int = 14) -> bytes:
    "The widget with a margin, where the page's other things are hidden."
    await root.scroll_into_view_if_needed()
    box = await root.bounding_box()
    return await page.screenshot(clip=dict(x=box['x'] - margin, y=box['y'] - margin, width=box['width'] + 2*margin, height=box['height'] + 2*margin), full_page=False)


async def widget(page, base, nb: Notebook, steps: int):
    "The first widget with controls on a chapter's page: a still, and one picture for each step of its first slider."
    await page.goto(f'{base}/{nb.name}.html')
    await page.wait_for_function(B.READY, timeout=60_000)
    root = page.locator('div.courselib-widget').filter(has=page.locator('[data-control]')).first
    await root.evaluate("r => { for (const el of document.querySelectorAll('.cell_input, .bd-header, .copybtn')) el.style.visibility = 'hidden'; r.style.margin = '0'; r.closest('.cell').previousElementSibling?.remove(); }")
    controls = await root.evaluate(B.CONTROLS)
    save(await picture(page, root), IMAGES/f'{nb.slug}.png')
    slider = next((c for c in controls if c['kind'] == 'range' and c['n'] > 2), None)
    if slider is None: return
    el, frames = root.locator(f'[data-test="{slider["i"]}"]'), []
    await el.focus()
    await page.keyboard.press('Home')
    await page.evaluate("document.activeElement.blur()")
    for k in range(min(steps, slider['n'])):
        if k: await el.focus(); await page.keyboard.press('ArrowRight')
        await B.settle(page, root)
        await page.evaluate("document.activeElement.blur()")
        frames.append(await picture(page, root))
    save_gif(frames, IMAGES/f'{nb.slug}.gif')


async def shoot(chapter: str, steps: int):
    async with B.browser() as b:
        with B.serve(ROOT/'_docs') as base:
            page = await (await b.new_context(viewport=dict(width=1280, height=860), color_scheme='light')).new_page()
            nb = Notebook(find(chapter))
            await widget(page, base, nb, steps)
            for name, to in (('index', 'index'), ('claims', 'claims'), ('map', 'map'), (nb.name, 'chapter')):
                await page.goto(f'{base}/{name}.html')
                await page.wait_for_function(B.READY, timeout=60_000)
                await page.wait_for_timeout(400)
                save(await page.screenshot(), IMAGES/f'site_{to}.png')


def main():
    ap = argparse.ArgumentParser(description='Make the pictures of README and docs again.')
    ap.add_argument('--chapter', default='continual/stability_gap', help='whose widget stands for the course')
    ap.add_argument('--steps', type=int, default=16, help='pictures of the gif, at most')
    a = ap.parse_args()
    if why := B.no_browser(): sys.exit(f'screenshots: {why}')
    try: find(a.chapter)
    except ValueError as e: sys.exit(f'screenshots: {e}')
    IMAGES.mkdir(exist_ok=True)
    if subprocess.run([sys.executable, ROOT/'tools'/'site'/'build.py']).returncode: sys.exit('screenshots: the site does not build')
    asyncio.run(shoot(a.chapter, a.steps))


if __name__ == '__main__': main()
