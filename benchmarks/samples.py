"""Makes the ten samples from their sources, the libraries of Sweet Home 3D:

    partgen assets fetch sweethome3d
    python -m benchmarks.samples data/sources/sweethome3d

writes the GLBs that data/samples/samples.csv names, with a node for each group and material (`group|material`).
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from pipeline.assets.collect import SAMPLES
from pipeline.assets.glb import Node, pack
from pipeline.assets.load import load_pieces
from pipeline.assets.sources import Asset
from pipeline.assets.sweethome3d import sweethome3d_assets
from pipeline.errors import UserError
from pipeline.folders import written

TEXTURE_PX = 256
MAX_BYTES = 10**8
MAX_TRIANGLES = 10**6


def make_samples(libraries: Path, index: Path = SAMPLES / "samples.csv") -> None:
    """Write the GLBs of an index beside it, each from the object of its origin; UserError when one is not there."""
    assets = {asset.origin: asset for asset in sweethome3d_assets(libraries, 10**6)}
    for row in csv.DictReader(index.read_text(encoding="utf-8").splitlines()):
        if row["origin"] not in assets:
            raise UserError(f"{libraries} has no {row['origin']}; fetch it with `partgen assets fetch sweethome3d`.")
        with written(index.parent / row["file"]) as path:
            path.write_bytes(_sample(assets[row["origin"]], row))


def _sample(asset: Asset, row: dict[str, str]) -> bytes:
    """The GLB of an object: its box has the origin as its centre, and a longest side of 1."""
    pieces, _ = load_pieces(asset.read(MAX_BYTES), TEXTURE_PX, 0.0, MAX_TRIANGLES, asset.matrix())
    vertices = np.concatenate([piece.surface.vertices for piece in pieces])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    matrix = np.diag([*np.full(3, 1 / (high - low).max()), 1])
    matrix[:3, 3] = -(low + high) / 2 / (high - low).max()
    nodes = [
        Node(f"{piece.node_name}|{piece.material_name}", {}, [piece.surface.transformed(matrix).to_trimesh()])
        for piece in pieces
    ]
    notice = f"{row['name']} by {row['author']}, {row['licence']} ({row['origin']})"
    return pack(nodes, notice, {key: row[key] for key in ("author", "licence", "origin")})


def main() -> None:
    """Make the samples."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("libraries", type=Path, help="a folder of .sh3f libraries")
    make_samples(parser.parse_args().libraries)


if __name__ == "__main__":
    main()
