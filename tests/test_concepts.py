"""The concept bench and its chapters: what no single notebook can test."""
import numpy as np
import pytest
import torch

from courselib import zoo
from courselib.concepts import bench as B
from courselib.concepts import posthoc_cbm as P
from courselib.data import standardise
from courselib.train import accuracy


@pytest.fixture(scope='module')
def guide(): return B.guide(1500, seed=1)


@pytest.fixture(scope='module')
def feats(guide): return guide.map(B.backbone('shapes_conv').feats)


# ---- the guide --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('values', [B.VALUES, (2,)*6, (4, 8, 3, 6, 9, 6)])
def test_fields_agree_with_each_other(values):
    d = B.guide(60, seed=2, values=values)
    assert d.x.shape == (60, 3, 24, 24) and d.mask.shape == (60, 6, 24, 24) and d.center.shape == (60, 6, 2)
    assert d.c.shape == (60, sum(values)) and len(d.concepts) == sum(values) == sum(map(len, d.groups))
    for g, ks in enumerate(d.groups): assert torch.equal(d.c[:, ks].argmax(1), d.values[:, g])
    assert torch.equal(d.mask[:, 5], ~d.mask[:, 0]) and d.center[:, 5].isnan().all() and d.center[:, :5].isfinite().all()


def test_the_background_is_the_pixels_outside_the_mask():
    d = B.guide(200, seed=3, noise=0.)
    outside = [d.x[i][:, d.mask[i, 5]].mean().item() for i in range(200)]
    by_value = [np.mean([v for v, b in zip(outside, d.values[:, 5].tolist()) if b == k]) for k in range(3)]
    assert by_value[0] < .2 < by_value[2] < .7 < by_value[1]          # dark, light, grey


def test_more_noise_changes_pixels_only():
    a, b = B.guide(50, seed=4, noise=.08), B.guide(50, seed=4, noise=.3)
    assert torch.equal(a.values, b.values) and torch.equal(a.mask, b.mask) and not torch.equal(a.x, b.x)


def test_splits_and_tables():
    a, b, c = B.guide(300, seed=5), B.guide(300, seed=6), B.guide(300, seed=5, table=7)
    assert torch.equal(a.S, b.S) and not torch.equal(a.S, c.S)                # one table for all seeds unless asked for
    train, test = a.split(200, 100)
    assert torch.equal(train.S, a.S) and train.groups == a.groups and (train.c.sum(1) == 6).all()


@pytest.mark.parametrize('i,j', [(0, 3), (3, 0), (1, 5)])
def test_a_tie_binds_the_pair_and_nothing_else(i, j):
    d, free = B.guide(4000, seed=8, corr=(i, j, 1.)), B.guide(4000, seed=8)
    assert torch.equal(d.values[:, j], d.values[:, i] % B.VALUES[j])
    keep = [g for g in range(6) if g != j]
    assert torch.equal(d.values[:, keep], free.values[:, keep])


def test_a_random_confounder_is_uniform():
    d = B.guide(6000, seed=9, spurious=1/3)
    table = torch.stack([d.values[d.y == k, 5].bincount(minlength=3)/(d.y == k).sum() for k in range(10)])
    assert (table - 1/3).abs().max() < .1


@pytest.mark.parametrize('bad', [dict(domain='C'), dict(reliability=1.5), dict(spurious=-.1), dict(values=(4, 5)), dict(values=(99, 2, 2, 2, 2, 2)),
                                 dict(corr=(0, 9, .5)), dict(corr=(0, 3, 2.)), dict(corr=1.5), dict(values=(2,)*6, n_classes=40), dict(values=(1, 1, 2, 2, 2, 2))])
def test_bad_guides_say_what_was_expected(bad):
    with pytest.raises(ValueError, match='expected|found no'): B.guide(10, **bad)


# ---- backbones --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['shapes_conv', 'shapes_conv_nobg', 'clip'])
def test_backbones_are_bundled_small_and_frozen(name, guide):
    net, info = B.backbone(name), zoo.info(name)
    assert info['bytes'] <= 1_200_000 and info['metrics'] and not any(p.requires_grad for p in net.parameters())
    z = net.feats(guide.x[:700])
    assert z.shape == (700, 64) and not z.requires_grad and net.fmap(guide.x[:3]).shape == (3, 6, 6, 64)
    assert torch.allclose(z[600:], net.feats(guide.x[600:700]), atol=1e-4)    # batches do not matter


def test_clip_knows_words_without_labels(guide):
    net = B.backbone('clip')
    z, t = net.feats(guide.x), net.text(B.concept_phrases())
    assert torch.allclose(z.norm(dim=1), torch.ones(len(z)), atol=1e-4) and torch.allclose(t.norm(dim=1), torch.ones(19), atol=1e-4)
    for g, ks in enumerate(guide.groups): assert accuracy(z @ t[ks].T, guide.values[:, g]) > .9
    assert accuracy(z @ net.text([f'a photo of a {n}' for n in guide.names]).T, guide.y) > .85


def test_unknown_backbone():
    with pytest.raises(ValueError, match='shapes_conv'): B.backbone('resnet')


# ---- bottlenecks and interventions ------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def trained(feats):
    train, test = standardise(*feats.split(1000, 500))
    kw = dict(steps=150)
    return train, test, {'cbm': B.fit_cbm(train, **kw), 'independent': B.fit_cbm(train, 'independent', **kw), 'cem': B.fit_cem(train, **kw)}


@pytest.mark.parametrize('name', ['cbm', 'independent', 'cem'])
def test_intervening_changes_only_what_is_corrected(name, trained):
    _, test, models = trained
    model, known = models[name], torch.zeros(19, dtype=torch.bool)
    logits, p = model.intervene(test.x, test.c, known)
    assert torch.equal(logits, model(test.x)) and torch.equal(p, model.concepts(test.x))
    known[4:9] = True
    _, p = model.intervene(test.x, test.c, known)
    assert torch.equal(p[:, 4:9], test.c[:, 4:9]) and torch.equal(p[:, ~known], model.concepts(test.x)[:, ~known])


def test_curves_share_their_orders_and_do_not_depend_on_the_model(trained):
    _, test, models = trained
    a, b = (B.intervene_curve(models[k], test.x, test.c, test.y, test.groups, seed=3) for k in ('cbm', 'cbm'))
    assert all(np.array_equal(u, v) for u, v in zip(a, b)) and len(a.acc) == 7
    assert a.overall[-1] == 1 and a.acc[0] == pytest.approx(accuracy(models['cbm'](test.x), test.y))
    other = B.intervene_curve(models['cbm'], test.x, test.c, test.y, test.groups, seed=4)
    assert other.acc[0] == a.acc[0] and other.acc[-1] == pytest.approx(a.acc[-1]) and not np.array_equal(other.acc, a.acc)


def test_the_true_concepts_make_every_order_end_alike(trained):
    _, test, models = trained
    class Oracle(B.Bottleneck):
        def concepts(self, z): return test.c
        def label(self, p, z=None): return models['independent'].label(p)
    curve = B.intervene_curve(Oracle(), test.x, test.c, test.y, test.groups)
    assert np.ptp(curve.acc) == 0 and (curve.conc_acc == 1).all() and B.auc_int(curve.acc) == pytest.approx(curve.acc[0])


def test_same_seed_same_model(trained):
    train, test, models = trained
    assert torch.equal(B.fit_cbm(train, steps=150)(test.x), models['cbm'](test.x))
    with pytest.raises(ValueError, match='joint'): B.fit_cbm(train, 'both')


# ---- post-hoc bottlenecks ---------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def bank():
    pool = B.guide(1000, seed=20, domain='B').map(B.backbone('shapes_conv').feats)
    return P.learn_bank(pool.x, pool.c, pool.concepts)


def test_margins_do_not_depend_on_the_length_of_a_concept_vector(bank, feats):
    long = P.ConceptBank(5*bank.C, 5*bank.b, bank.names)
    assert torch.allclose(long(feats.x), bank(feats.x), rtol=1e-4, atol=1e-4)
    assert torch.allclose(P.ConceptBank(-bank.C, -bank.b, bank.names)(feats.x), -bank(feats.x))


def test_a_bank_needs_enough_pictures(feats):
    with pytest.raises(ValueError, match='pictures with and without'): P.learn_bank(feats.x[:100], feats.c[:100], feats.concepts)


def test_edits_leave_the_model_alone_that_they_start_from(bank, feats):
    train, val = feats.split(1000, 300)
    pcbm = P.fit_pcbm(train, bank)
    hybrid = P.fit_pcbmh(pcbm, train, val, steps=20)
    before = pcbm(val.x), hybrid(val.x)
    P.edit(pcbm, [16, 17, 18]); P.edit(hybrid, [16, 17, 18])
    assert torch.equal(pcbm(val.x), before[0]) and torch.equal(hybrid(val.x), before[1])


def test_pruning_everything_leaves_the_bias(bank, feats):
    pcbm = P.fit_pcbm(feats, bank)
    assert torch.allclose(P.edit(pcbm, range(19))(feats.x), pcbm.b.expand(len(feats), -1))


def test_an_edit_for_all_classes_is_the_edits_one_by_one(bank, feats):
    pcbm = P.fit_pcbm(feats, bank)
    W = pcbm.W
    for y in range(10): W = P.prune_normalize(W, y, [0, 5])
    assert torch.equal(P.edit(pcbm, [0, 5]).W, W)
    assert torch.allclose(W.abs().sum(1), pcbm.W.abs().sum(1), rtol=1e-4)
