"""Documentation of the public names of a module: signatures, docments, source; as data, and as MyST text for a page."""
import ast, importlib, inspect, json, re, textwrap
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

_md = MarkdownIt('zero').enable(['backticks', 'escape'])


# ---- reading a module -------------------------------------------------------------------------------------------------

def _source(obj) -> str:
    try: return textwrap.dedent(inspect.getsource(inspect.unwrap(obj) if not inspect.isclass(obj) else obj))
    except (OSError, TypeError): return ''


def _written(src: str) -> dict[str, tuple[str, str]]:
    "Annotation and default of each parameter as the author wrote them; 'return' has the annotation of the result."
    try: node = ast.parse(src).body[0]
    except (SyntaxError, IndexError): return {}
    if isinstance(node, ast.ClassDef):
        return {o.target.id: (ast.unparse(o.annotation), ast.unparse(o.value) if o.value else '') for o in node.body if isinstance(o, ast.AnnAssign)}
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): return {}
    a, text = node.args, lambda o: ast.unparse(o) if o is not None else ''
    found = {}
    pos = [*a.posonlyargs, *a.args]
    for arg, d in zip(pos, [None]*(len(pos) - len(a.defaults)) + a.defaults): found[arg.arg] = text(arg.annotation), text(d)
    for arg, d in zip(a.kwonlyargs, a.kw_defaults): found[arg.arg] = text(arg.annotation), text(d)
    for arg in (a.vararg, a.kwarg):
        if arg: found[arg.arg] = text(arg.annotation), ''
    if node.returns is not None: found['return'] = text(node.returns), ''
    return found


def _short(v) -> str:
    "A default that was not written in the source: its name, or its repr without addresses."
    return getattr(v, '__name__', None) or re.sub(r' at 0x[0-9a-f]+', '', repr(v))


def _tidy(anno) -> str:
    "An annotation object as text."
    if anno is inspect.Parameter.empty or anno is None: return ''
    if isinstance(anno, str): return anno
    return re.sub(r'\b(?:typing|builtins)\.', '', inspect.formatannotation(anno))


def _params(obj) -> tuple[list[dict], dict]:
    "Parameters (name, kind, type, default, comment) and the result (type, comment) of a function or a class."
    from fastcore.docments import docments
    try: sig = inspect.signature(obj)
    except (TypeError, ValueError): return [], {}
    fn = obj if not inspect.isclass(obj) else obj if '__dataclass_fields__' in obj.__dict__ else obj.__init__
    try: docs = docments(obj, full=True, args_kwargs=True)
    except Exception: docs = {}
    written, rows = _written(_source(fn)), []
    for p in sig.parameters.values():
        if p.name in ('self', 'cls') and not rows: continue
        anno, default = written.get(p.name, ('', ''))
        if p.default is not p.empty and not default: default = _short(p.default)
        rows.append(dict(name=p.name, kind=p.kind.name, type=anno or _tidy(p.annotation), default=default if p.default is not p.empty else '',
                         doc=(docs.get(p.name) or {}).get('docment') or ''))
    ret = {} if inspect.isclass(obj) else dict(type=written.get('return', ('', ''))[0], doc=(docs.get('return') or {}).get('docment') or '')
    return rows, ret


def _item(name: str, obj) -> dict:
    "One public name as data."
    if not (inspect.isfunction(obj) or inspect.isclass(obj) or inspect.ismethod(obj)):
        if callable(obj) and hasattr(obj, '__wrapped__'): return _item(name, obj.__wrapped__)
        text = repr(obj)
        if re.search(r' at 0x|<', text): text = type(obj).__name__
        return dict(name=name, kind='data', value=text if len(text) < 300 else text[:297] + '...', doc='')
    params, ret = _params(obj)
    src = _source(obj)
    own = obj.__doc__ if inspect.isclass(obj) else inspect.getdoc(obj)
    if own and inspect.isclass(obj) and '__dataclass_fields__' in obj.__dict__ and own.startswith(f'{obj.__name__}('): own = ''
    item = dict(name=name, kind='class' if inspect.isclass(obj) else 'function', params=params, ret=ret, doc=inspect.cleandoc(own or ''), source=src)
    if inspect.isclass(obj): item['methods'] = _methods(obj)
    return item


def _methods(cls) -> list[dict]:
    "Public methods and properties that `cls` itself defines."
    found = []
    for k, v in cls.__dict__.items():
        fn = v.fget if isinstance(v, property) else v.__func__ if isinstance(v, (classmethod, staticmethod)) else v
        if k.startswith('_') and not (k == '__call__' and getattr(fn, '__doc__', None)): continue
        if not inspect.isfunction(fn) or '<' in fn.__qualname__: continue
        if k == 'forward' and not fn.__doc__: continue
        m = _item(k, fn)
        if isinstance(v, property): m |= dict(kind='property', type=m['ret'].get('type', ''), params=[])
        elif isinstance(v, classmethod): m['decorator'] = 'classmethod'
        elif isinstance(v, staticmethod): m['decorator'] = 'staticmethod'
        found.append(m)
    return found


def describe(module: str) -> dict:
    "Documentation of every name in the module's `__all__`."
    mod = importlib.import_module(module)
    lines = Path(mod.__file__).read_text().splitlines()
    items = []
    for name in getattr(mod, '__all__', []):
        obj = getattr(mod, name, None)
        home = getattr(obj, '__module__', module)
        if inspect.ismodule(obj) or (callable(obj) and home not in (module, None) and inspect.isfunction(obj)): continue
        item = _item(name, obj)
        if item['kind'] == 'data':      # the comment beside a constant is its documentation
            at = next((l for l in lines if re.match(rf'{re.escape(name)}\s*(:[^=]+)?=', l)), '')
            item['doc'] = at.split('#', 1)[1].strip() if re.search(r'\s#\s', at) else ''
        items.append(item)
    return dict(module=module, doc=inspect.cleandoc(mod.__doc__ or ''), items=items)


# ---- writing it down --------------------------------------------------------------------------------------------------

def inline(text: str) -> str:
    "A comment as html: `code` between backticks, mathematics between dollars, the rest as it is."
    parts = re.split(r'(?<![\w$])\$(?! )([^$\n]+?)(?<! )\$(?![\w$])', re.sub(r'\s*\n\s*', ' ', text))
    return ''.join(f'<span class="math notranslate nohighlight">{escape(p)}</span>' if i % 2 else _md.renderInline(p) for i, p in enumerate(parts))


def signature(item: dict) -> str:
    "The arguments as Python writes them."
    parts, star, pos = [], False, False
    for p in item['params']:
        if pos and p['kind'] != 'POSITIONAL_ONLY': parts.append('/'); pos = False
        pos |= p['kind'] == 'POSITIONAL_ONLY'
        if p['kind'] == 'KEYWORD_ONLY' and not star: parts.append('*'); star = True
        pre = {'VAR_POSITIONAL': '*', 'VAR_KEYWORD': '**'}.get(p['kind'], '')
        star |= p['kind'] == 'VAR_POSITIONAL'
        d = p['default'] if len(p['default']) < 60 else '...'
        parts.append(pre + p['name'] + (f': {p["type"]}' if p['type'] else '') + ((' = ' if p['type'] else '=') + d if d else ''))
    if pos: parts.append('/')
    ret = item['ret'].get('type') if item['ret'] else ''
    return f'({", ".join(parts)})' + (f' -> {ret}' if ret else '')


def table(item: dict) -> str:
    "Parameters and result as an html table; nothing where no comment says more than the signature."
    rows, ret = item.get('params', []), item.get('ret') or {}
    if not any(r['doc'] for r in rows) and not ret.get('doc'): return ''
    code = lambda s: f'<code>{escape(s)}</code>' if s else ''
    cell = lambda label, html, cls='': f'<td data-label="{label}"{f" class={chr(34)}{cls}{chr(34)}" if cls else ""}>{html}</td>'
    star = dict(VAR_POSITIONAL='*', VAR_KEYWORD='**')
    body = ''.join(f'<tr><th scope="row"><code>{star.get(r["kind"], "")}{escape(r["name"])}</code></th>' + cell('type', code(r['type'])) +
                   cell('default', code(r['default'])) + cell('details', inline(r['doc']), 'cl-details') + '</tr>' for r in rows)
    if ret.get('type') or ret.get('doc'):
        body += '<tr class="cl-returns"><th scope="row">returns</th>' + cell('type', code(ret.get('type', ''))) + cell('default', '') + cell('details', inline(ret.get('doc', '')), 'cl-details') + '</tr>'
    head = '<tr><th scope="col">parameter</th><th scope="col">type</th><th scope="col">default</th><th scope="col">details</th></tr>'
    return f'<div class="cl-params-wrap"><table class="cl-params"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def highlight(src: str) -> str:
    from pygments import highlight as hl
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    return f'<div class="highlight-python notranslate">{hl(src, PythonLexer(), HtmlFormatter())}</div>'


def _raw(html): return f'`````{{raw}} html\n{html}\n`````\n'


def card(item: dict, index: bool = True, prefix: str = '', depth: int = 0) -> str:
    "MyST text that documents one name; `index` makes it a target of search and of links."
    fence = '`'*(7 - depth)
    opts = '' if index else ':no-index:\n'
    kind = item['kind'] if depth == 0 or item['kind'] == 'property' else 'method'
    name = prefix + item['name']
    if kind in ('data', 'property'):
        extra = f':value: {item["value"]}\n' if kind == 'data' and item.get('value') else f':type: {item["type"]}\n' if item.get('type') else ''
        return f'{fence}{{py:{kind}}} {name}\n{opts}{extra}\n{item["doc"]}\n{fence}\n'
    if item.get('decorator'): opts += f':{item["decorator"]}:\n'
    body = [item['doc'], _raw(t) if (t := table(item)) else '']
    if depth == 0 and item.get('source'):
        n = item['source'].count('\n') + 1
        body.append(_raw(f'<details class="cl-source"><summary>Source <span>({n} lines)</span></summary>{highlight(item["source"])}</details>'))
    body += [card(m, index, '', depth + 1) for m in item.get('methods', []) if index or m['doc'] or table(m)]      # in a notebook only the methods that are explained
    return f'{fence}{{py:{kind}}} {name}{signature(item)}\n{opts}\n' + '\n\n'.join(b for b in body if b) + f'\n{fence}\n'


def page(doc: dict, title: str, link: str | None) -> str:
    "The API page of a module as MyST text."
    mod = doc['module']
    intro = inline(doc['doc']) if doc['doc'] else ''
    made = f'<p class="cl-lead">{intro}</p>' + (f'<p class="cl-apimeta"><code>import {mod}</code> · written in <a href="{link}">{escape(title)}</a></p>' if link else f'<p class="cl-apimeta"><code>import {mod}</code></p>')
    index = ''.join(f'<a href="#{mod}.{i["name"]}"><code>{i["name"]}</code><span>{inline(i["doc"].split(chr(10))[0])}</span></a>' for i in doc['items'])
    body = '\n\n'.join(card(i, prefix='') for i in doc['items'])
    return f'---\norphan: true\n---\n# {mod}\n\n{_raw(made)}\n{_raw(f"<nav class={chr(34)}cl-apiindex{chr(34)} aria-label={chr(34)}Names of this module{chr(34)}>{index}</nav>")}\n```{{py:currentmodule}} {mod}\n```\n\n{body}\n'


def cached(module: str, path: Path, cache: Path, version: str) -> dict:
    "`describe(module)`, read from `cache` while the module's file is the same."
    import hashlib
    key = hashlib.sha1(path.read_bytes() + version.encode()).hexdigest()
    store = cache/f'{module}.json'
    if store.exists() and (d := json.loads(store.read_text())).get('key') == key: return d
    d = describe(module) | dict(key=key)
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps(d))
    return d
