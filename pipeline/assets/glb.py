"""The normalised GLB of an object: one named node a part, nothing else; how it is written and read."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import trimesh
from trimesh.exchange.gltf import export_glb

from pipeline.assets.parts import Part as DividedPart
from pipeline.assets.surface import LINEAR_COLOURS, REPEAT, Surface

GENERATOR = "PartGen"


@dataclass(frozen=True)
class Part:
    """A part as it lies in a normalised GLB."""

    part_id: int
    """1..S, the largest surface first."""
    name: str
    """In plain words, unique within the object."""
    meshes: list[trimesh.Trimesh]
    """One for each material, in the object's frame: +Y up, front +Z, within the unit sphere."""


@dataclass(frozen=True)
class Node:
    """A node to be written, with one mesh."""

    name: str
    extras: Mapping[str, Any]
    meshes: Sequence[trimesh.Trimesh]
    """Each becomes a primitive of the node's mesh."""
    pivot: Sequence[float] | None = None
    """Where the origin of the meshes lies: the node's translation, around which a user turns it; None: at zero."""


def normalise(parts: Sequence[DividedPart]) -> list[list[Surface]]:
    """The surfaces of all parts in the unit frame. Parts keep their place in the object."""
    matrix = to_unit([surface for part in parts for surface in part.surfaces])
    return [[surface.transformed(matrix) for surface in part.surfaces] for part in parts]


def to_unit(surfaces: Sequence[Surface]) -> np.ndarray:
    """The matrix (4, 4) into the unit frame: the centre of the object's box becomes the origin, and the farthest vertex
    comes to lie on the unit sphere.
    """
    vertices = np.concatenate([surface.vertices for surface in surfaces])
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    matrix = np.eye(4)
    matrix[:3, :3] /= np.linalg.norm(vertices - centre, axis=1).max()
    matrix[:3, 3] = -matrix[:3, :3] @ centre
    return matrix


def write_glb(parts: Sequence[tuple[str, Sequence[Surface]]], notice: str, extras: Mapping[str, Any]) -> bytes:
    """The GLB of named parts, the same bytes for the same parts.

    Part k (from 1) is node k - 1 with its name, `extras: {"part": k}` and one mesh with a primitive for each material;
    `asset` carries `notice` as its copyright and `extras` (licence, author, source).
    """
    nodes = [
        Node(name, {"part": part_id}, [surface.to_trimesh() for surface in _by_material(surfaces)])
        for part_id, (name, surfaces) in enumerate(parts, start=1)
    ]
    return pack(nodes, notice, extras)


def surface_glb(
    name: str,
    part_id: int,
    surfaces: Sequence[Surface],
    notice: str,
    extras: Mapping[str, Any],
    frame: np.ndarray | None = None,
) -> bytes:
    """The GLB of one part made of a file's own surfaces, around its own centre; the others as of `pack`."""
    used = [surface.vertices[np.bincount(surface.faces.ravel()).astype(bool).nonzero()] for surface in surfaces]
    # Axis by axis: ten times as fast as along the first of two axes.
    pivot = [float(axis.min() + axis.max()) / 2 for axis in np.concatenate(used).T]
    back = np.eye(4)
    back[:3, 3] = np.negative(pivot)
    meshes = [surface.transformed(back).to_trimesh() for surface in _by_material(surfaces)]
    return pack([Node(name, {"part": part_id}, meshes, pivot)], notice, extras, frame)


def pack(nodes: Sequence[Node], notice: str, extras: Mapping[str, Any], frame: np.ndarray | None = None) -> bytes:
    """The GLB of some nodes; `asset` carries `notice` as its copyright and `extras`.

    With `frame`, (4, 4), they are the children of a last node `object` with this matrix.
    """
    scene = trimesh.Scene()
    for number, node in enumerate(nodes):
        for index, mesh in enumerate(node.meshes):
            scene.add_geometry(mesh, geom_name=f"{number}.{index}", node_name=f"{number}.{index}")

    def gather(tree: dict[str, Any]) -> None:
        # trimesh writes a mesh and a node for every geometry; here the primitives of a node become one mesh.
        meshes: list[dict[str, Any]] = [{"name": node.name, "primitives": []} for node in nodes]
        for mesh in tree["meshes"]:
            meshes[int(mesh["name"].split(".")[0])]["primitives"].extend(mesh["primitives"])
        for primitive in chain.from_iterable(mesh["primitives"] for mesh in meshes):
            if LINEAR_COLOURS in primitive["attributes"]:
                colours = primitive["attributes"].pop(LINEAR_COLOURS)
                primitive["attributes"]["COLOR_0"] = colours
                tree["accessors"][colours]["normalized"] = True
        for node, made in zip(nodes, meshes, strict=True):
            for mesh, primitive in zip(node.meshes, made["primitives"], strict=True):
                material = getattr(mesh.visual, "material", None)
                _set_samplers(tree, primitive, getattr(material, "wrap", (REPEAT, REPEAT)))
        tree["meshes"] = meshes
        tree["nodes"] = [_written(node, index) for index, node in enumerate(nodes)]
        roots = list(range(len(nodes)))
        if frame is not None:  # glTF counts a matrix by its columns
            tree["nodes"].append({"name": "object", "matrix": frame.T.ravel().tolist(), "children": roots})
            roots = [len(nodes)]
        tree["scene"], tree["scenes"] = 0, [{"nodes": roots}]
        tree["asset"] = {
            "version": "2.0",
            "generator": GENERATOR,
            "copyright": notice,
            "extras": dict(extras),
        }

    return bytes(export_glb(scene, unitize_normals=True, tree_postprocessor=gather))


def _written(node: Node, mesh: int) -> dict[str, Any]:
    place = {} if node.pivot is None else {"translation": [float(value) for value in node.pivot]}
    return {"name": node.name, "mesh": mesh, **place, "extras": dict(node.extras)}


def _set_samplers(tree: dict[str, Any], primitive: Mapping[str, Any], wrap: tuple[int, int]) -> None:
    """Textures are repeated beyond their edges, unless their material says otherwise."""
    if wrap == (REPEAT, REPEAT):
        return
    sampler = {"wrapS": wrap[0], "wrapT": wrap[1]}
    samplers = tree.setdefault("samplers", [])
    if sampler not in samplers:
        samplers.append(sampler)
    material = tree["materials"][primitive["material"]]
    for key, value in [*material.items(), *material.get("pbrMetallicRoughness", {}).items()]:
        if key.endswith("Texture"):
            tree["textures"][value["index"]]["sampler"] = samplers.index(sampler)


def load_parts(glb: bytes) -> list[Part]:
    """The parts of a normalised GLB, in the order of their ids and in place. ValueError when it is not one."""
    tree = read_header(glb)
    scene = trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False)
    meshes = iter(scene.geometry.values())  # trimesh keeps the order of meshes and primitives
    parts = []
    for index, node in enumerate(tree["nodes"]):
        part_id = node.get("extras", {}).get("part")
        if part_id != index + 1 or node.get("mesh") != index:
            raise ValueError(
                f"node {index} ({node.get('name')!r}) is no numbered part; this is no GLB of the stage assets"
            )
        found = [next(meshes) for _ in tree["meshes"][index]["primitives"]]
        if "translation" in node:
            found = [mesh.apply_translation(node["translation"]) for mesh in found]
        parts.append(Part(part_id, node["name"], found))
    return parts


def read_header(glb: bytes) -> dict[str, Any]:
    """The JSON of a GLB; `["asset"]` carries the attribution."""
    header: dict[str, Any] = json.loads(glb[20 : 20 + struct.unpack_from("<I", glb, 12)[0]])
    return header


def _by_material(surfaces: Sequence[Surface]) -> list[Surface]:
    """Surfaces that share a material and the same attributes as one, in the order of their first."""
    groups: dict[tuple[Any, ...], list[Surface]] = {}
    for surface in surfaces:
        key = (id(surface.material), surface.normals is None, surface.uv is None, surface.colors is None)
        groups.setdefault(key, []).append(surface)
    return [_concatenated(group) for group in groups.values()]


def _concatenated(group: Sequence[Surface]) -> Surface:
    if len(group) == 1:
        return group[0]

    def stacked(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present) if present else None

    starts = np.cumsum([0, *(len(surface.vertices) for surface in group)])
    return Surface(
        np.concatenate([surface.vertices for surface in group]),
        np.concatenate([surface.faces + start for surface, start in zip(group, starts, strict=False)]),
        stacked([surface.normals for surface in group]),
        stacked([surface.uv for surface in group]),
        stacked([surface.colors for surface in group]),
        group[0].material,
    )
