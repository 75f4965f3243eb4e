"""The parts of the course: folder number, module name, title, and what the part is about in one line."""

PARTS = [
    ('01', 'information',   'Information',            'what a network keeps, what it throws away'),
    ('02', 'concepts',      'Concepts',               'models that say why'),
    ('03', 'contrastive',   'Contrastive learning',   'contrastive and joint-embedding self-supervision'),
    ('04', 'masked',        'Masked modelling',       'masked modelling, JEPA and structured self-supervision'),
    ('05', 'distillation',  'Distillation',           'distillation, condensed datasets and data selection'),
    ('06', 'mixing',        'Mixing',                 'mixup and its relatives, calibration, losses and prediction sets'),
    ('07', 'scarce',        'Scarce labels',          'scarce, skewed and open labels'),
    ('08', 'shift',         'Shift',                  'adapting to, generalising over and resisting changes of distribution'),
    ('09', 'continual',     'Continual learning',     'learning a stream without losing the past'),
    ('10', 'unlearning',    'Unlearning',             'erasure and refusal: taking things back out of models'),
    ('11', 'architectures', 'Architectures',          'building blocks and why they work'),
    ('12', 'compression',   'Compression',            'fewer bits, fewer weights, fewer multiplications, less memory'),
    ('13', 'finetuning',    'Fine-tuning',            'adapting a pretrained model with few parameters, little memory, or no gradients'),
    ('14', 'compatibility', 'Compatibility',          'representations, weights and modules that fit together'),
    ('15', 'generative',    'Generative models',      'models that make things, and ways to steer them'),
    ('16', 'language',      'Language',               'objectives, planning, learning in context, guided decoding'),
    ('17', 'structure',     'Structure',              'outputs that are permutations, plans, graphs'),
    ('18', 'credit',        'Credit',                 'learning without backpropagation, and learning to act by watching'),
    ('19', 'pathology',     'Partial evidence',       'slides, scans, documents and video'),
    ('20', 'systems',       'Systems',                'moving bytes, sharing tables, training apart'),
]
CORE = ('00', 'core', 'The library', 'data, models, training, widgets, claims and exercises: what every chapter uses')
LEVELS = ['intro', 'core', 'advanced']


def part_of(folder: str) -> dict:
    "Number, slug, title and line of the part in `folder` (such as '09_continual'); unknown folders get a title from their name."
    num, _, slug = folder.partition('_')
    for n, s, title, line in [CORE, *PARTS]:
        if s == slug: return dict(num=n, slug=s, title=title, line=line)
    return dict(num=num, slug=slug or num, title=(slug or num).replace('_', ' ').capitalize(), line='')
