"""Any program as a reconstructor: four views and their cameras in a folder go in, a mesh or gaussians come out.

For each grid the program is started with two folders. The first holds `view_0.png` to `view_3.png`, RGBA where the
grid has alpha, else RGB over white, and `cameras.json`. Into the second it writes one GLB, OBJ or PLY, in the frame of
the cameras: +Y up, the object's bounding sphere the unit sphere. A PLY may hold gaussians, in the layout of 3D Gaussian
Splatting.

Shape suffixes: B grids, C channels, H W pixels, F triangles, P points.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.assets.bundle import read_bundle
from pipeline.assets.load import load_pieces
from pipeline.assets.readers import FolderReader
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.srgb import display
from pipeline.assets.surface import Surface
from pipeline.errors import UserError
from pipeline.programs import ProgramFailed, run_program, written
from pipeline.reconstruction.baking import bake_gaussians, bake_surface
from pipeline.reconstruction.carving import hull_decoder
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.gaussian_files import is_gaussians, read_gaussians
from pipeline.reconstruction.grids import check_grids, shown_grids
from pipeline.reconstruction.rays import split_views
from pipeline.views.cameras import GRID_AZIMUTHS, Camera, camera_to_world
from pipeline.views.looks import base_colour

RESULTS = (".glb", ".obj", ".ply")
"""Kinds of files that a program may write."""
MOST_BYTES = 2**30
MOST_TRIANGLES = 4_000_000
TEXTURE_PX = 4096
POINTS = 400_000
"""On a mesh, at which its colours are read."""
COMMAND = "reconstruct.command"


class Command:
    """Fields by a program; see the module."""

    def __init__(
        self, command: Sequence[str], timeout_s: float, camera: Camera, elevation_deg: float, resolution: int
    ) -> None:
        self.command, self.timeout_s = command, timeout_s
        self.camera, self.elevation_deg, self.resolution = camera, elevation_deg, resolution
        self.samples = 3 * resolution // 2

    def fields(self, grids_BCHW: Tensor, whole_CHW: Tensor | None = None) -> list[Field]:
        """As `Reconstructor.fields`; ProgramFailed too."""
        check_grids(grids_BCHW, self.camera.size)
        empty = Field.empty(hull_decoder(1.0, grids_BCHW.device))
        shown = shown_grids(grids_BCHW).tolist()
        return [self._field(grid) if some else empty for grid, some in zip(grids_BCHW, shown, strict=True)]

    def _field(self, grid_CHW: Tensor) -> Field:
        with tempfile.TemporaryDirectory(prefix="partgen-") as folder:
            views, out = Path(folder, "views"), Path(folder, "out")
            views.mkdir()
            out.mkdir()
            self._write(grid_CHW, views)
            run_program(self.command, {"views": views, "out": out}, self.timeout_s, COMMAND)
            return self._read(out, grid_CHW.device)

    def _write(self, grid_CHW: Tensor, folder: Path) -> None:
        cameras = []
        for number, view_CHW in enumerate(split_views(grid_CHW[None])[0]):
            pixels = view_CHW.permute(1, 2, 0).cpu().numpy()
            if pixels.shape[2] == 4:  # colours over white as straight ones
                alpha = pixels[..., 3:]
                straight = np.where(alpha > 0, (pixels[..., :3] - (1 - alpha)) / np.maximum(alpha, 1e-6), 1.0)
                pixels = np.concatenate((straight, alpha), axis=-1)
            name = f"view_{number}.png"
            Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)).save(folder / name)
            pose = camera_to_world(GRID_AZIMUTHS[number], self.elevation_deg, self.camera.distance)
            angles = {"azimuth_deg": GRID_AZIMUTHS[number], "elevation_deg": self.elevation_deg}
            cameras.append({"file": name, **angles, "camera_to_world": pose.tolist()})
        values = {
            "convention": "OpenGL: a camera looks along its -Z with +Y up; the scene is +Y up, in the unit sphere",
            "fov_deg": self.camera.fov_deg,
            "distance": self.camera.distance,
            "view_size": self.camera.size,
            "views": cameras,
        }
        (folder / "cameras.json").write_text(json.dumps(values, indent=1), encoding="utf-8")

    def _read(self, out: Path, device: torch.device) -> Field:
        found = written(out, RESULTS)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "nothing of that kind"
            raise ProgramFailed(
                COMMAND, f"the program wrote {names}", f"let it write one {', '.join(RESULTS)} into {{out}}"
            )
        try:
            reader = FolderReader(out)
            if found[0].suffix.lower() == ".ply":
                content = reader(found[0].name, MOST_BYTES) or b""
                if is_gaussians(content):
                    gaussians = read_gaussians(content, found[0].name).to(device)
                    return self._somewhere(bake_gaussians(gaussians, self.resolution))
            bundle = read_bundle(found[0].name, reader, MOST_BYTES)
            pieces, _ = load_pieces(bundle, TEXTURE_PX, 0.0, MOST_TRIANGLES, np.eye(4))
        except (ObjectDropped, UserError) as error:
            reason = f"the program wrote {found[0].name}, which cannot be used: {str(error).rstrip('.')}"
            raise ProgramFailed(COMMAND, reason, "see what it writes") from None
        surfaces = [piece.surface for piece in pieces]
        triangles = np.concatenate([surface.vertices[surface.faces] for surface in surfaces])
        return self._somewhere(bake_surface(triangles, *coloured_points(surfaces, POINTS), self.resolution, device))

    def _somewhere(self, field: Field) -> Field:
        if field.is_empty:
            raise ProgramFailed(
                COMMAND,
                "what the program wrote has nothing in the cube from -1 to 1",
                "write in the frame of cameras.json",
            )
        return field


def coloured_points(surfaces: Sequence[Surface], count: int) -> tuple[np.ndarray, np.ndarray]:
    """About `count` points spread by area, and one in each triangle: (P, 3), and display colours (P, 3)."""
    draws, total = np.random.default_rng(0), sum(surface.areas().sum() for surface in surfaces)
    points, colours = [], []
    for surface in surfaces:
        number_F = np.maximum(1, np.rint(count * surface.areas() / total)).astype(int)
        corners_P3 = surface.faces[np.repeat(np.arange(len(number_F)), number_F)]
        weight_P3 = draws.dirichlet((1.0, 1.0, 1.0), len(corners_P3))
        points.append((surface.vertices[corners_P3] * weight_P3[..., None]).sum(axis=1))
        light_P3 = base_colour(surface, corners_P3, weight_P3).clip(0, 1)
        colours.append(display(light_P3))
    return np.concatenate(points), np.concatenate(colours)
