# SPDX-License-Identifier: GPL-3.0-or-later
#
# This program runs inside Blender and is free software: you can redistribute it and/or modify it under the terms of the
# GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your
# option) any later version. It comes WITHOUT ANY WARRANTY. See LICENSES/GPL-3.0-or-later.txt.
"""A program that says what Blender's own importers take from a 3D file: `python blender_import.py`.

It speaks JSON lines. It first says which Blender it is, `{"blender": "4.2.0"}`, and then answers each job on its
standard input, in order, by `{}` or `{"error": "why the file cannot be read"}`:

    {"file": "/tmp/a.glb", "out": "/tmp/a.npz", "points": 200}

The NPZ has `triangles` (T, 3, 3), all of the scene as it is drawn (joints, morphs, instances and nodes applied), in the
frame of the file (of glTF: +Y up), counter-clockwise seen from outside; `points` (P, 3) spread over them by area; and
`low` and `high` (P, 4), the bounds of the base colour there, RGBA in linear light with straight alpha: those of the 3x3
texels about the point, and 0 to 1 where the texture could not be read.
"""

import json
import os
import sys

# Blender prints on file descriptor 1, while it is imported too: keep the channel of the answers for ourselves.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import bpy  # noqa: E402
import numpy as np  # noqa: E402

UP = {"forward_axis": "NEGATIVE_Z", "up_axis": "Y"}
TEXELS = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]


def main() -> None:
    """Answer jobs until the standard input ends."""
    print(json.dumps({"blender": bpy.app.version_string}), file=answers)
    for line in sys.stdin:
        try:
            job = json.loads(line)
            load(job["file"])
            linked = job["file"].lower().endswith((".glb", ".gltf"))
            np.savez(job["out"], allow_pickle=False, **taken(job["points"], linked))
            answer = {}
        except Exception as error:  # a bad file must not cost the start of a new Blender
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[-500:]}
        print(json.dumps(answer), file=answers)
    # The module `bpy` crashes while the interpreter shuts down.
    os._exit(0)


def load(path: str) -> None:
    """Import a file into an empty scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    kind = path.rpartition(".")[2].lower()
    if kind in ("glb", "gltf"):
        bpy.ops.import_scene.gltf(filepath=path, disable_bone_shape=True)
    elif kind == "obj":
        # Validation would take away one side of a sheet that has two.
        bpy.ops.wm.obj_import(filepath=path, validate_meshes=False, **UP)
    elif kind == "ply":
        bpy.ops.wm.ply_import(filepath=path, **UP)
    else:
        bpy.ops.wm.stl_import(filepath=path, **UP)


def taken(count: int, linked: bool) -> dict[str, np.ndarray]:
    """The triangles of the scene and the colours at `count` points, as the NPZ has them.

    `linked`: the importer has linked the vertex colours to the materials; those of OBJ and PLY leave that to the user.
    """
    shown = []
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        if instance.object.type == "MESH":
            # An instance is valid only while it is iterated over.
            shown.append(Corners(instance.object, np.array(instance.matrix_world), linked))
    soups = [corners.placed() for corners in shown]
    triangles = np.concatenate([np.zeros((0, 3, 3)), *soups])
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    if not areas.sum():
        raise ValueError("no triangles")
    chosen = np.searchsorted(np.cumsum(areas) / areas.sum(), (np.arange(count) + 0.5) / count).clip(max=len(areas) - 1)
    # From the middle half of each triangle: on an edge two colours would be right.
    weights = 0.25 + 0.25 * np.random.default_rng(0).dirichlet((1, 1, 1), count)
    low, high = np.zeros((count, 4)), np.ones((count, 4))
    starts = np.cumsum([0, *map(len, soups)])
    for corners, start, end in zip(shown, starts, starts[1:], strict=False):
        inside = np.flatnonzero((chosen >= start) & (chosen < end))
        low[inside], high[inside] = corners.colours(chosen[inside] - start, weights[inside])
    points = np.einsum("pk,pkc->pc", weights, triangles[chosen])
    return {"triangles": triangles, "points": points, "low": low, "high": high}


class Corners:
    """The loop triangles of an evaluated mesh object and what its attributes are at their corners."""

    def __init__(self, obj: bpy.types.Object, matrix: np.ndarray, linked: bool) -> None:
        self.matrix, self.linked = matrix, linked
        mesh = obj.data
        mesh.calc_loop_triangles()
        self.loops = read(mesh.loop_triangles, "loops", 3, np.int32)
        if np.linalg.det(matrix[:3, :3]) < 0:
            self.loops = self.loops[:, ::-1]  # a mirror turns triangles over
        self.slots = read(mesh.loop_triangles, "material_index", 1, np.int32)[:, 0]
        self.vertices = read(mesh.loops, "vertex_index", 1, np.int32)[:, 0]
        self.positions = read(mesh.vertices, "co", 3)
        self.materials = [slot.material for slot in obj.material_slots]
        self.uv = {layer.name: read(layer.uv, "vector", 2) for layer in mesh.uv_layers}
        self.shown_uv = next((layer.name for layer in mesh.uv_layers if layer.active_render), "")
        self.colors = None
        if mesh.color_attributes:
            layer = mesh.color_attributes[max(mesh.color_attributes.render_color_index, 0)]
            colors = read(layer.data, "color", 4)
            self.colors = colors[self.vertices] if layer.domain == "POINT" else colors

    def placed(self) -> np.ndarray:
        """The triangles (T, 3, 3) in the frame of the file."""
        points = self.positions.astype(float) @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        points = points[:, [0, 2, 1]] * (1, 1, -1)
        return points[self.vertices[self.loops]]

    def colours(self, chosen: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (P, 4) of the colours at points of triangles, given by numbers (P,) and barycentric weights (P, 3)."""
        low, high = np.zeros((len(chosen), 4)), np.ones((len(chosen), 4))
        for slot in set(self.slots[chosen]):
            inside = np.flatnonzero(self.slots[chosen] == slot)
            material = self.materials[slot] if slot < len(self.materials) else None
            loops = self.loops[chosen[inside]]
            try:
                looks = [Look(self, material, loops, weights[inside], texel).colour() for texel in TEXELS]
            except NotShown:
                continue
            shown = ~np.isnan(looks[0]).any(axis=1)
            low[inside[shown]], high[inside[shown]] = np.min(looks, axis=0)[shown], np.max(looks, axis=0)[shown]
        return low, high


class NotShown(Exception):
    """Blender has no colour here: no material and no vertex colours, or a texture that it could not read."""


class Look:
    """Base colours at points of one material, by the node tree that the importer made."""

    def __init__(
        self,
        corners: Corners,
        material: bpy.types.Material | None,
        loops: np.ndarray,
        weights: np.ndarray,
        texel: tuple[int, int],
    ) -> None:
        self.corners, self.material, self.loops, self.weights, self.texel = corners, material, loops, weights, texel

    def colour(self) -> np.ndarray:
        """(P, 4) in linear light, NaN where Blender has none; NotShown where it has none at all."""
        if self.material is None:
            if self.corners.colors is None:
                raise NotShown
            colour = self.at_points(self.corners.colors)
            if self.corners.linked:
                # glTF's default material is opaque; and primitives without colours beside others with some get white.
                colour[:, 3] = 1
                colour[(colour > 1 - 1e-6).all(axis=1)] = np.nan
            return colour
        nodes = {node.type: node for node in self.material.node_tree.nodes}
        if "BSDF_PRINCIPLED" in nodes:
            rgb = self.value(nodes["BSDF_PRINCIPLED"].inputs["Base Color"])
            if not self.corners.linked and not nodes["BSDF_PRINCIPLED"].inputs["Base Color"].is_linked:
                rgb = linear(rgb)  # Kd of MTL is a display colour, which Blender takes for linear light
            alpha = self.value(nodes["BSDF_PRINCIPLED"].inputs["Alpha"])
        else:  # an unlit material: light of the base colour, mixed with nothing by its alpha
            rgb = self.value(nodes["EMISSION"].inputs["Color"])
            mixes = [node for node in self.material.node_tree.nodes if node.type == "MIX_SHADER"]
            fac = [mix.inputs["Fac"] for mix in mixes if not is_camera_ray(mix.inputs["Fac"])]
            alpha = self.value(fac[0]) if fac else np.ones((len(rgb), 1))
        colour = np.concatenate([rgb[:, :3], alpha[:, :1]], axis=1)
        if self.corners.colors is not None and not self.corners.linked:
            colour = colour * self.at_points(self.corners.colors)
        return colour

    def at_points(self, per_loop: np.ndarray) -> np.ndarray:
        return np.einsum("pk,pkc->pc", self.weights, per_loop[self.loops])

    def value(self, socket: bpy.types.NodeSocket) -> np.ndarray:
        """(P, C) of an input: its own value, or what it is linked to."""
        if not socket.is_linked:
            value = np.atleast_1d(np.array(socket.default_value, float))
            return np.repeat(value[None], len(self.loops), axis=0)
        node, name = socket.links[0].from_node, socket.links[0].from_socket.name
        return getattr(self, node.bl_idname)(node, name)

    def ShaderNodeVertexColor(self, node: bpy.types.Node, name: str) -> np.ndarray:
        assert self.corners.colors is not None
        colors = self.at_points(self.corners.colors)
        return colors[:, 3:] if name == "Alpha" else colors

    def ShaderNodeMix(self, node: bpy.types.Node, name: str) -> np.ndarray:
        assert (node.data_type, node.blend_type, node.inputs["Factor"].default_value) == ("RGBA", "MULTIPLY", 1)
        return self.value(node.inputs[6]) * self.value(node.inputs[7])

    def ShaderNodeMath(self, node: bpy.types.Node, name: str) -> np.ndarray:
        a, b, c = (self.value(one)[:, :1] for one in node.inputs)
        operation = {
            "SUBTRACT": lambda: a - b,
            "MULTIPLY": lambda: a * b,
            "LESS_THAN": lambda: (a < b).astype(float),
            "WRAP": lambda: np.mod(a - c, b - c) + c if (b != c).all() else c,
            "PINGPONG": lambda: b - np.abs(np.mod(a, 2 * b) - b),
        }[node.operation]
        return operation()

    def ShaderNodeSeparateXYZ(self, node: bpy.types.Node, name: str) -> np.ndarray:
        vector = self.value(node.inputs[0])
        column = "XYZ".index(name)
        return vector[:, column : column + 1]

    def ShaderNodeCombineXYZ(self, node: bpy.types.Node, name: str) -> np.ndarray:
        return np.concatenate([self.value(one)[:, :1] for one in node.inputs], axis=1)

    def ShaderNodeUVMap(self, node: bpy.types.Node, name: str) -> np.ndarray:
        return self.uv(node.uv_map)

    def ShaderNodeTexCoord(self, node: bpy.types.Node, name: str) -> np.ndarray:
        assert name == "UV"
        return self.uv(self.corners.shown_uv)

    def uv(self, name: str) -> np.ndarray:
        """(P, 3) of a layer, 0 where there is none."""
        uv = np.zeros((len(self.loops), 3))
        if name in self.corners.uv:
            uv[:, :2] = self.at_points(self.corners.uv[name])
        return uv

    def ShaderNodeMapping(self, node: bpy.types.Node, name: str) -> np.ndarray:
        assert node.vector_type == "POINT"
        vector, place, turn, scale = (self.value(one) for one in node.inputs)
        vector = vector * scale
        cos, sin = np.cos(turn[:, 2]), np.sin(turn[:, 2])
        x, y = vector[:, 0], vector[:, 1]
        return np.stack([cos * x - sin * y, sin * x + cos * y, vector[:, 2]], axis=1) + place

    def ShaderNodeTexImage(self, node: bpy.types.Node, name: str) -> np.ndarray:
        if node.image is None or not node.image.size[0]:
            raise NotShown
        vector = node.inputs["Vector"]
        uv = self.value(vector)[:, :2] if vector.is_linked else self.uv(self.corners.shown_uv)[:, :2]
        image = pixels(node.image)
        size = np.array(image.shape[1::-1])
        at = np.floor(uv * size).astype(int) + self.texel
        if node.extension == "REPEAT":
            at = at % size
        elif node.extension == "MIRROR":
            at = at % (2 * size)
            at = np.where(at >= size, 2 * size - 1 - at, at)
        else:
            at = np.clip(at, 0, size - 1)
        found = image[at[:, 1], at[:, 0]]
        return found[:, 3:] if name == "Alpha" else found


def is_camera_ray(socket: bpy.types.NodeSocket) -> bool:
    """Whether a mix of an unlit material is the one that keeps it from glowing."""
    return socket.is_linked and socket.links[0].from_socket.name == "Is Camera Ray"


def pixels(image: bpy.types.Image) -> np.ndarray:
    """(H, W, 4) in linear light, the lower left first."""
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(image.size[1], image.size[0], 4).astype(float)
    if not image.is_float and image.colorspace_settings.name == "sRGB":
        values[..., :3] = linear(values[..., :3])
    return values


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def read(collection: bpy.types.bpy_prop_collection, name: str, width: int, dtype: type = np.float32) -> np.ndarray:
    """(N, width) of a property of a collection."""
    values: np.ndarray = np.empty(len(collection) * width, dtype)
    collection.foreach_get(name, values)
    return values.reshape(-1, width)


if __name__ == "__main__":
    main()
