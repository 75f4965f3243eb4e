"Shared by all tests: one thread each, frozen widgets, the tools importable, what shares a server in one worker."
import os, sys
from pathlib import Path

import pytest

for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'): os.environ[name] = '1'
os.environ['COURSELIB_WIDGETS'] = 'frozen'

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT/'tools')]

TOGETHER = ('test_browser', 'test_site', 'test_lab')   # each of these files starts a server or a browser once, for all its tests


def pytest_configure(config):
    config.addinivalue_line('markers', 'cuda: needs an NVIDIA GPU (make test-cuda)')
    config.addinivalue_line('markers', 'slow: takes more than a few seconds')


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in TOGETHER: item.add_marker(pytest.mark.xdist_group(item.path.stem))
        if 'cuda' in item.keywords and not has_cuda(): item.add_marker(pytest.mark.skip(reason='needs an NVIDIA GPU'))


def has_cuda() -> bool:
    import torch
    return torch.cuda.is_available()


@pytest.fixture(scope='session')
def root() -> Path: return ROOT
