"""The chapter contract: what every notebook of the course has, as small functions from a notebook to the list of what is missing.

    python tools/contract.py continual/stability_gap        (what `make check NB=...` calls; no name: all notebooks)

tests/test_chapters.py runs each rule on each notebook, and shows for each rule that a chapter which breaks it is caught.
"""
import argparse, ast, functools, importlib, io, json, re, symtable, sys, tempfile, tokenize
from pathlib import Path

from course import CLAIM, ROOT, Cell, Notebook, find, paths, records, text

HEADINGS = ['The idea', 'The method', 'Check it', 'Does it hold?', 'Explore', 'On the GPU', 'Exercises', 'Beyond this chapter']
OPTIONAL = {'On the GPU'}
LEVELS = ('intro', 'core', 'advanced')
SECONDS, BYTES, WORDS, SEEDS = 20, 300_000, (500, 1200), 3
CELL_LINES = dict(chapter=40, bench=40, overview=40, core=60)
MODULE_LINES = dict(chapter=300, bench=700, overview=300, core=1200)

RULES = {}   # name -> (function, kinds of notebook it is for)


def rule(*kinds):
    "Register a rule for notebooks of these kinds: chapter, bench, overview, core, index."
    def add(fn): RULES[fn.__name__] = (fn, kinds); return fn
    return add


ALL = ('chapter', 'bench', 'overview', 'core', 'index')
MODULES = ('chapter', 'bench', 'overview', 'core')


# ---- reading code -----------------------------------------------------------------------------------------------------

@functools.lru_cache(4096)
def _parse(code: str):
    try: return ast.parse(code)
    except SyntaxError: return ast.Module([], [])


def tree(cell: Cell): return _parse(cell.code)


def called(node) -> str:
    "Name of what a call calls: the last part of `a.b.measure(...)`."
    f = node.func
    return f.attr if isinstance(f, ast.Attribute) else getattr(f, 'id', '')


@functools.lru_cache(4096)
def scopes(code: str) -> tuple[set, dict]:
    "The names that code binds at its top level, and those that it looks up there: by the top itself ('') and by each function or class in it."
    try: top = symtable.symtable(code, 'code', 'exec')
    except SyntaxError: return set(), {}
    own = lambda s: s.is_assigned() or s.is_imported() or s.is_namespace()
    def within(t): return [t, *(u for c in t.get_children() for u in within(c))]
    bound, reads = {s.get_name() for s in top.get_symbols() if own(s)}, {'': {s.get_name() for s in top.get_symbols() if s.is_referenced()}}
    for c in top.get_children():
        inside = [s for t in within(c) for s in t.get_symbols()]
        bound |= {s.get_name() for s in inside if own(s) and s.is_declared_global()}
        reads.setdefault(c.get_name(), set()).update(s.get_name() for s in inside if s.is_global() and s.is_referenced())
    return bound, reads


def calls(cell: Cell, *names) -> list:
    "The calls in a cell of functions or methods with these names."
    return [n for n in ast.walk(tree(cell)) if isinstance(n, ast.Call) and called(n) in names]


def shown(cell: Cell, *names) -> list:
    "The calls that stand alone as a statement of the cell, so that they show something."
    return [o.value for o in tree(cell).body if isinstance(o, ast.Expr) and isinstance(o.value, ast.Call) and called(o.value) in names]


def keyword(call, name): return next((k.value for k in call.keywords if k.arg == name), None)


def definitions(cell: Cell) -> list:
    "Public functions and classes of an exported cell."
    if not cell.flags & {'export', 'exports'}: return []
    return [o for o in tree(cell).body if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and o.name[0] != '_']


def asserts(cell: Cell) -> int:
    "How many things a cell checks: assert, test_eq(...), assert_close(...), prove(...)."
    if cell.exported: return 0   # an assertion in the library is a guard, not a test
    n = sum(isinstance(o, ast.Assert) for o in ast.walk(tree(cell)))
    return n + sum(isinstance(o, ast.Call) and bool(re.match(r'test_|assert_|prove$|raises$|check_grad$|gradcheck$', called(o))) for o in ast.walk(tree(cell)))


def names_in(cell: Cell) -> set[str]:
    return {n.id for n in ast.walk(tree(cell)) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(tree(cell)) if isinstance(n, ast.Attribute)}


def assigned(cell: Cell, *names) -> list[tuple[str, ast.Call]]:
    "(variable, call) for assignments of a call of one of `names`."
    return [(t.id, o.value) for o in ast.walk(tree(cell)) if isinstance(o, ast.Assign) and isinstance(o.value, ast.Call) and called(o.value) in names
            for t in o.targets if isinstance(t, ast.Name)]


def imports(cell: Cell) -> list[str]:
    "Full names of what a cell imports, `from a import b` as both a and a.b."
    out = []
    for o in ast.walk(tree(cell)):
        if isinstance(o, ast.Import): out += [a.name for a in o.names]
        elif isinstance(o, ast.ImportFrom): out += [o.module or '', *(f'{o.module}.{a.name}' for a in o.names)]
    return [n for n in out if n]


def literal(node) -> bool:
    "Is a value written out in the code, wholly, also inside np.array(...) or the like?"
    if isinstance(node, ast.Constant): return True
    if isinstance(node, ast.UnaryOp): return literal(node.operand)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)): return all(map(literal, node.elts))
    if isinstance(node, ast.Dict): return all(map(literal, node.values))
    if isinstance(node, ast.BinOp): return literal(node.left) and literal(node.right)
    if isinstance(node, ast.Call) and called(node) in ('array', 'tensor', 'asarray', 'as_tensor', 'list', 'tuple', 'dict', 'float', 'Tensor'):
        return bool(node.args or node.keywords) and all(map(literal, node.args)) and all(literal(k.value) for k in node.keywords if k.arg != 'dtype')
    return False


def at(cell: Cell) -> str: return f'cell {cell.i}'


# ---- form -------------------------------------------------------------------------------------------------------------

@rule(*ALL)
def front_matter(nb):
    "Title, description and, for a chapter, paper, authors, year, level, needs."
    out = []
    if nb.kind != 'index' and (not nb.cells or 'default_exp' not in nb.cells[0].flags): out.append(f"the first cell should be '#| default_exp {nb.module}'")
    if nb.title_cell is None: return out + ["no '# title' in a markdown cell"]
    if nb.kind != 'index' and nb.title_cell.i != 1: out.append(f'the title should stand in the second cell, it is in {at(nb.title_cell)}')
    if 'description' not in nb.front: out.append("no '> description' under the title")
    if nb.kind != 'chapter': return out
    out += [f"no '- {key}: ...' in the front matter" for key in ('paper', 'authors', 'year', 'level', 'needs') if key not in nb.front]
    f = nb.front
    out += [f"'{key}' is empty" for key in ('paper', 'authors', 'year') if key in f and not f[key]]
    if f.get('year') and not re.fullmatch(r'(19|20)\d\d', f['year']): out.append(f"year should be four digits, it is '{f['year']}'")
    if 'level' in f and f['level'] not in LEVELS: out.append(f"level should be one of {', '.join(LEVELS)}, it is '{f['level']}'")
    if 'arxiv' in f and not re.fullmatch(r'\d{4}\.\d{4,5}|[a-z-]+/\d{7}', f['arxiv']): out.append(f"arxiv should be like 2205.13452, it is '{f['arxiv']}' (leave it out if uncertain)")
    unknown = set(f) - {'title', 'description', 'paper', 'authors', 'year', 'arxiv', 'level', 'needs', 'doi', 'url', 'venue'}
    return out + [f"unknown front matter '{k}'" for k in sorted(unknown)]


@rule('chapter')
def headings(nb):
    "The eight second-level headings, exactly and in order."
    have, out = [h for h, _ in nb.headings], []
    out += [f"no heading '## {h}'" for h in HEADINGS if h not in have and h not in OPTIONAL]
    out += [f"heading '## {h}' is not one of the course's" for h in have if h not in HEADINGS]
    out += [f"heading '## {h}' occurs twice" for h in dict.fromkeys(have) if have.count(h) > 1]
    known = [h for h in have if h in HEADINGS]
    if not out and known != [h for h in HEADINGS if h in known]: out.append(f"headings are in the order {', '.join(known)}; expected {', '.join(HEADINGS)}")
    return out


@rule('chapter')
def question(nb):
    "The idea holds a question to guess at."
    prose = re.sub(r'```.*?```', '', '\n'.join(c.source for c in nb.section('The idea') if c.kind == 'markdown'), flags=re.S)
    return [] if '?' in prose else ["no question to guess at in 'The idea'"]


@rule('chapter')
def words(nb):
    "500 to 1,200 words of prose."
    lo, hi = WORDS
    return [] if lo <= nb.words <= hi else [f'{nb.words} words of prose; expected {lo} to {hi:,}']


@rule(*ALL)
def prose(nb):
    "Plain prose: no exclamation marks, no emoji, no 'simply'."
    out = []
    for m in re.finditer(r"[\w)'\"]!(?=\s|$|\))", nb.prose): out.append(f"exclamation mark: '...{nb.prose[max(0, m.start() - 30):m.end()].strip()}'")
    for m in re.finditer('[\U0001F000-\U0001FAFF\u2600-\u26FF\u2705\u274C\u2728\u2B50]', nb.prose): out.append(f"emoji '{m[0]}'")
    if re.search(r'\bsimply\b', nb.prose, re.I): out.append("the word 'simply'")
    return out


# ---- the module -------------------------------------------------------------------------------------------------------

@rule(*MODULES)
def module(nb):
    "Exports courselib.<part>.<slug>, and that module exists."
    exp = [m[1] for c in nb.code for m in [re.search(r'^#\s*\|\s*default_exp\s+(\S+)', c.source, re.M)] if m]
    if exp != [nb.module]: return [f"default_exp should be '{nb.module}' as the path says, it is {', '.join(map(repr, exp)) or 'missing'}"]
    if not nb.exported: return ['exports nothing: no cell is marked #| export or #| exports']
    return [] if module_file(nb).is_file() else [f'{module_file(nb).relative_to(nb.root)} is missing (run `make export`)']


def module_file(nb) -> Path: return nb.root/'courselib'/(nb.module.replace('.', '/') + '.py')


@rule(*MODULES)
def in_step(nb):
    "The module is what the notebook exports now."
    if not module_file(nb).is_file(): return [f'{module_file(nb).relative_to(nb.root)} is missing (run `make export`)']
    return [] if exported_text(nb) == module_file(nb).read_text(encoding='utf-8') else [f'{module_file(nb).relative_to(nb.root)} is not in step with the notebook (run `make export`)']


def exported_text(nb) -> str:
    "The module's text as nbdev would write it now."
    from nbdev.export import nb_export
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp).resolve()
        slim = dict(nb.raw, cells=[dict(c, outputs=[]) if c['cell_type'] == 'code' else c for c in nb.raw['cells']])
        src = tmp/'nbs'/nb.rel
        src.parent.mkdir(parents=True)
        src.write_text(json.dumps(slim), encoding='utf-8')
        nb_export(src, lib_path=tmp/'courselib')
        made = tmp/'courselib'/(nb.module.replace('.', '/') + '.py')
        return made.read_text(encoding='utf-8') if made.exists() else ''


@rule(*MODULES)
def docs(nb):
    "Every public function has type hints, a docstring, and a comment for each parameter but plain numbers, texts and switches."
    out = []
    for c in nb.exported:
        comments = comment_lines(c.code)
        for d in definitions(c):
            if not ast.get_docstring(d): out.append(f'{d.name} ({at(c)}) has no docstring')
            if isinstance(d, ast.ClassDef):
                for f in d.body:
                    if not isinstance(f, ast.FunctionDef): continue
                    if f.name == '__init__': out += [f'{d.name}.{p} ({at(c)}) has neither type hint nor comment' for p in bare(f, comments, either=True)]
            elif not is_kernel(d):
                out += [f'{d.name}: parameter {p} ({at(c)}) has no comment that says what it is' for p in bare(d, comments)]
                params = arguments(d)
                if params and not any(a.annotation for a in params) and d.returns is None: out.append(f'{d.name} ({at(c)}) has no type hints')
                if returns_value(d) and d.returns is None: out.append(f'{d.name} ({at(c)}) has no type hint for what it returns')
    return out


def arguments(f) -> list: return [a for a in f.args.posonlyargs + f.args.args + f.args.kwonlyargs if a.arg not in ('self', 'cls')]


def comment_lines(code: str) -> set[int]:
    "Numbers of the lines that carry a comment."
    try: return {t.start[0] for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type == tokenize.COMMENT}
    except (tokenize.TokenError, SyntaxError): return set()


PLAIN = {'str', 'int', 'float', 'bool', 'None'}


def plain(annotation) -> bool:
    "A type hint that says it all: str, int, float, bool, or one of them or None."
    return annotation is not None and {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)} <= PLAIN and not any(isinstance(n, ast.Subscript) for n in ast.walk(annotation))


def bare(f, comments, either=False) -> list[str]:
    "Parameters that nothing explains: no comment on a line of their own, and no plain type hint (`either`: no type hint at all)."
    params, out = arguments(f), []
    pairs = dict(zip([a.arg for a in reversed(f.args.posonlyargs + f.args.args)], reversed(f.args.defaults)))
    pairs |= {a.arg: d for a, d in zip(f.args.kwonlyargs, f.args.kw_defaults) if d is not None}
    for a, after in zip(params, params[1:] + [None]):
        if plain(a.annotation) or (either and a.annotation): continue
        end = max(n.end_lineno for n in (a, pairs.get(a.arg)) if n is not None)
        own_line = after is None or after.lineno > end
        if not (own_line and any(n in comments for n in range(a.lineno, end + 1))): out.append(a.arg)
    return out


def returns_value(f) -> bool:
    "Does the function itself, not one inside it, return something?"
    todo = list(f.body)
    while todo:
        o = todo.pop()
        if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)): continue
        if isinstance(o, ast.Return) and o.value is not None and ast.unparse(o.value) != 'None' and not ast.unparse(o.value).startswith('print('): return True
        todo += list(ast.iter_child_nodes(o))
    return False


@rule(*MODULES)
def cell_length(nb):
    "Exported cells that fit a screen: 40 lines, 60 in core."
    most = CELL_LINES[nb.kind]
    return [f'{at(c)} exports {n} lines; at most {most}' for c in nb.exported if (n := lines(c.code)) > most]


@rule(*MODULES)
def module_length(nb):
    "A module of a size that can be read; GPU kernels stand beside their reference and are not counted."
    n, most = sum(lines(c.code) - kernel_lines(tree(c)) for c in nb.exported), MODULE_LINES[nb.kind]
    return [] if n <= most else [f'exports {n} lines of code; at most {most} for a {nb.kind} notebook']


def lines(code: str) -> int: return sum(bool(line.strip()) for line in code.split('\n'))


def is_kernel(d) -> bool:
    "Is this definition decorated with `jit`? Its arguments are pointers and constants."
    return any(ast.unparse(x).split('(')[0].split('.')[-1] == 'jit' for x in getattr(d, 'decorator_list', ()))


def kernel_lines(t) -> int: return sum(lines(ast.unparse(d)) for d in t.body if is_kernel(d))


@rule(*ALL)
def star_imports(nb):
    "No `from x import *`."
    return [f'{at(c)} has `from {o.module} import *`; name what it uses' for c in nb.code for o in ast.walk(tree(c))
            if isinstance(o, ast.ImportFrom) and any(a.name == '*' for a in o.names)]


@rule(*MODULES)
def dependencies(nb):
    "core <- bench <- chapters of a part <- its overview; other chapters only as `needs` says; no other part's bench."
    out, parts = [], {p.name.split('_', 1)[1] for p in (nb.root/'nbs').iterdir() if p.is_dir() and re.match(r'(?!00)\d\d_', p.name)}
    for n in nb.needs:
        if not (nb.root/'courselib'/(n.replace('.', '/') + '.py')).is_file(): out.append(f"needs '{n}': there is no module courselib.{n}")
    for c in nb.code:
        for name in imports(c):
            bits = name.split('.')
            if bits[0] != 'courselib' or len(bits) < 2 or bits[1] not in parts: continue
            part, mod = bits[1], bits[2] if len(bits) > 2 else None
            if nb.kind == 'core': out.append(f'{at(c)} imports {name}: core does not build on a part')
            elif mod is None or f'{part}.{mod}' == nb.module: continue
            elif mod == 'bench' and part != nb.part: out.append(f"{at(c)} imports {name}: another part's bench; what two parts need moves to core")
            elif nb.kind == 'bench' and mod != 'bench': out.append(f'{at(c)} imports {name}: a bench does not build on chapters')
            elif nb.kind in ('chapter', 'overview') and f'{part}.{mod}' not in nb.needs: out.append(f"{at(c)} imports courselib.{part}.{mod}, which is not under 'needs'")
    return list(dict.fromkeys(out))


# ---- tests in the notebook --------------------------------------------------------------------------------------------

@rule(*MODULES)
def assertions(nb):
    "Real assertions in Check it, and a test near every export."
    out, code = [], nb.code
    if nb.kind == 'chapter':
        n = sum(asserts(c) for c in nb.section('Check it') if c.kind == 'code')
        if n < 3: out.append(f"{n} assertions under 'Check it'; expected three or more")
    tested = set().union(*(names_in(c) for c in code if asserts(c)), tested_elsewhere(nb.root))
    for k, c in enumerate(code):
        near = any(asserts(d) for d in code[k + 1:k + 4])
        out += [f'{d.name} ({at(c)}) has no test: no assertion within three code cells, and none that uses it' for d in definitions(c) if not near and d.name not in tested]
        for o in ast.walk(tree(c)):
            if isinstance(o, ast.Assert) and literal(o.test) and not (isinstance(o.test, ast.Constant) and not o.test.value): out.append(f'{at(c)} has an assertion that cannot fail: `{ast.unparse(o)}`')
    return out


@functools.cache
def tested_elsewhere(root: Path) -> frozenset[str]:
    "Names that the files in tests/ use."
    return frozenset(w for p in sorted((root/'tests').glob('test_*.py')) for w in re.findall(r'\w+', p.read_text(encoding='utf-8')))


# ---- does it hold? ----------------------------------------------------------------------------------------------------

def held(nb) -> list[dict]: return records(c.raw for c in nb.section('Does it hold?'))


@rule('chapter')
def claim(nb):
    "A claim under 'Does it hold?', declared before it is measured, with its record in the outputs."
    out = [] if any(not r.get('ablation') for r in held(nb)) else ["no measured claim under 'Does it hold?' (no record in the stored outputs; run `make chapter`)"]
    for v, (made, _) in claim_cells(nb).items():
        used = measure_cells(nb).get(v)
        if used is None: out.append(f'claim `{v}` ({at(made)}) is never measured')
        elif used.i <= made.i: out.append(f'claim `{v}` is measured in the cell that declares it ({at(made)}): the rule is given before the numbers')
    return out + [f"claim '{r.get('id')}' has the verdict '{r.get('verdict')}'" for r in nb.claims if r.get('verdict') not in ('holds', 'partly', 'not at this scale')]


def claim_cells(nb) -> dict: return {v: (c, call) for c in nb.code for v, call in assigned(c, 'claim')}


def measure_cells(nb) -> dict:
    "variable -> cell in which it is measured."
    return {ast.unparse(call.func.value): c for c in reversed(nb.code) for call in calls(c, 'measure') if isinstance(call.func, ast.Attribute)}


@rule('chapter')
def ablation(nb):
    "An ablation with its record: the paper's key term switched off."
    return [] if any(r.get('ablation') for r in held(nb)) else ["no measured ablation under 'Does it hold?': claim(..., ablation=True) and its record in the stored outputs"]


@rule('chapter')
def seeds(nb):
    "Three seeds or more behind each claim."
    return [f"claim '{r.get('id')}' rests on {r.get('n')} seeds; expected {SEEDS} or more" for r in nb.claims if not isinstance(r.get('n'), int) or r['n'] < SEEDS]


@rule('chapter', 'bench', 'overview')
def measured(nb):
    "What a claim measures comes from an experiment, not from the page."
    values, out = {}, []
    for c in nb.code:
        for o in ast.walk(tree(c)):
            if isinstance(o, ast.Assign):
                for t in o.targets:
                    if isinstance(t, ast.Name): values.setdefault(t.id, []).append(o.value)
    for c in nb.code:
        for call in calls(c, 'measure'):
            arg = call.args[0] if call.args else keyword(call, 'values')
            if isinstance(arg, ast.Name) and values.get(arg.id) and all(map(literal, values[arg.id])): arg = values[arg.id][0]
            if arg is not None and literal(arg): out.append(f'{at(c)} measures numbers that are written in the notebook: {ast.unparse(arg)[:60]}')
    return out


@rule(*MODULES)
def same_claims(nb):
    "A second run gives the same claims: the verdict, and the numbers within their intervals."
    if not nb.claims: return []
    again = {r.get('id'): r for r in run_record(nb)['claims']}
    out = []
    for old in nb.claims:
        new = again.get(old.get('id'))
        if new is None: out.append(f"claim '{old.get('id')}' is in the stored outputs but not in a new run"); continue
        if new.get('verdict') != old.get('verdict'): out.append(f"claim '{old['id']}': stored as '{old.get('verdict')}', a new run says '{new.get('verdict')}'")
        for a, b in zip(old.get('quantities') or [old], new.get('quantities') or [new]):
            if timed(old) or not all(isinstance(q.get('mean'), (int, float)) for q in (a, b)): continue
            slack = max(1e-6, .02*abs(a['mean']), ((a.get('hi') or 0) - (a.get('lo') or 0))/2)
            if abs(a['mean'] - b['mean']) > slack: out.append(f"claim '{old['id']}': {a.get('name') or 'mean'} stored {a['mean']:.4g}, a new run gives {b['mean']:.4g}")
    return out + [f"claim '{i}' of a new run is not in the stored outputs (run `make chapter`)" for i in again if i not in {r.get('id') for r in nb.claims}]


def timed(record) -> bool:
    "Claims about time differ from machine to machine; only their verdict is compared."
    return bool(re.search(r'\b(s|ms|seconds?|samples/s|times faster|speed-?up)\b', str(record.get('unit', ''))))


# ---- explore and exercises --------------------------------------------------------------------------------------------

@rule('chapter')
def explore(nb):
    "A widget under 'Explore', its output stored, and sentences on what to try."
    section = nb.section('Explore')
    made = [c for c in section if c.kind == 'code' and calls(c, 'explore')]
    if not made: return ["no explore(...) under 'Explore'"]
    out = [f'the widget of {at(c)} has no stored output (run `make chapter`)' for c in made if not any('courselib-widget' in text(h) for h in c.mime('text/html'))]
    said = ' '.join(c.source for c in section if c.kind == 'markdown' and c.i > made[0].i)
    return out + ([] if len(said.split()) >= 15 else ["no text after the widget under 'Explore' on what to try and what to notice"])


@rule('chapter')
def live_names(nb):
    "With a kernel a widget's function runs again when all cells have run: what it reads must still mean the same."
    code, out = [c for c in nb.code if not c.exported], []
    for k, c in enumerate(code):
        known = {f: names for d in code[:k + 1] for f, names in scopes(d.code)[1].items()}
        for call in calls(c, 'explore'):
            todo, reads = [call.args[0].id] if call.args and isinstance(call.args[0], ast.Name) else [], set()
            while todo:
                new = known.get(todo.pop(), set()) - reads
                reads |= new
                todo += new
            out += [f'the function of the widget in {at(c)} reads `{n}`, which {at(d)} binds again' for d in code[k + 1:] for n in sorted(reads & scopes(d.code)[0])]
    return out


@rule(*ALL)
def alt_text(nb):
    "Every figure and widget has alt text."
    out = []
    for c in nb.code:
        if c.exported: continue
        for call in shown(c, 'explore') + [x for _, x in assigned(c, 'explore')] + [x for x in shown(c, 'show') if not isinstance(x.func, ast.Attribute)]:
            alt = keyword(call, 'alt')
            if (called(call) == 'explore' and not call.args) or any(k.arg is None for k in call.keywords): continue
            if alt is None or (isinstance(alt, ast.Constant) and not str(alt.value or '').strip()): out.append(f'{called(call)}(...) in {at(c)} has no alt text')
    return out


@rule('chapter')
def exercises(nb):
    "Two exercises or more: one rebuild with two planted wrong answers or more, one predict; each checked."
    code = [c for c in nb.section('Exercises') if c.kind == 'code']
    made = [(v, call, c) for c in code for v, call in assigned(c, 'rebuild', 'predict')]
    out = [f"{len(made)} exercises under 'Exercises'; expected two or more"] if len(made) < 2 else []
    out += [f"no {kind}(...) exercise under 'Exercises'" for kind in ('rebuild', 'predict') if not any(called(call) == kind for _, call, _ in made)]
    for v, call, c in made:
        wrong = keyword(call, 'wrong')
        if called(call) == 'rebuild' and isinstance(wrong, ast.Dict | None) and len(getattr(wrong, 'keys', [])) < 2:
            out.append(f'exercise `{v}` ({at(c)}) plants {len(getattr(wrong, "keys", []))} wrong answers; expected two or more')
        checks = [d for d in code for x in calls(d, 'check') if ast.unparse(x.func) == f'{v}.check']
        if not checks: out.append(f'exercise `{v}` ({at(c)}) has no cell in which the reader calls {v}.check(...)')
        elif called(call) == 'rebuild' and not any(blank(d) for d in checks): out.append(f"exercise `{v}`: the reader's cell ({at(checks[0])}) should hold a function with a blank body")
    return out


def blank(cell: Cell) -> bool:
    "Does the cell define something whose body is left to the reader (`...`)?"
    body = lambda f: f.body[1:] if isinstance(f.body[0], ast.Expr) and isinstance(getattr(f.body[0], 'value', None), ast.Constant) and isinstance(f.body[0].value.value, str) else f.body
    hole = lambda o: (isinstance(o, ast.Expr) and isinstance(o.value, ast.Constant) and o.value.value is ...) or isinstance(o, (ast.Pass, ast.Raise))
    return any(isinstance(f, ast.FunctionDef) and (not body(f) or any(map(hole, body(f)))) for f in ast.walk(tree(cell)))


@rule('chapter')
def solutions(nb):
    "Each exercise is proved in a folded cell that begins with '# Solution'."
    code, out = [c for c in nb.section('Exercises') if c.kind == 'code'], []
    proved = {ast.unparse(x.func.value) for c in code for x in calls(c, 'prove') if isinstance(x.func, ast.Attribute)}
    for v, _ in (a for c in code for a in assigned(c, 'rebuild', 'predict')):
        if v not in proved: out.append(f'exercise `{v}` has no solution cell that ends with {v}.prove(...)')
    for c in code:
        if not calls(c, 'prove'): continue
        first = next((line for line in c.source.split('\n') if line.strip() and not re.match(r'\s*#\s*\|', line)), '')
        if not first.startswith('# Solution'): out.append(f"the solution in {at(c)} does not begin with '# Solution'")
        if 'hide-input' not in c.metadata.get('tags', []) or not c.metadata.get('jupyter', {}).get('source_hidden'):
            out.append(f'the solution in {at(c)} is not folded: metadata tags ["hide-input"] and jupyter.source_hidden')
    return out


# ---- what runs --------------------------------------------------------------------------------------------------------

KNOWN = {'default_exp', 'export', 'exports', 'exporti', 'hide', 'hide_input', 'hide_output', 'hide_line', 'filter_stream', 'echo:', 'code-fold:', 'output:',
         'slow', 'cuda', 'label:', 'fig-cap:'}


@rule('chapter', 'bench', 'overview', 'core')
def flags(nb):
    "Only known flags; nothing that a reader relies on is kept from CI."
    out = []
    for c in nb.code:
        for f in sorted(c.flags - KNOWN): out.append(f"{at(c)} has the flag '#| {f}', which the course does not use")
        kept = c.flags & {'slow', 'cuda'}
        if nb.kind == 'chapter' and kept and (calls(c, 'measure', 'explore', 'prove')): out.append(f"{at(c)} is marked #| {', '.join(kept)}, so CI does not run its {', '.join(sorted({called(x) for x in calls(c, 'measure', 'explore', 'prove')}))}")
        if nb.kind == 'chapter' and 'cuda' in c.flags and c not in nb.section('On the GPU'): out.append(f"{at(c)} is marked #| cuda but does not stand under 'On the GPU'")
    return out


NETWORK = ('requests', 'urllib', 'urllib3', 'httpx', 'http', 'aiohttp', 'socket', 'ftplib', 'pooch', 'huggingface_hub', 'datasets', 'torch.hub', 'wget', 'gdown')


@rule('chapter', 'bench', 'overview', 'core', 'index')
def network(nb):
    "No network: no client imported, no address in code, no download command. (`data` holds the course's one downloader.)"
    if nb.name == 'core/data': return []
    out = []
    for c in nb.code:
        out += [f'{at(c)} imports {n}: a chapter runs offline' for n in imports(c) if n in NETWORK or n.split('.')[0] in NETWORK]
        docstrings = {id(o.body[0].value) for o in ast.walk(tree(c)) if isinstance(o, (ast.FunctionDef, ast.ClassDef, ast.Module)) and o.body and isinstance(o.body[0], ast.Expr)}
        out += [f"{at(c)} has the address '{o.value[:50]}': a chapter runs offline" for o in ast.walk(tree(c)) if isinstance(o, ast.Constant)
                and isinstance(o.value, str) and re.search(r'\b(https?|ftp)://(?!www\.w3\.org)', o.value) and id(o) not in docstrings]
        out += [f'{at(c)} runs `{m.strip()[:50]}`: a chapter runs offline' for m in re.findall(r'^\s*[!%]\s*(?:pip|conda|wget|curl|git|apt)\b.*$', c.source, re.M)]
    return list(dict.fromkeys(out))


@rule('chapter', 'bench', 'overview', 'index')
def environment(nb):
    "What the reader runs is what CI runs: no look at the environment."
    out = []
    for c in nb.code:
        for o in ast.walk(tree(c)):
            if (isinstance(o, ast.Attribute) and o.attr in ('environ', 'getenv', 'get_ipython')) or (isinstance(o, ast.Name) and o.id in ('environ', 'getenv', 'IN_TEST', 'IN_NOTEBOOK', 'CI', 'get_ipython')):
                out.append(f'{at(c)} looks at the environment (`{ast.unparse(o)}`): the reader and CI run the same code')
    return list(dict.fromkeys(out))


def run_record(nb) -> dict:
    "The record of a test run of the notebook as it is now (see test_notebooks.py); it is run if there is none."
    import test_notebooks
    return test_notebooks.record(nb.path)


@rule(*ALL)
def run_time(nb):
    "Runs from top to bottom in at most 20 s of CPU time."
    r = run_record(nb)
    if not r['ok']: return ['does not run: ' + (r.get('error') or 'no message').strip().split('\n')[-1]]
    return [] if r['cpu'] <= SECONDS else [f"takes {r['cpu']:.1f} s of CPU time; at most {SECONDS}"]


# ---- stored outputs ---------------------------------------------------------------------------------------------------

@rule(*ALL)
def size(nb):
    "Stored outputs of at most 300 kB."
    n = sum(len(json.dumps(c.outputs, ensure_ascii=False).encode()) for c in nb.code if c.outputs)
    return [] if n <= BYTES else [f'stored outputs are {n/1000:.0f} kB; at most {BYTES//1000}']


@rule(*ALL)
def outputs(nb):
    "The outputs are stored: the page reads well unrun."
    out = []
    for c in nb.code:
        if c.flags & {'slow', 'cuda'} or c.exported: continue
        want = shown(c, 'show', 'explore', 'measure', 'print', 'check')
        if want and not c.outputs: out.append(f'{at(c)} shows something ({called(want[0])}) but its output is not stored (run `make chapter`)')
        elif shown(c, 'measure') and not c.mime(CLAIM): out.append(f'{at(c)} measures a claim but no record of it is stored (run `make chapter`)')
    return out


@rule(*ALL)
def clean_outputs(nb):
    "No tracebacks, warnings, machine's paths or addresses of objects in the outputs; no counts."
    out = []
    for c in nb.code:
        if c.raw.get('execution_count') is not None: out.append(f'{at(c)} keeps an execution count (run `make chapter` or nbdev_clean)')
        for o in c.outputs:
            if o['output_type'] == 'error': out.append(f"{at(c)} stores a traceback: {o.get('ename')}: {text(o.get('evalue'))[:60]}")
            if o['output_type'] == 'stream' and o.get('name') == 'stderr': out.append(f'{at(c)} stores text on stderr: {text(o["text"]).strip()[:60]}')
            said = text(o.get('text')) + ' '.join(text(v) for k, v in o.get('data', {}).items() if k in ('text/plain', 'text/markdown'))
            if m := re.search(r'(?<![\w.])(/(?:home|root|Users|tmp|work|mnt|opt|private)/[\w./-]*|[A-Z]:\\\w+)|site-packages', said): out.append(f"{at(c)} stores a path of one machine: {m[0][:50]}")
            if m := re.search(r'\b\w+Warning\b', said): out.append(f'{at(c)} stores a warning: {m[0]}')
            if m := re.search(r'\bat 0x[0-9a-f]{6,}', said): out.append(f"{at(c)} stores the address of an object ('{m[0]}'), which differs in every run")
            if re.search(r'\d+%\|', said): out.append(f'{at(c)} stores a progress bar')
    extra = {k for c in nb.cells for k in c.metadata} - {'tags', 'jupyter', 'hide_input'}
    return out + [f"cells keep the metadata '{k}' (run nbdev_clean)" for k in sorted(extra)]


# ---- the command ------------------------------------------------------------------------------------------------------

def check(nb: Notebook, only=None) -> list[str]:
    "All problems of a notebook, each with its name and the rule's."
    return [f'{nb.rel}: {name}: {p}' for name, (fn, kinds) in RULES.items() if nb.kind in kinds and (only is None or name in only) for p in fn(nb)]


def main():
    ap = argparse.ArgumentParser(description='Check notebooks against the chapter contract.')
    ap.add_argument('names', nargs='*', help='part/slug or path; all notebooks if none is given')
    ap.add_argument('--rules', action='store_true', help='list the rules')
    args = ap.parse_args()
    if args.rules:
        for name, (fn, kinds) in RULES.items(): print(f'{name:16s} {fn.__doc__}  [{", ".join(kinds)}]')
        return
    try: todo = [find(n) for n in args.names if n] or paths()
    except ValueError as e: sys.exit(f'contract: {e}')
    found = [(nb, check(nb)) for nb in map(Notebook, todo)]
    for nb, problems in found: print('\n'.join(problems) if problems else f'{nb.rel}: all {sum(nb.kind in k for _, k in RULES.values())} rules hold')
    sys.exit(any(problems for _, problems in found))


if __name__ == '__main__': main()
