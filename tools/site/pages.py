"""Pages that no notebook is the source of: landing page, parts, claims, map, API index. Each is MyST text around ready html."""
import re
from html import escape

import coursemap
from apidoc import inline
from parts import LEVELS

VERDICTS = ['holds', 'partly', 'not at this scale']


def raw(html): return f'`````{{raw}} html\n{html}\n`````\n'


def md(title, *blocks, toc=False, search=True):
    "A page: front matter, title, blocks."
    meta = ['orphan: true'] + ([] if toc else ['html_theme.sidebar_secondary.remove: true']) + ([] if search else ['nosearch: true'])
    return '---\n' + '\n'.join(meta) + f'\n---\n# {title}\n\n' + '\n\n'.join(blocks) + '\n'


def attr(s): return escape(str(s), quote=True)


# ---- cards ------------------------------------------------------------------------------------------------------------

def badge(level): return f'<span class="cl-level cl-{attr(level)}">{escape(level)}</span>' if level else ''


def picture(c, up=''):
    "Thumbnail of a chapter; without one, its initials."
    if c['thumb']: return f'<img src="{up}_static/thumbs/{c["thumb"]}" alt="" loading="lazy" decoding="async" width="520" height="300">'
    initials = ''.join(w[0] for w in re.findall(r'[A-Za-z]\w*', c['title'])[:3]).upper()
    return f'<span class="cl-initials" aria-hidden="true">{initials}</span>'


def card(c, up=''):
    "One chapter of the gallery."
    n = len(c['claims'])
    foot = badge(c['level']) + (f'<span>{escape(str(c["year"]))}</span>' if c['year'] else '') + (f'<span>{n} claim{"s"*(n != 1)}</span>' if n else '')
    text = f'{c["title"]} {c["description"]} {c["paper"]} {c["authors"]} {c["year"]}'.lower()
    return (f'<li class="cl-card" data-level="{attr(c["level"])}" data-part="{c["part"]["slug"]}" data-text="{attr(text)}"><a href="{up}{c["docname"]}.html">'
            f'<span class="cl-thumb">{picture(c, up)}</span><span class="cl-cardbody"><strong>{inline(c["title"])}</strong>'
            f'<span class="cl-desc">{inline(c["description"])}</span><span class="cl-foot">{foot}</span></span></a></li>')


def gallery(parts, up=''):
    "Chapters by part, with filters that need no server."
    chapters = [c for p in parts for c in p['chapters']]
    levels = [l for l in LEVELS if any(c['level'] == l for c in chapters)]
    buttons = ''.join(f'<button type="button" data-level="{l}" aria-pressed="{"true" if not l else "false"}">{l or "all levels"}</button>' for l in ['', *levels])
    options = '<option value="">all parts</option>' + ''.join(f'<option value="{p["slug"]}">{int(p["num"])} · {escape(p["title"])}</option>' for p in parts)
    o = [f'<form class="cl-filter" role="search" aria-label="Filter chapters" onsubmit="return false">'
         f'<div class="cl-seg" role="group" aria-label="Level">{buttons}</div>'
         f'<label><span class="visually-hidden">Part</span><select name="part">{options}</select></label>'
         f'<label class="cl-find"><span class="visually-hidden">Words in title, paper or authors</span><input type="search" name="words" placeholder="title, paper, author" autocomplete="off"></label>'
         f'<output class="cl-count" aria-live="polite">{len(chapters)} chapter{"s"*(len(chapters) != 1)}</output></form>']
    for p in parts:
        if not p['chapters']: continue
        o.append(f'<section class="cl-partgroup" data-part="{p["slug"]}"><h3 id="part-{p["slug"]}"><a href="{up}{p["slug"]}/index.html"><span>{int(p["num"])}</span>{escape(p["title"])}</a></h3>'
                 f'<p>{escape(p["line"])}</p><ul class="cl-cards">{"".join(card(c, up) for c in p["chapters"])}</ul></section>')
    return ''.join(o) + '<p class="cl-none" hidden>No chapter fits these filters.</p>'


# ---- landing page -----------------------------------------------------------------------------------------------------

def command(text, what):
    return f'<div class="cl-cmd"><code>{escape(text)}</code><span>{escape(what)}</span><button type="button" class="cl-copy" aria-label="Copy {attr(text)}">copy</button></div>'


def hero(home, intro, picture, parts, claims, library):
    "What the course is, counts, a picture and the two commands."
    chapters = [c for p in parts for c in p['chapters']]
    held = sum(c['verdict'] == 'holds' for _, c in claims if not c.get('ablation'))
    total = sum(not c.get('ablation') for _, c in claims)
    facts = [(len(chapters), 'chapter' + 's'*(len(chapters) != 1), '#chapters'), (total, f'claim{"s"*(total != 1)} measured, {held} hold{"s"*(held == 1)}', 'claims.html'),
             (sum(c['widgets'] for c in chapters), 'live figures', '#chapters'), (len(library), 'library modules', 'core/index.html')]
    facts = ''.join(f'<a href="{u}"><b>{n}</b> {t}</a>' for n, t, u in facts if n)
    first = chapters[0]['docname'] + '.html' if chapters else 'map.html'
    if not picture and (c := next((c for c in chapters if c['thumb']), None)): picture = f'_static/thumbs/{c["thumb"]}', c['title'], c['docname']
    side = f'<a class="cl-heropic" href="{picture[2] + ".html" if picture[2] else first}"><img src="{picture[0]}" alt="{attr(picture[1])}" decoding="async"></a>' if picture else ''
    return (f'<div class="cl-hero"><div class="cl-herotext"><p class="cl-tagline">{inline(home["description"])}</p><div class="cl-intro-text">{intro}</div>'
            f'<p class="cl-actions"><a class="cl-button" href="{first}">Open a chapter</a><a class="cl-button cl-quiet" href="map.html">Course map</a><a class="cl-button cl-quiet" href="claims.html">Claims</a></p>'
            f'<div class="cl-facts">{facts}</div></div>'
            f'<div class="cl-start">{side}{command("make lab", "sets everything up once and opens the course in JupyterLab")}{command("make test", "runs every notebook and all tests")}</div></div>')


# ---- parts ------------------------------------------------------------------------------------------------------------

def linked(kind, record):
    "A wide link to the bench or the overview of a part."
    if not record: return ''
    says = dict(bench='the bench of this part: the data, the baselines and the measures that its chapters share', overview=record['description'])[kind]
    return f'<p class="cl-benchlink"><a href="{kind}.html"><strong>{inline(record["title"])}</strong><span>{inline(says)}</span></a></p>'


def part_page(p, overview=('', ''), needs=None):
    "Chapters of one part, its bench first; with an overview, what it says, its table, and what rests on what."
    bench, (words, table) = p['bench'], overview
    about = f'<p class="cl-lead">{inline(bench["description"] if bench and bench["description"] else p["line"])}</p>'
    cards = raw((about + linked('bench', bench) if not words else linked('bench', bench)) + f'<ul class="cl-cards">{"".join(card(c, "../") for c in p["chapters"])}</ul>')
    if not words: return md(p['title'], cards)
    inside = [dict(p, chapters=([bench] if bench else []) + p['chapters'])]
    arrows = {c['docname']: [n for n in (needs or {}).get(c['docname'], []) if n.split('/')[0] == p['slug']] for c in p['chapters']}
    picture = coursemap.svg(inside, arrows, lambda d: f'../{d}.html', cols=3, named=False)
    return md(p['title'], raw(about), words, raw(table + linked('overview', p['overview'])), '## Chapters', cards, '## What rests on what',
              raw(f'<p>A line leads from a chapter to one that builds on it; every chapter also needs the bench. <a href="../map.html">The whole course</a></p><div class="cl-mapwrap" tabindex="0" role="region" aria-label="Map of this part, scrolls sideways">{picture}</div>'), toc=True)


def library_page(core):
    "The notebooks of the library itself."
    rows = ''.join(f'<a href="{c["slug"]}.html"><code>{c["module"] or c["title"]}</code><span>{inline(c["description"])}</span></a>' for c in core)
    return md('The library', raw('<p class="cl-lead">What every chapter uses. Each module is written as a notebook: the code, an example beside it, and the test that keeps it right.</p>'
                                 f'<nav class="cl-apiindex" aria-label="Library notebooks">{rows}</nav>'))


# ---- claims -----------------------------------------------------------------------------------------------------------

def number(v):
    "Three significant digits, no exponent for everyday sizes."
    if v is None: return '–'
    return f'{v:.3g}' if abs(v) < 1000 else f'{v:,.0f}'


def plot_interval(q, marks):
    "Mean and interval on a small scale that also holds zero and the rule's thresholds, and the seeds as dots; decoration, the numbers stand beside it."
    values, mean, lo, hi = [v for v in q.get('values') or [] if isinstance(v, (int, float))], q['mean'], q.get('lo'), q.get('hi')
    if None in (lo, hi) or not values: return ''
    a, b = min(0, lo, *values, *marks), max(0, hi, *values, *marks)
    x = lambda v: f'{3 + 114*(v - a)/((b - a) or 1):.0f}'
    line = lambda cls, v, y0, y1: f'<path class={cls} d="M{x(v)},{y0}V{y1}"/>'
    dots = ''.join(f'M{x(v)},8h0' for v in values[:12])
    return (f'<svg class=cl-int viewBox="0 0 120 16" aria-hidden=true>{line("z", 0, 1, 15)}' + ''.join(line('t', m, 1, 15) for m in marks)
            + f'<path class=i d="M{x(lo)},8H{x(hi)}"/><path class=d d="{dots}"/>{line("m", mean, 4, 12)}</svg>')


def thresholds(rule):
    "Numbers that a rule's words compare with; an order compares the quantities with each other."
    if 'order' in (rule or ''): return []
    return [float(m) for m in re.findall(r'(?:above|below|at least|at most|between|and) (-?[\d.]+(?:e-?\d+)?)(?![\d%])', (rule or '').split(', with')[0])][:2]


def pieces(c):
    "A claim as (name, rule, quantities): its parts, or the claim itself."
    return [(p['name'], p['rule'], p['quantities']) for p in c.get('parts') or []] or [('', c.get('rule') or '', c.get('quantities') or [c])]


def measured(c):
    "Every quantity that the rule looked at: name, mean, interval, picture; the unit once."
    o, unit = [], escape(c.get('unit') or '')
    for part, rule, quantities in pieces(c):
        for q in quantities:
            if q.get('mean') is None: continue
            name = ': '.join(n for n in (part, q.get('name')) if n)
            span = f' <span>[{number(q["lo"])}, {number(q["hi"])}]</span>' if q.get('lo') is not None else ''
            o.append(f'<div>{f"<i>{escape(name)}</i> " if name else ""}<b>{number(q["mean"])}</b>{span} {unit if not o else ""}{plot_interval(q, thresholds(rule)) if len(o) < 3 else ""}</div>')
    if len(o) > 3: o[2:] = [f'<details class="cl-more"><summary>{len(o) - 2} more</summary>{"".join(o[2:])}</details>']
    return ''.join(o) or '–'


def rule_text(c):
    "The rule in words; parts that share one are named after it."
    same = {}
    for name, rule, _ in pieces(c): same.setdefault(rule, []).append(name)
    return ''.join(f'<div>{inline(r)}' + (f' <span class="cl-for">for {escape("; ".join(n))}</span>' if any(n) else '') + '</div>' for r, n in same.items())


def verdict(c): return f'<span class="cl-verdict" data-verdict="{attr(c["verdict"])}">{escape(c["verdict"])}</span>'


def claims_page(claims):
    "All records of all chapters: (chapter, record)."
    counts = {v: sum(c['verdict'] == v and not c.get('ablation') for _, c in claims) for v in VERDICTS}
    ablations = sum(bool(c.get('ablation')) for _, c in claims)
    total = sum(counts.values())
    boxes = ''.join(f'<button type="button" data-verdict="{v}" aria-pressed="false"><b>{n}</b><span>{v}</span></button>' for v, n in counts.items())
    bar = ''.join(f'<i data-verdict="{v}" style="flex-grow:{n}"></i>' for v, n in counts.items() if n)
    cell = lambda label, html, cls='': f'<td data-label="{label}" class="{cls}">{html}</td>'
    rows = ''.join(
        f'<tr data-verdict="{attr(c["verdict"])}" data-ablation="{int(bool(c.get("ablation")))}" data-part="{ch["part"]["slug"] if ch["part"] else ""}">'
        + cell('chapter', f'<a href="{ch["docname"]}.html">{inline(ch["title"])}</a>')
        + cell('claim', inline(c['says']) + (' <span class="cl-abl">ablation</span>' if c.get('ablation') else '') + (f'<small>{inline(c["note"])}</small>' if c.get('note') else ''), 'cl-says')
        + cell('rule', rule_text(c), 'cl-rule')
        + cell('measured', measured(c), 'cl-num')
        + cell('seeds', number(c.get('n')) + (f' <small class="cl-over">{inline(c["over"])}</small>' if c.get('over') else ''), 'cl-num') + cell('paper', f'<span>{inline(str(c.get("paper") or "–"))}</span>', 'cl-paper') + cell('verdict', verdict(c)) + '</tr>'
        for ch, c in claims)
    head = ''.join(f'<th scope="col">{h}</th>' for h in ('chapter', 'claim', 'rule', 'measured mean [95 % interval]', 'seeds', 'the paper\'s number', 'verdict'))
    note = (f'<p class="cl-lead">What the papers say, what was measured here, and whether it held: {total} claim{"s"*(total != 1)} and {ablations} ablation{"s"*(ablations != 1)}. The rule was written down '
            'before the experiment ran. A claim that does not hold at this scale is published like any other; an ablation switches the paper\'s key term off, to see the claim fall.</p>')
    board = f'<div class="cl-board"><div class="cl-counts" role="group" aria-label="Show only one verdict">{boxes}</div><div class="cl-bar" aria-hidden="true">{bar}</div></div>'
    tools = ('<form class="cl-filter cl-claimfilter" onsubmit="return false"><label><input type="checkbox" name="ablations" checked> show ablations</label>'
             '<label class="cl-find"><span class="visually-hidden">Words in a claim or a chapter</span><input type="search" name="words" placeholder="words in claim or chapter" autocomplete="off"></label>'
             f'<output class="cl-count" aria-live="polite">{len(claims)} rows</output></form>')
    table = f'<div class="cl-tablewrap"><table class="cl-claims"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return md('Claims', raw(note + board + tools + table) if claims else raw(note + '<p>No chapter has recorded a claim yet.</p>'))


# ---- map --------------------------------------------------------------------------------------------------------------

def map_page(parts, needs, by_name):
    "The prerequisite graph and the same thing as a list."
    shown = [dict(p, chapters=([p['bench']] if p['bench'] else []) + p['chapters']) for p in parts if p['bench'] or p['chapters']]
    link = lambda d: f'{d}.html'
    implied = {c: [n for n in ns if n in by_name] for c, ns in needs.items()}
    picture = coursemap.svg(shown, implied, link)
    items = []
    for p in shown:
        rows = []
        for c in p['chapters']:
            pre = ', '.join(f'<a href="{n}.html">{inline(by_name[n]["title"])}</a>' for n in needs.get(c['docname'], []) if n in by_name)
            rows.append(f'<li><a href="{c["docname"]}.html">{inline(c["title"])}</a>{badge(c["level"])}' + (f' <span>needs {pre}</span>' if pre else '') + '</li>')
        items.append(f'<section><h3>{int(p["num"])} · <a href="{p["slug"]}/index.html">{escape(p["title"])}</a></h3><ul>{"".join(rows)}</ul></section>')
    keys = ''.join(f'<span class="cl-key cl-{l}">{l}</span>' for l in ('bench', *LEVELS))
    intro = ('<p class="cl-lead">A line leads from a chapter to one that builds on it. Point at a chapter, or reach it with the tab key, to see all that it rests on and all that rests on it. '
             'Every chapter also needs the bench of its part; those lines appear only then.</p>')
    return md('Course map', raw(f'{intro}<p class="cl-keys">{keys}</p><div class="cl-mapwrap" tabindex="0" role="region" aria-label="Course map, scrolls sideways">{picture}</div>'),
              '## The same as a list\n', raw(f'<div class="cl-maplist">{"".join(items)}</div>'))


# ---- API --------------------------------------------------------------------------------------------------------------

def group(module):
    "Part of a module: 'courselib.continual.bench' -> 'continual'; the library's own modules are 'core'."
    return module.split('.')[1] if module.count('.') > 1 else 'core'


def api_index(docs, titles):
    "All modules and their names, part by part; `titles`: group -> title."
    o = []
    for g in dict.fromkeys(map(group, (d['module'] for d in docs))):
        o.append(f'<h2 id="api-{g}">{escape(titles.get(g, g))}</h2>')
        for d in [d for d in docs if group(d['module']) == g]:
            names = ' '.join(f'<a href="{d["module"]}.html#{d["module"]}.{i["name"]}"><code>{i["name"]}</code></a>' for i in d['items'])
            o.append(f'<section class="cl-apimod"><h3><a href="{d["module"]}.html"><code>{d["module"]}</code></a></h3><p>{inline(d["doc"].split(chr(10))[0])}</p><p class="cl-names">{names}</p></section>')
    return md('API reference', raw('<p class="cl-lead">Every public name of every module, with the shape, unit and range of each parameter as the source states them.</p>' + ''.join(o)))
