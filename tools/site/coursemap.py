"""The course map: every chapter as a box in its part's band, every prerequisite as a curve; plain SVG, made at build time."""
from html import escape

BOX, H, GAP, ROW, PAD, LABEL = 200, 34, 14, 50, 14, 166     # px: box, box height, gap, row pitch, band padding, label column
COLS = 5


def place(parts: list[dict], cols: int, left: int) -> tuple[dict, list, int]:
    "Box corner of each chapter, (part, top, height) of each band, height of the map. `parts`: dicts with title and chapters."
    at, bands, y = {}, [], 8
    for p in parts:
        rows = max(1, -(-len(p['chapters'])//cols))
        for i, c in enumerate(p['chapters']): at[c['docname']] = (left + (i % cols)*(BOX + GAP), y + PAD + (i//cols)*ROW)
        h = rows*ROW + 2*PAD - (ROW - H)
        bands.append((p, y, h)); y += h + 10
    return at, bands, y


def curve(a, b) -> str:
    "Path from box `a` (needed) to box `b` (needs it)."
    (x0, y0), (x1, y1) = a, b
    if abs(y0 - y1) < 2:      # same row: an arch from the side, or above the boxes in between
        if 0 < x1 - x0 <= BOX + GAP + 1: return f'M{x0 + BOX},{y0 + H/2} H{x1}'
        up = 9
        return f'M{x0 + BOX/2},{y0} C{x0 + BOX/2},{y0 - up} {x1 + BOX/2},{y1 - up} {x1 + BOX/2},{y1}'
    sy, ey = (y0 + H, y1) if y1 > y0 else (y0, y1 + H)
    mid = (sy + ey)/2
    return f'M{x0 + BOX/2},{sy} C{x0 + BOX/2},{mid} {x1 + BOX/2},{mid} {x1 + BOX/2},{ey}'


def _label(text, n=27): return text if len(text) <= n else text[:n - 1].rstrip(' -:,') + '…'


def name(p, y) -> str:
    "Number and title of a part, in lines."
    words, line, lines = p['title'].split(), '', []
    for w in words:
        if len(line) + len(w) > 12 and line: lines.append(line); line = w
        else: line = f'{line} {w}'.strip()
    return (f'<text class="cl-num" x="16" y="{y + PAD + 14}">{p["num"]}</text>'
            + ''.join(f'<text class="cl-part" x="42" y="{y + PAD + 14 + 18*i}">{escape(l)}</text>' for i, l in enumerate([*lines, line])))


def svg(parts: list[dict], needs: dict[str, list[str]], link, cols: int=COLS, named: bool=True) -> str:
    "The map. `needs`: docname -> docnames; `link(docname)` -> href; chapters are dicts with docname, title, level, kind. `named`: with the names of the parts."
    left = LABEL if named else PAD
    width = left + cols*(BOX + GAP) - GAP + PAD
    at, bands, height = place(parts, cols, left)
    o = [f'<svg class="cl-map" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" aria-label="Map of the course: chapters and what they need">']
    for p, y, h in bands:
        head = f'<a href="{escape(link(p["slug"] + "/index"), quote=True)}">{name(p, y)}</a>' if named else ''
        o.append(f'<g class="cl-band"><rect x="0" y="{y}" width="{width}" height="{h}" rx="10"/>{head}</g>')
    o.append('<g class="cl-edges">')
    for c, ns in needs.items():
        for n in ns:
            same = n.split('/')[0] == c.split('/')[0]
            kind = 'implied' if same and n.endswith('/bench') else 'near' if same else 'far'
            if c in at and n in at: o.append(f'<path class="{kind}" d="{curve(at[n], at[c])}" data-from="{n}" data-to="{c}"/>')
    o.append('</g><g class="cl-nodes">')
    for p, _, _ in bands:
        for c in p['chapters']:
            x, y = at[c['docname']]
            o.append(f'<a href="{escape(link(c["docname"]), quote=True)}" data-doc="{c["docname"]}" class="cl-node cl-{c["level"] or c["kind"]}"><title>{escape(c["title"])}</title>'
                     f'<rect x="{x}" y="{y}" width="{BOX}" height="{H}" rx="7"/><text x="{x + 12}" y="{y + H/2 + 4.5}">{escape("Bench" if c["kind"] == "bench" else _label(c["title"]))}</text></a>')
    return '\n'.join([*o, '</g></svg>'])
