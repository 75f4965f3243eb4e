"""A small chapter that keeps every rule, written out in code, and the project around it. The tests break it, one rule at a time."""
import copy, json
from pathlib import Path

import contract
from course import CLAIM

PATH = 'nbs/09_continual/01_halves.ipynb'
WIDGET = '<div class="courselib-widget" data-uid="1">a still</div>'
PROSE = ('The halves of a number are two, and each is half of it. What happens to the sum when one of them is halved again, is a question to guess at. '
         'A plain sentence follows it, so that the page has enough words to be read as prose and not as a list of code cells alone. ')


def md(source): return dict(cell_type='markdown', id='', metadata={}, source=source)


def code(source, *outputs, **metadata): return dict(cell_type='code', id='', metadata=metadata, source=source, outputs=list(outputs), execution_count=None)


def said(text): return dict(output_type='stream', name='stdout', text=text)


def display(**data): return dict(output_type='display_data', metadata={}, data={k: v for k, v in data.items()})


def record(id, **more):
    q = dict(name='', values=[.5, .51, .49], n=3, mean=.5, lo=.48, hi=.52)
    return dict(id=id, says='A half is a half.', rule='mean above 0.4', unit='', paper=None, verdict='holds', ablation=False, note=None, quantities=[q], **q) | more


def measured(id, **more): return display(**{'text/html': '<div>card</div>', 'text/plain': f'claim {id}: holds', CLAIM: record(id, **more)})


FOLDED = dict(tags=['hide-input'], jupyter=dict(source_hidden=True))

CELLS = [
    code('#| default_exp continual.halves'),                                                                                        # 0
    md('# Halves\n> Half of a number, twice.\n\n- paper: On halves\n- authors: A. Author\n- year: 2023\n- arxiv: 2301.00001\n- level: core\n- needs: continual.bench'),
    md('## The idea\n\nWhat is half of a half?\n\n' + PROSE*8),                                                                     # 2
    code("#| export\nimport torch\nfrom courselib.continual.bench import double"),                                                  # 3
    md('## The method\n\n$h(x) = x/2$'),                                                                                            # 4
    code('#| exports\ndef halve(x: torch.Tensor, # (N,) numbers\n         ) -> torch.Tensor: # (N,)\n    "Half of `x`."\n    return x/2'),  # 5
    md('## Check it'),                                                                                                              # 6
    code('assert halve(torch.tensor([4.])) == 2\nassert double(halve(torch.tensor([3.]))) == 3\nassert not halve(torch.zeros(2)).any()'),  # 7
    md('## Does it hold?'),                                                                                                         # 8
    code("from courselib.claims import claim, above\nc = claim('halves/half', 'A half is a half.', above(.4))\na = claim('halves/not', 'Without it, not.', above(.4), ablation=True)"),
    code('halves = [halve(torch.tensor(1. + s/50)).item() for s in range(3)]\nc.measure(halves)', measured('halves/half')),         # 10
    code('a.measure([1 - h for h in halves])', measured('halves/not', ablation=True)),                                              # 11
    md('## Explore'),                                                                                                               # 12
    code("from courselib.explore import explore\nexplore(lambda x: x, alt='A line', x=(0, 1, 1))", display(**{'text/html': WIDGET})),  # 13
    md('Move the slider and watch the line: it goes up at first, then it goes down again, and that is what the claim says.'),       # 14
    md('## Exercises'),                                                                                                             # 15
    code("from courselib.exercises import rebuild, predict\nex = rebuild('halve', reference=halve, inputs=lambda rng: (torch.rand(3),),\n"
         "             wrong={'doubled': (double, 'the wrong way'), 'kept': (lambda x: x, 'nothing done')})"),                       # 16
    code('def my_halve(x):\n    ...  # your turn\n\nex.check(my_halve)', said('not written yet\n')),                                # 17
    code('# Solution\ndef solved(x): return x/2\nex.prove(solved)', **FOLDED),                                                      # 18
    code("q = predict('What is half of a half?', answer=.25, tol=.01)\nq.check(None)", said('not guessed yet\n')),                  # 19
    code('# Solution\nq.prove()', **FOLDED),                                                                                        # 20
    md('## Beyond this chapter\n\n' + PROSE),                                                                                       # 21
]

RUN = dict(ok=True, error='', cpu=1., wall=1., claims=[record('halves/half'), record('halves/not', ablation=True)])


def write(nb_path: Path, cells):
    nb_path.parent.mkdir(parents=True, exist_ok=True)
    cells = [dict(c, id=f'cell{i:04d}') for i, c in enumerate(copy.deepcopy(cells))]
    nb_path.write_text(json.dumps(dict(cells=cells, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)))


def project(root: Path, cells=None, export=True) -> Path:
    "A project with a bench and the chapter `cells` in `root`; the chapter's path."
    (root/'settings.ini').write_text('[DEFAULT]\nlib_name = courselib\nlib_path = courselib\nnbs_path = nbs\nversion = 0.1.0\n')
    for part in ('continual', 'shift'): (root/'courselib'/part).mkdir(parents=True, exist_ok=True)
    (root/'nbs'/'08_shift').mkdir(parents=True, exist_ok=True)
    for name in ('continual/bench', 'continual/other', 'shift/bench'): (root/'courselib'/f'{name}.py').write_text('')
    path = root/PATH
    write(path, CELLS)
    if export:
        from course import Notebook
        nb = Notebook(path, root)
        contract.module_file(nb).write_text(contract.exported_text(nb), encoding='utf-8')
    if cells is not None: write(path, cells)
    return path
