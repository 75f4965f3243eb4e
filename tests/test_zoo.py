"""The bundled weights are what the index says, and no damaged file is ever loaded, or unpickled."""
import hashlib, json, pickle
from pathlib import Path
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from courselib import zoo
from courselib.models import mlp

FACTS = dict(builder='courselib.models:mlp', notebook='nbs/00_core/09_zoo.ipynb', trained_on='nothing', metrics=dict(acc=.1))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    zoo.save('tiny', mlp(3, 4, 1, 2), kwargs=dict(d_in=3, width=4, depth=1, d_out=2), folder=tmp_path, **FACTS)
    return tmp_path


@pytest.mark.parametrize('name', zoo.names())
def test_every_bundled_model_loads(name):
    i, model = zoo.info(name), zoo.load(name)
    assert (zoo.ZOO/i['file']).stat().st_size == i['bytes'] <= 1_000_000
    assert sum(p.numel() for p in model.parameters()) == i['parameters']
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())
    assert (Path(__file__).parent.parent/i['notebook']).exists() and i['metrics'] and i['trained_on']


def test_core_models_are_there():
    assert {'mlp', 'convnet', 'vit', 'gpt'} <= set(zoo.names())


def test_no_file_without_an_entry():
    assert {p.name for p in zoo.ZOO.glob('*.safetensors')} == {zoo.info(n)['file'] for n in zoo.names()}


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_found(folder, data):
    path = folder/'tiny.safetensors'
    good = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(good)-1)), data.draw(st.integers(0, 7))
    path.write_bytes(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at+1:])
    with pytest.raises(ValueError, match='damaged'): zoo.load('tiny', folder=folder)
    path.write_bytes(good)


@pytest.mark.parametrize('keep', [0, 1, 8, 100, -1])
def test_a_cut_file_says_how_much_is_missing(folder, keep):
    path = folder/'tiny.safetensors'
    good = path.read_bytes()
    path.write_bytes(good[:keep])
    with pytest.raises(ValueError, match=f'expected {len(good):,} bytes .* got {len(good[:keep]):,}'): zoo.load('tiny', folder=folder)


def test_a_missing_file_says_where_it_should_be(folder):
    (folder/'tiny.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='tiny.safetensors .* no such file'): zoo.load('tiny', folder=folder)


def test_unknown_names_and_missing_indexes(folder):
    with pytest.raises(ValueError, match="no model 'tinny' in the zoo; it has tiny"): zoo.load('tinny', folder=folder)
    with pytest.raises(FileNotFoundError, match='index'): zoo.names(folder/'nowhere')
    (folder/'index.json').write_text('{"tiny": ')
    with pytest.raises(ValueError, match='expected JSON'): zoo.names(folder)


class Trap:
    "Leaves a file behind when it is unpickled."
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), 'w')

@pytest.mark.parametrize('make', [lambda t: pickle.dumps(t), lambda t: pickle.dumps({'layers.0.weight': t})])
def test_a_pickle_is_refused_even_with_a_matching_hash(folder, make):
    trap = folder/'sprung'
    data = make(Trap(trap))
    (folder/'tiny.safetensors').write_bytes(data)
    index = json.loads((folder/'index.json').read_text())
    index['tiny'] |= dict(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (folder/'index.json').write_text(json.dumps(index))
    with pytest.raises(ValueError, match='expected a safetensors file'): zoo.load('tiny', folder=folder)
    assert not trap.exists()


@pytest.mark.parametrize('builder', ['os:system', 'courselib.models', 'courselibx.models:mlp', 'courselib.models:nothing'])
def test_an_index_cannot_name_just_any_function(folder, builder):
    index = json.loads((folder/'index.json').read_text())
    index['tiny']['builder'] = builder
    (folder/'index.json').write_text(json.dumps(index))
    with pytest.raises(ValueError, match='expected a'): zoo.load('tiny', folder=folder)


def test_weights_of_another_network_are_refused(folder):
    index = json.loads((folder/'index.json').read_text())
    index['tiny']['kwargs']['width'] = 5
    (folder/'index.json').write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r'layers.0.bias: expected \(5,\), got \(4,\)'): zoo.load('tiny', folder=folder)


def test_saving_is_repeatable_and_keeps_the_others(folder):
    torch.manual_seed(0)
    again = zoo.save('again', mlp(3, 4, 1, 2), kwargs=dict(d_in=3, width=4, depth=1, d_out=2), folder=folder, chars='abc', **FACTS)
    assert zoo.names(folder) == ['again', 'tiny'] and again['sha256'] == zoo.info('tiny', folder)['sha256'] and zoo.info('again', folder)['chars'] == 'abc'
    assert not list(folder.glob('*.part'))


@pytest.mark.parametrize('bad,says', [(dict(dtype='int8'), 'int8'), (dict(kwargs=dict(d_in=9)), 'not this network'), (dict(name='../up'), 'expected a name')])
def test_save_refuses_what_could_not_be_loaded(folder, bad, says):
    before = sorted(p.name for p in folder.iterdir())
    kw = dict(kwargs=dict(d_in=3, width=4, depth=1, d_out=2), folder=folder, **FACTS) | {k: v for k, v in bad.items() if k != 'name'}
    with pytest.raises(ValueError, match=says): zoo.save(bad.get('name', 'x'), mlp(3, 4, 1, 2), **kw)
    assert sorted(p.name for p in folder.iterdir()) == before
