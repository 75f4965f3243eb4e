"""An exported module stands alone: every name that it uses, it also binds (a notebook may have imported it in a cell that is not exported)."""
import builtins

import pytest

from contract import scopes
from course import ROOT

MODULES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT/'courselib').rglob('*.py') if p.name != '_modidx.py')


def unbound(code: str) -> set[str]:
    "Names that are looked up in the module or among the builtins, and are in neither."
    bound, reads = scopes(code)
    return {n for n in set().union(*reads.values()) - bound if not hasattr(builtins, n) and not (n.startswith('__') and n.endswith('__'))}


@pytest.mark.parametrize('code, names', [
    ('import math\ndef f(x): return math.log(x)', set()),
    ('def f(x): return math.log(x)', {'math'}),
    ('def f(x):\n    import math\n    return [math.log(v) for v in x]', set()),
    ('class A:\n    n = 3\n    def f(self): return n', {'n'}),
    ('def f():\n    global g\n    g = 1\ndef h(): return g', set()),
    ('try: import a\nexcept ImportError: a = None\nx = lambda v, w=b: a(v, w)', {'b'}),
    ('def f(x: Tensor) -> int: return len(x)', {'Tensor'}),
])
def test_the_check_itself(code, names): assert unbound(code) == names


@pytest.mark.parametrize('path', MODULES)
def test_module_binds_its_names(path): assert not unbound((ROOT/path).read_text(encoding='utf-8'))
