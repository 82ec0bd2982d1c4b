"""The nodes of a glTF scene: which are in it, and where they stand."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.assets.accessors import Accessors
from pipeline.assets.reasons import Broken, ObjectDropped
from pipeline.assets.references import entries

_INSTANCING = "EXT_mesh_gpu_instancing"


class Nodes:
    """All nodes of a file; ObjectDropped when they are no trees."""

    def __init__(self, header: Mapping[str, Any], accessors: Accessors) -> None:
        self.accessors = accessors
        self.nodes, self.skins = entries(header, "nodes"), entries(header, "skins")
        self.children = [_numbers(node.get("children"), len(self.nodes)) for node in self.nodes]
        below = [child for children in self.children for child in children]
        if len(set(below)) < len(below):
            raise ObjectDropped("corrupt glTF: a node with two parents; export it again")
        roots = sorted(set(range(len(self.nodes))) - set(below))
        self.world: dict[int, np.ndarray] = {}
        """(4, 4) by node, of those that hang below a root."""
        for node in self._below(roots):
            self.world[node] = self.world.get(node, np.eye(4)) @ _local(self.nodes[node])
            self.world.update(dict.fromkeys(self.children[node], self.world[node]))
        scenes = entries(header, "scenes")
        number = header.get("scene", 0)
        shown = scenes[number] if isinstance(number, int) and 0 <= number < len(scenes) else None
        self.shown = sorted(self._below(roots if shown is None else _numbers(shown.get("nodes"), len(self.nodes))))
        """The nodes of the scene that the file shows; of all nodes, where it has no scene."""
        if not set(self.shown) <= self.world.keys():
            raise ObjectDropped("corrupt glTF: a node below itself; export it again")

    def _below(self, roots: list[int]) -> list[int]:
        """Nodes and all below them, each after its parent."""
        found, waiting = dict[int, None](), list(reversed(roots))
        while waiting:
            node = waiting.pop()
            if node not in found:
                found[node] = None
                waiting.extend(reversed(self.children[node]))
        return list(found)

    def copies(self, node: int) -> int:
        """How often a node's mesh stands there: once, or as often as EXT_mesh_gpu_instancing says."""
        return min(map(self.accessors.count, self._instancing(node).values()), default=1)

    def _instancing(self, node: int) -> dict[str, Any]:
        """Accessors by TRANSLATION, ROTATION and SCALE."""
        extensions = self.nodes[node].get("extensions")
        instances = extensions.get(_INSTANCING) if isinstance(extensions, dict) else None
        attributes = instances.get("attributes") if isinstance(instances, dict) else None
        return attributes if isinstance(attributes, dict) else {}

    def places(self, node: int) -> np.ndarray:
        """(copies, 4, 4): where a node's mesh stands."""
        attributes, count = self._instancing(node), self.copies(node)
        placed = np.tile(np.eye(4), (count, 1, 1))
        values = {name: self.accessors.array(index)[:count] for name, index in attributes.items()}
        if "ROTATION" in values:
            placed[:, :3, :3] = _rotations(values["ROTATION"])
        if "SCALE" in values:
            placed[:, :3, :3] *= values["SCALE"][:, None, :3]
        if "TRANSLATION" in values:
            placed[:, :3, 3] = values["TRANSLATION"][:, :3]
        return np.asarray(self.world[node] @ placed)

    def joints(self, skin: object) -> np.ndarray:
        """(J, 4, 4): from a skinned mesh to where its joints stand; the node of the mesh itself does not count."""
        if not isinstance(skin, int) or not 0 <= skin < len(self.skins):
            raise Broken("a skin that is not there")
        joints = _numbers(self.skins[skin].get("joints"), len(self.nodes))
        if not joints or not set(joints) <= self.world.keys():
            raise Broken("a skin without joints")
        world = np.stack([self.world[joint] for joint in joints])
        bind = self.skins[skin].get("inverseBindMatrices")
        if bind is None:
            return world
        inverse = self.accessors.array(bind)
        if inverse.shape[1] != 16 or len(inverse) < len(joints):
            raise Broken("a skin with too few matrices")
        return np.asarray(world @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1))


def _local(node: Mapping[str, Any]) -> np.ndarray:
    """(4, 4): of a node below its parent."""
    try:
        if "matrix" in node:
            return np.array(node["matrix"], np.float64).reshape(4, 4).T
        placed = np.eye(4)
        if "rotation" in node:
            placed[:3, :3] = _rotations(np.array(node["rotation"], np.float64).reshape(1, 4))[0]
        if "scale" in node:
            placed[:3, :3] *= np.array(node["scale"], np.float64).reshape(1, 3)
        if "translation" in node:
            placed[:3, 3] = np.array(node["translation"], np.float64).reshape(3)
    except (TypeError, ValueError):
        raise ObjectDropped("corrupt glTF: a transform that cannot be read; export it again") from None
    return placed


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """Unit quaternions x, y, z, w (N, 4) as matrices (N, 3, 3)."""
    size = np.linalg.norm(quaternions, axis=1, keepdims=True)
    x, y, z, w = np.where(size > 0, quaternions / np.where(size > 0, size, 1), [0, 0, 0, 1]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _numbers(listed: object, count: int) -> list[int]:
    """A list of node numbers, without what is none."""
    found = listed if isinstance(listed, list) else []
    return [number for number in found if isinstance(number, int) and 0 <= number < count]
