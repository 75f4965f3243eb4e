"""Sphinx configuration of the documentation site, and what a page gets beyond its own source (see build.py)."""
import configparser, json, re, sys
from html import escape
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from pages import VERDICTS

_cfg = configparser.ConfigParser()
_cfg.read(HERE.parent.parent/'settings.ini')
_cfg = _cfg['DEFAULT']

project, author, version = _cfg['title'], _cfg['author'], _cfg['version']
copyright = _cfg['copyright']
language = 'en'
extensions = ['myst_nb', 'sphinx_copybutton']
exclude_patterns = ['.cache', '.static', '.doctrees', '_build']
templates_path = [str(HERE/'templates')]

# ---- notebooks
nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst'
nb_code_prompt_show, nb_code_prompt_hide = 'Show the code', 'Hide the code'
myst_enable_extensions = ['amsmath', 'attrs_block', 'attrs_inline', 'colon_fence', 'deflist', 'dollarmath', 'html_image', 'tasklist']
myst_dmath_allow_digits = False
myst_dmath_double_inline = True
myst_heading_anchors = 3
myst_links_external_new_tab = False
suppress_warnings = ['myst.strikethrough', 'toc.not_included']
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = 'hide'
html_math_renderer = 'katex'
copybutton_exclude = '.linenos, .gp, .go'
copybutton_selector = 'div.cell_input div.highlight pre, div.highlight-bash pre, div.highlight-python:not(.cl-source *) > div.highlight > pre, div.highlight-console pre'

# ---- theme
html_theme = 'pydata_sphinx_theme'
html_title = project
html_static_path = [str(HERE/'static')]
html_css_files = ['site.css']
html_js_files = [('site.js', {'defer': 'defer'})]
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_show_search_summary = False        # it would fetch every page that was found; site.js writes the page's one line instead
html_permalinks_icon = '#'
html_domain_indices = html_use_index = False
html_favicon = str(HERE/'static'/'favicon.svg')
html_theme_options = dict(
    logo=dict(text=project), search_bar_text='Search the course', navbar_start=['navbar-logo'], navbar_center=['cl-nav.html'], navbar_end=['theme-switcher'],
    navbar_persistent=['search-button-field'], article_header_start=['breadcrumbs'], secondary_sidebar_items=['page-toc'], primary_sidebar_end=[],
    footer_start=['cl-footer.html'], footer_end=[], show_prev_next=True, back_to_top_button=True, show_toc_level=1, navigation_with_keys=False,
    shorten_urls=False)
html_context = dict(default_mode='auto')
html_sidebars = {'**': ['cl-sidebar.html'], 'index': [], 'claims': [], 'map': [], 'search': []}


# ---- mathematics: KaTeX sets it in the page -----------------------------------------------------------------------------

def _inline(self, node):
    self.body.append(self.starttag(node, 'span', '', CLASS='math notranslate nohighlight') + self.encode(node.astext()) + '</span>')
    raise nodes.SkipNode


def _block(self, node):
    text = re.sub(r'\\label\{[^}]*\}', '', node.astext()).strip()
    if not re.match(r'\\begin\{(align|aligned|equation|gather|alignat|multline|split|cases|[bpvV]?matrix|array)\*?\}', text) and r'\\' in text and r'\begin' not in text:
        text = f'\\begin{{aligned}}\n{text}\n\\end{{aligned}}'
    text = text.replace(r'\begin{multline', r'\begin{gather').replace(r'\end{multline', r'\end{gather')
    self.body.append(self.starttag(node, 'div', '', CLASS='math notranslate nohighlight') + self.encode(text) + '</div>')
    raise nodes.SkipNode


# ---- what a page shows of other pages ------------------------------------------------------------------------------------

def load(app):
    app.cl = json.loads((Path(app.srcdir)/'site.json').read_text())
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(Path(app.srcdir)/'.cache'/'outputs'), execution_cache_path=str(Path(app.srcdir)/'.cache'/'run'))


def outdated(app, env, added, changed, removed):
    "Pages whose header, navigation or links changed although their own source did not."
    old, new = getattr(env, 'cl_hashes', {}), {d: f['hash'] for d, f in app.cl['frames'].items()}
    env.cl_hashes = new
    return [d for d, h in new.items() if old.get(d, h) != h and d in env.found_docs]


def rows(f, up):
    "The lines of a chapter's head that depend on other pages."
    link = lambda items: '<span class="cl-chips">' + ''.join(f'<a href="{up}{i["doc"]}.html">{escape(i["title"])}</a>' for i in items) + '</span>'
    if f['paper']:
        held = ''.join(f'<span class="cl-verdict" data-verdict="{v}">{f["claims"].count(v)} {"hold" if v == "holds" and f["claims"].count(v) > 1 else v}</span>' for v in sorted(set(f['claims']), key=VERDICTS.index))
        lines = [('level', f'<span class="cl-level cl-{f["level"]}">{f["level"]}</span>' if f['level'] else ''), ('claims', f'<a class="cl-held" href="{up}claims.html">{held}</a>' if held else ''),
                 ('needs', link(f['needs']) if f['needs'] else ''), ('needed by', link(f['after']) if f['after'] else ''),
                 ('run it', f'<code class="cl-run">make chapter NB={f["part"]["slug"]}/{f["slug"]}</code>')]
    elif f['module']:
        lines = [('module', f'<a href="{up}api/{f["module"]}.html"><code>{f["module"]}</code></a>'), ('source', f'<code>{escape(f["source"])}</code>'), ('used by', link(f['after'][:12]) if f['after'] else '')]
    else: lines = []
    return ''.join(f'<div><dt>{k}</dt><dd>{v}</dd></div>' for k, v in lines if v)


def link_names(body, f, up, doc):
    "Names of the library in code and prose become links to their documentation."
    names, modules = f.get('names', {}), set(f.get('modules', []))
    url = lambda full: f'{up}api/{full.rpartition(".")[0]}.html#{full}'
    def inline(m):
        name = m[1].removesuffix('()')
        target = url(names[name]) if name in names else f'{up}api/{name}.html' if name in modules else None
        return f'<a class="cl-ref" href="{target}">{m[0]}</a>' if target else m[0]
    def code(m):
        if m[1] == 'nn': return f'<a href="{up}api/{m[2]}.html">{m[0]}</a>' if m[2] in modules else m[0]
        return f'<a href="{url(names[m[2]])}">{m[0]}</a>' if m[2] in names else m[0]
    def block(m): return re.sub(r'(?<!<span class="o">\.</span>)<span class="(n|nn|nc|nf)">([\w.]+)</span>(?! ?<span class="o">=(?!=))', code, m[0])
    body = re.sub(r'(?<!summary>)<code class="docutils literal notranslate"><span class="pre">([\w.]+(?:\(\))?)</span></code>(?![^<]*</(?:a|h\d)>)', inline, body)
    return re.sub(r'<div class="cell_input[^>]*>.*?</pre>', block, body, flags=re.S)


def context(app, pagename, templatename, context, doctree):
    "Navigation, header, scripts and links of one page."
    f = app.cl['frames'].get(pagename, {})
    up = '../'*pagename.count('/')
    context |= dict(cl=f, cl_parts=app.cl['parts'], cl_up=up, cl_kinds={g['kind'] for g in app.cl['frames'].values()})
    rel = lambda d: dict(link=f'{up}{d["doc"]}.html', title=escape(d['title']))
    context['prev'], context['next'] = (rel(f[k]) if f.get(k) else None for k in ('prev', 'next'))
    kind, part, parents = f.get('kind'), f.get('part'), []
    if part and kind in ('chapter', 'bench', 'overview'): parents = [dict(link=f'{up}{part["slug"]}/index.html', title=part['title'])]
    elif kind == 'core' and pagename != 'core/index': parents = [dict(link='index.html', title='The library')]
    elif kind == 'api' and pagename != 'api/index': parents = [dict(link='index.html', title='API reference')]
    context['parents'] = parents
    body = context.get('body')
    if body and kind in ('chapter', 'bench', 'overview', 'core', 'page') and 'description' in f:
        body = body.replace('<!-- rows -->', rows(f, up), 1)
        body = link_names(body, f, up, pagename)
    if body: context['body'] = body
    if 'class="math ' in (body or ''):
        app.add_css_file('katex/katex.min.css')
        app.add_js_file('katex/katex.min.js', defer='defer', priority=400)
    widgets = 'class="courselib-widget"' in (body or '')
    if widgets and f.get('plotly', True): app.add_js_file('plotly.min.js', defer='defer', priority=400)
    if widgets: app.add_js_file('explore.js', defer='defer', priority=450)


def finish(app, error):
    "Lines for the search results."
    if error: return
    from cl_style import css
    for f in [Path(app.outdir, '_static', 'webpack-macros.html'), *Path(app.outdir, '_static').rglob('*.map')]: f.unlink(missing_ok=True)      # no page needs these
    Path(app.outdir, '_static', 'pygments.css').write_text(css())       # the theme knows only the styles that pygments ships
    Path(app.outdir, '_static', 'pages.js').write_text('window.clPages = ' + json.dumps(app.cl['summaries']) + ';\n')


def setup(app):
    app.add_html_math_renderer('katex', (_inline, None), (_block, None))
    app.config.html_static_path.append(str(Path(app.srcdir)/'.static'))
    app.connect('builder-inited', load, priority=900)      # after myst-nb, which would put its files beside the site
    app.connect('env-get-outdated', outdated)
    app.connect('html-page-context', context, priority=100)      # before the theme asks which templates are empty
    app.connect('build-finished', finish, priority=900)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
