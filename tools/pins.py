"""Renew constraints.txt: the versions of everything in settings.ini, resolved for every supported Python on Linux and macOS.

    pip install uv && python tools/pins.py [--upgrade]

Pins that still fit are kept; `--upgrade` takes the newest. Packages of CUDA are left out: torch pins its own. Arguments that follow
`--` go to uv, for example an index of your own.
"""
import argparse, re, subprocess, sys, tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r'(nvidia-|cuda-|colorama|pywinpty)')   # CUDA's, and Windows'


def requirements() -> list[str]:
    "Everything that settings.ini asks for."
    cfg = ConfigParser(interpolation=None, delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return [r for key in ('requirements', 'lab_requirements', 'dev_requirements') for r in cfg['DEFAULT'][key].split()]


def main():
    ap = argparse.ArgumentParser(description='Renew constraints.txt.')
    ap.add_argument('--upgrade', action='store_true', help='newest versions instead of those pinned now')
    args, rest = ap.parse_known_args()
    path = ROOT/'constraints.txt'
    head = ''.join(line for line in path.read_text().splitlines(True) if line.startswith('#'))
    with tempfile.TemporaryDirectory() as tmp:
        asked, out = Path(tmp)/'in.txt', Path(tmp)/'out.txt'
        asked.write_text('\n'.join(requirements()) + '\n')
        out.write_text(path.read_text())
        cmd = [sys.executable, '-m', 'uv', 'pip', 'compile', '--universal', '--python-version', '3.10', '--no-header', '--no-annotate',
               '--no-build', '--no-python-downloads', '-o', out, asked, *(['--upgrade'] if args.upgrade else []), *(r for r in rest if r != '--')]
        if subprocess.run(cmd, stdout=subprocess.DEVNULL).returncode: sys.exit('pins: uv found no set of versions, its messages are above')
        pins = [line for line in out.read_text().splitlines() if line and line[0] != '#' and not LEFT_OUT.match(line)]
    path.write_text(head + '\n'.join(pins) + '\n')
    print(f'constraints.txt: {len(pins)} pins')


if __name__ == '__main__': main()
