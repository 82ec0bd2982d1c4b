"""Strategies of OBJ, PLY and STL files of solids, with what the formats allow and few exporters write."""

import io
import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

Outlines = dict[str, list[tuple[float, float]]]
CONVEX: Outlines = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "hexagon": [(1, 0), (0.5, 0.9), (-0.5, 0.9), (-1, 0), (-0.5, -0.9), (0.5, -0.9)],
    "triangle": [(-1, -1), (1, -1), (0, 1)],
}
"""Outlines, counter-clockwise, in the square from -1 to 1."""
OUTLINES: Outlines = {
    **CONVEX,
    "collinear": [(-1, -1), (0, -1), (0.5, -1), (1, -1), (1, 1), (0, 1), (-1, 1), (-1, 0)],
    "dart": [(-1, -1), (0, 0.4), (1, -1), (0, 1)],
    "u": [(-1, -1), (1, -1), (1, 1), (0.6, 1), (0.6, -0.6), (-0.6, -0.6), (-0.6, 1), (-1, 1)],
    "comb": [
        (-1, -1),
        (1, -1),
        (1, 1),
        (0.8, 1),
        (0.8, -0.8),
        (0.1, -0.8),
        (0.1, 0.7),
        (-0.1, 0.7),
        (-0.1, -0.8),
        (-1, 0),
    ],
    "star": [(np.cos(k * np.pi / 5) * r, np.sin(k * np.pi / 5) * r) for k, r in enumerate([1, 0.35] * 5)],
}
PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int", "u4": "uint", "u2": "ushort", "i2": "short"}


@dataclass(frozen=True)
class Files:
    """A 3D file and those beside it."""

    main: str
    contents: dict[str, bytes]

    def write(self, folder: Path) -> Path:
        """Put them into a folder; the path of the main one."""
        for name, data in self.contents.items():
            (folder / name).write_bytes(data)
        return folder / self.main

    def __repr__(self) -> str:
        return f"Files({self.main}: {self.contents[self.main][:20000]!r})"


@dataclass(frozen=True)
class Solid:
    """Polygons that enclose a volume."""

    vertices: np.ndarray
    """(V, 3)"""
    polygons: list[list[int]]
    """Counter-clockwise seen from outside."""

    def triangles(self) -> np.ndarray:
        """(T, 3) for convex outlines."""
        return np.array([[p[0], a, b] for p in self.polygons for a, b in itertools.pairwise(p[1:])])

    def spread(self, rng: np.random.Generator, width: int) -> np.ndarray:
        """Values (V, width) in [0, 1]: for triangles any, else one, as others depend on how polygons are cut."""
        whole = max(map(len, self.polygons)) > 3
        values = rng.random((1 if whole else len(self.vertices), width))
        return np.repeat(values, len(self.vertices), axis=0) if whole else values


@st.composite
def solids(draw: st.DrawFn, outlines: Outlines) -> Solid:
    """A prism over one of the outlines, within the cube from -1 to 1; the axis is any of three."""
    outline = np.array(outlines[draw(st.sampled_from(sorted(outlines)))], float)
    size = [draw(st.sampled_from([0.25, 0.5, 0.9])) for _ in range(3)]
    ends = [np.column_stack([outline, np.full(len(outline), z)]) for z in (-1.0, 1.0)]
    vertices = np.roll(np.concatenate(ends) * size, draw(st.integers(0, 2)), axis=1)
    count = len(outline)
    sides = [[k, (k + 1) % count, count + (k + 1) % count, count + k] for k in range(count)]
    return Solid(vertices, [list(range(count))[::-1], list(range(count, 2 * count)), *sides])


@st.composite
def turned_solids(draw: st.DrawFn, outlines: Outlines = OUTLINES) -> list[Solid]:
    """One to three solids side by side, each turned at random or not, of polygons or of triangles."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        cut = draw(st.booleans())
        solid = draw(solids(CONVEX if cut else outlines))
        if cut:
            solid = Solid(solid.vertices, solid.triangles().tolist())
        turn = Rotation.random(rng=draw(st.integers(0, 99))) if draw(st.booleans()) else Rotation.identity()
        place = np.array([4 * number, 0, 0])
        found.append(Solid(np.round(turn.apply(solid.vertices) + place, 5), solid.polygons))
    return found


def png(rng: np.random.Generator, mode: str) -> bytes:
    """4x4 squares of random colours, 4 texels wide; `mode` as Pillow has it."""
    squares = rng.integers(0, 256, (4, 4, 4)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    squares[..., 3] = np.where(squares[..., 3] > 80, 255, 60)
    if mode == "I;16":
        image = Image.fromarray(squares[..., 0].astype(np.uint16) * 257)
    elif mode == "P":
        image = Image.fromarray(squares[..., :3]).quantize(16)
    else:
        image = Image.fromarray(squares, "RGBA").convert(mode)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@st.composite
def obj_files(draw: st.DrawFn) -> Files:
    """OBJ with MTL: concave polygons, relative numbers, groups, several libraries, colours, odd lines and line ends.

    Of opacity, `Tr` is left out but for 0: Blender 4.2 does not read it.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    flags = {
        name: draw(st.booleans()) for name in ("relative", "colors", "uv", "normals", "first", "continued", "crlf")
    }
    objects = draw(turned_solids())
    libraries = draw(st.sampled_from([["a.mtl"], ["a.mtl", "b.mtl"], ["my lib.mtl"]]))
    contents: dict[str, bytes] = {}
    mtl: dict[str, list[str]] = {name: ["# a comment"] for name in libraries}
    head: list[str] = ["# made by a test"]
    faces: list[str] = []
    lines: list[str] = []
    head += [f"mtllib {name}" for name in libraries]
    vertices = corners = 0
    for number, solid in enumerate(objects):
        library = libraries[number % len(libraries)]
        kd = [1.0, 1.0, 1.0] if flags["colors"] else rng.integers(0, 256, 3) / 255
        mtl[library] += [f"newmtl m {number}" if draw(st.booleans()) else f"newmtl m{number}"]
        name = mtl[library][-1].removeprefix("newmtl ")
        mtl[library] += ["Ka 0.1 0.1 0.1", "\tKd {:.6f} {:.6f} {:.6f}".format(*kd), "Ns 10", "illum 2"]
        mtl[library] += draw(st.sampled_from([[], ["d 1.0"], ["d 0.5"], ["Tr 0"]]))
        if flags["uv"] and not flags["colors"] and draw(st.booleans()):
            image = f"t {number}.png"
            contents[image] = png(rng, draw(st.sampled_from(["RGB", "L", "P", "I;16"])))
            options = draw(st.sampled_from(["", "-s 2 0.5 1 ", "-o 0.25 0.5 0 "]))
            mtl[library].append(f"map_Kd {options}{image}")
        declared = draw(st.sampled_from([f"o part{number}", f"g part{number}", f"g a part{number}", "s 1", "#"]))
        own = []
        for vertex, shade in zip(solid.vertices, solid.spread(rng, 3), strict=True):
            color = " {:.4f} {:.4f} {:.4f}".format(*shade) if flags["colors"] else ""
            own.append("v {:.5f} {:.5f} {:.5f}".format(*vertex) + color)
        if flags["uv"]:
            # Of the place alone, so that it does not matter how polygons are cut.
            own += ["vt {:.6f} {:.6f}".format(*uv) for uv in solid.vertices @ rng.uniform(-1, 1, (3, 2))]
        if flags["normals"]:
            own += ["vn 0 0 1"]
        (head if flags["first"] else faces).extend(own)
        vertices += len(solid.vertices)
        corners = sum(len(one.vertices) for one in objects) if flags["first"] else vertices
        faces += [declared, f"usemtl {name}"]
        for polygon in solid.polygons:
            words = []
            for corner in polygon:
                index = vertices - len(solid.vertices) + corner + 1
                index = index - corners - 1 if flags["relative"] else index
                normal = ("-1" if flags["relative"] else str(number + 1)) if flags["normals"] else ""
                uv = str(index) if flags["uv"] else ""
                words.append("/".join([str(index), uv, normal]).rstrip("/"))
            middle = " \\\n  " if flags["continued"] and len(words) > 4 else " "
            faces.append("f " + " ".join(words[:3]) + middle + " ".join(words[3:]))
        # Lines of an object's own vertices: those of another one make Blender mistake the colours.
        first = vertices - len(solid.vertices) + 1
        odd = [[], [""], ["  # another"], [f"l {first} {first + 1}"], [f"p {first}"], ["s off"]]
        faces += draw(st.sampled_from(odd))
    lines = head + faces
    text = "\n".join(lines) + ("\n" if draw(st.booleans()) else "")
    end = "\r\n" if flags["crlf"] else "\n"
    bom = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    contents["a.obj"] = bom + text.replace("\n", end).encode()
    for name, statements in mtl.items():
        contents[name] = (end.join(statements) + end).encode()
    return Files("a.obj", contents)


@st.composite
def ply_files(draw: st.DrawFn) -> Files:
    """PLY of three encodings: polygons of any size, edges, colours as bytes or floats, properties nobody knows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    objects = draw(turned_solids())
    start = np.cumsum([0] + [len(solid.vertices) for solid in objects])
    polygons = [[k + s for k in p] for s, solid in zip(start, objects, strict=False) for p in solid.polygons]
    positions = np.concatenate([solid.vertices for solid in objects])
    count = len(positions)
    real = draw(st.sampled_from(["f4", "f8"]))
    columns = [(name, real, positions[:, k]) for k, name in enumerate("xyz")]
    if draw(st.booleans()):
        columns += [(name, "f4", np.full(count, name == "nz", float)) for name in ("nx", "ny", "nz")]
    colours = draw(st.sampled_from(["", "u1", "u1", "f4"]))
    if colours:
        names = ["red", "green", "blue"] + (["alpha"] if draw(st.booleans()) else [])
        values = np.concatenate([solid.spread(rng, len(names)) for solid in objects])
        values[:, 3:] = 1
        values = np.round(values * 255) if colours == "u1" else values
        columns += [(name, colours, values[:, k]) for k, name in enumerate(names)]
    if draw(st.booleans()):
        columns += [(name, "f4", rng.random(count)) for name in ("s", "t")]
    if draw(st.booleans()):
        columns.insert(3, ("quality", draw(st.sampled_from(["f4", "i2", "u1"])), rng.integers(0, 99, count)))
    size, index = draw(st.sampled_from([("u1", "i4"), ("u1", "u4"), ("i4", "i4"), ("u1", "u2")]))
    form = draw(st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
    flagged, edges = draw(st.booleans()), draw(st.booleans())
    head = ["ply", f"format {form} 1.0", "comment made by a test", f"element vertex {count}"]
    head += [f"property {PLY_TYPES[kind]} {name}" for name, kind, _ in columns]
    head += [f"element face {len(polygons)}"]
    listed = draw(st.sampled_from(["vertex_indices", "vertex_index"]))
    head += [f"property list {PLY_TYPES[size]} {PLY_TYPES[index]} {listed}"]
    head += ["property int flags"] if flagged else []
    head += ["element edge 2", "property int vertex1", "property int vertex2"] if edges else []
    rows = [[(kind, values[k]) for _, kind, values in columns] for k in range(count)]
    for polygon in polygons:
        rows.append([(size, len(polygon)), *((index, k) for k in polygon), *([("i4", 7)] if flagged else [])])
    rows += [[("i4", 0), ("i4", 1)], [("i4", 1), ("i4", 2)]] if edges else []
    if form == "ascii":
        body = "".join(
            " ".join(f"{v:.6f}" if k[0] == "f" else f"{int(v)}" for k, v in row) + "\n" for row in rows
        ).encode()
    else:
        order = "<" if "little" in form else ">"
        body = b"".join(np.array(value).astype(order + kind).tobytes() for row in rows for kind, value in row)
    return Files("a.ply", {"a.ply": "\n".join([*head, "end_header", ""]).encode() + body})


@st.composite
def stl_files(draw: st.DrawFn) -> Files:
    """STL, ASCII of one or several solids, or binary, whose header may begin like the other kind."""
    soups = [solid.vertices[solid.triangles()] for solid in draw(turned_solids(CONVEX))]
    if draw(st.booleans()):
        triangles = np.concatenate(soups).astype("<f4")
        data = draw(st.sampled_from([b"solid mine", b"", b"binary"])).ljust(80, b"\0") + struct.pack(
            "<I", len(triangles)
        )
        for triangle in triangles:
            data += bytes(12) + triangle.tobytes() + bytes(2)
        return Files("a.stl", {"a.stl": data})
    if draw(st.booleans()):
        soups = [np.concatenate(soups)]
    text = ""
    for number, soup in enumerate(soups):
        text += f"solid part {number}\n"
        for triangle in soup:
            lines = "".join("      vertex {:.5e} {:.5e} {:.5e}\n".format(*point) for point in triangle)
            text += f"  facet normal 0 0 0\n    outer loop\n{lines}    endloop\n  endfacet\n"
        text += f"endsolid part {number}\n"
    return Files("a.stl", {"a.stl": text.replace("\n", draw(st.sampled_from(["\n", "\r\n"]))).encode()})
