"""Build the bundled data of courselib/assets/ from its public sources, or check that the committed files still match them.

    python tools/build_assets.py            write courselib/assets/{fashion.png, fashion_index.npy, northanger_abbey.txt}
    python tools/build_assets.py --check    rebuild in memory, compare with the committed files, write nothing

Sources, both packages of Debian 12 ("bookworm"):
- dataset-fashion-mnist (MIT): `apt-get install dataset-fashion-mnist` puts the four original files into /usr/share/datasets/fashion-mnist.
- r-cran-janeaustenr (public-domain text, MIT packaging): fetched by `apt-get download` and unpacked by `dpkg -x` in a temporary
  folder, because only its data file is wanted and installing it would pull in R. `--text-deb FILE` uses a package that is already here.
"""
import argparse, gzip, io, struct, subprocess, sys, tempfile, zlib
from pathlib import Path
import numpy as np
from PIL import Image

ASSETS = Path(__file__).resolve().parent.parent/'courselib'/'assets'
FASHION = Path('/usr/share/datasets/fashion-mnist')
TILES = 100                 # pictures in a row of the mosaic
PER_CLASS = {'train': 1000, 't10k': 200}
MAX_TEXT = 300_000          # bytes


def idx(path: Path) -> np.ndarray:
    "Read an IDX file (the MNIST format): two zero bytes, type, number of dimensions, then the sizes, big-endian."
    raw = gzip.open(path).read()
    ndim = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4+4*ndim).reshape(struct.unpack(f'>{ndim}I', raw[4:4+4*ndim]))


def fashion(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The mosaic (3360, 2800) and the place of each tile in the original files (12000,).

    Tiles go class by class, the first 1,000 of each class of the training file, then the first 200 of each class of the test file.
    """
    tiles, index = [], []
    for part, n in PER_CLASS.items():
        x, y = idx(folder/f'{part}-images-idx3-ubyte.gz'), idx(folder/f'{part}-labels-idx1-ubyte.gz')
        keep = np.concatenate([np.flatnonzero(y == c)[:n] for c in range(10)])
        tiles.append(x[keep]), index.append(keep)
    tiles = np.concatenate(tiles)
    rows, side = len(tiles)//TILES, tiles.shape[1]
    mosaic = tiles.reshape(rows, TILES, side, side).transpose(0, 2, 1, 3).reshape(rows*side, TILES*side)
    return mosaic, np.concatenate(index).astype(np.uint16)


def r_strings(raw: bytes) -> list[str]:
    "The character vector in an R serialisation (XDR, as in a lazy-load database)."
    pos = raw.index(b'\0\0\0\x10')                        # 16: a vector of strings
    n, = struct.unpack_from('>i', raw, pos+4)
    pos, out = pos+8, []
    for _ in range(n):
        flags, size = struct.unpack_from('>ii', raw, pos)
        if flags & 255 != 9: raise ValueError(f'expected a string (type 9) in the R data, got type {flags & 255}')
        out.append(raw[pos+8:pos+8+max(size, 0)].decode('utf-8'))
        pos += 8+max(size, 0)
    return out


def novels(rdb: bytes) -> list[str]:
    "Every text of R's lazy-load database: chunks of a 4-byte length and a zlib stream."
    pos, out = 0, []
    while pos < len(rdb):
        z = zlib.decompressobj()
        out.append('\n'.join(r_strings(z.decompress(rdb[pos+4:]))))
        pos = len(rdb)-len(z.unused_data)
    return out


def austen(deb: Path | None) -> str:
    "Northanger Abbey (1803/1817) from its beginning to the last chapter end below 300 kB."
    with tempfile.TemporaryDirectory() as tmp:
        if deb is None:
            subprocess.run(['apt-get', 'download', '-qq', '-o', 'APT::Sandbox::User=root', 'r-cran-janeaustenr'], cwd=tmp, check=True)
            deb = next(Path(tmp).glob('*.deb'))
        subprocess.run(['dpkg', '-x', str(Path(deb).resolve()), tmp], check=True)
        rdb = (Path(tmp)/'usr/lib/R/site-library/janeaustenr/data/Rdata.rdb').read_bytes()
    book, = [t for t in novels(rdb) if t.startswith('NORTHANGER ABBEY')]
    ends = [i for i in range(len(book)) if book.startswith('\nCHAPTER ', i) and len(book[:i].encode()) < MAX_TEXT]
    return book[:ends[-1]].rstrip('\n')+'\n'


def png(a: np.ndarray) -> bytes:
    buf = io.BytesIO()
    Image.fromarray(a).save(buf, 'PNG', optimize=True)
    return buf.getvalue()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--check', action='store_true', help='compare, write nothing')
    ap.add_argument('--fashion', type=Path, default=FASHION, help='folder of the four Fashion-MNIST files')
    ap.add_argument('--text-deb', type=Path, help='an r-cran-janeaustenr package that is already here')
    args = ap.parse_args()
    if not (args.fashion/'train-images-idx3-ubyte.gz').exists():
        sys.exit(f'build_assets: no Fashion-MNIST in {args.fashion}; apt-get install dataset-fashion-mnist')
    mosaic, index = fashion(args.fashion)
    book = austen(args.text_deb)
    if args.check:
        same = {'fashion.png': np.array_equal(np.asarray(Image.open(ASSETS/'fashion.png')), mosaic),     # pixels: bytes depend on zlib's version
                'fashion_index.npy': np.array_equal(np.load(ASSETS/'fashion_index.npy'), index),
                'northanger_abbey.txt': (ASSETS/'northanger_abbey.txt').read_text(encoding='utf-8') == book}
        for name, ok in same.items(): print(f"{name}: {'as built' if ok else 'DIFFERS'}")
        sys.exit(not all(same.values()))
    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS/'fashion.png').write_bytes(png(mosaic))
    np.save(ASSETS/'fashion_index.npy', index)
    (ASSETS/'northanger_abbey.txt').write_text(book, encoding='utf-8', newline='\n')
    for name in ('fashion.png', 'fashion_index.npy', 'northanger_abbey.txt'): print(f'{name}: {(ASSETS/name).stat().st_size:,} bytes')


if __name__ == '__main__': main()
