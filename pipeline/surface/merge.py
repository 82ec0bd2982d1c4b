"""Several GLBs as one, without loss: what is in them is moved and numbered anew, and nothing is decoded."""

import copy
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ALIGNMENT = 4
_JSON, _BIN = 0x4E4F534A, 0x004E4942


def merge_glbs(glbs: Sequence[bytes]) -> bytes:
    """One GLB of GLBs that `pack` has written, the nodes of the first one first; the attribution is the first one's,
    and the `mark` that of all.

    Pictures that are the same bytes are kept once. Nodes named `object`, which hold all others in another frame, become
    one.
    """
    merged: dict[str, Any] = {}
    buffer = _Buffer()
    pictures: dict[bytes, int] = {}
    for glb in glbs:
        tree, binary = _read(glb)
        starts = {
            kind: len(merged.get(kind, []))
            for kind in ("accessors", "materials", "meshes", "nodes", "samplers", "textures")
        }
        views, images = [], []
        for view in tree.get("bufferViews", []):
            start = view.get("byteOffset", 0)
            offset = buffer.add(binary[start : start + view["byteLength"]])
            views.append(len(merged.setdefault("bufferViews", [])))
            merged["bufferViews"].append({**view, "buffer": 0, "byteOffset": offset})
        for image in tree.get("images", []):
            view = tree["bufferViews"][image["bufferView"]]
            start = view.get("byteOffset", 0)
            content = bytes(binary[start : start + view["byteLength"]])
            if content not in pictures:
                pictures[content] = len(merged.setdefault("images", []))
                merged["images"].append({**image, "bufferView": views[image["bufferView"]]})
            images.append(pictures[content])
        for accessor in tree.get("accessors", []):
            merged.setdefault("accessors", []).append({**accessor, "bufferView": views[accessor["bufferView"]]})
        merged.setdefault("samplers", []).extend(tree.get("samplers", []))
        for texture in tree.get("textures", []):
            sampler = {"sampler": texture["sampler"] + starts["samplers"]} if "sampler" in texture else {}
            merged.setdefault("textures", []).append({**texture, **sampler, "source": images[texture["source"]]})
        merged.setdefault("materials", []).extend(
            _renumbered(one, starts["textures"]) for one in tree.get("materials", [])
        )
        for mesh in tree["meshes"]:
            merged.setdefault("meshes", []).append(
                {**mesh, "primitives": [_primitive(one, starts) for one in mesh["primitives"]]}
            )
        for node in tree["nodes"]:
            moved = {"mesh": node["mesh"] + starts["meshes"]} if "mesh" in node else {}
            kept = {"children": [child + starts["nodes"] for child in node["children"]]} if "children" in node else {}
            merged.setdefault("nodes", []).append({**node, **moved, **kept})
        merged["asset"] = _marked(merged.get("asset", tree["asset"]), tree["asset"]["extras"])
    _gather(merged)
    merged["buffers"] = [{"byteLength": buffer.length}]
    return _written({kind: value for kind, value in merged.items() if value != []}, buffer.chunks)


def renamed_glb(glb: bytes, name: str) -> bytes:
    """The GLB of one part, as `pack` has written it, under another name; all else stays as it is."""
    tree, binary = _read(glb)
    for node in tree["nodes"]:
        if "mesh" in node:
            node["name"] = tree["meshes"][node["mesh"]]["name"] = name
    return _written(tree, [binary])


@dataclass
class _Buffer:
    """A GLB's buffer, of chunks that are copied only once, into the file."""

    chunks: list[bytes | memoryview] = field(default_factory=list)
    length: int = 0
    """In bytes."""

    def add(self, content: memoryview) -> int:
        """Where it begins."""
        padding = b"\0" * (-self.length % ALIGNMENT)
        start = self.length + len(padding)
        self.chunks += [padding, content]
        self.length = start + len(content)
        return start


def _renumbered(material: dict[str, Any], start: int) -> dict[str, Any]:
    """A material whose textures are counted from `start`."""
    moved = copy.deepcopy(material)
    for group in (moved, moved.get("pbrMetallicRoughness", {})):
        for key, value in group.items():
            if key.endswith("Texture"):
                value["index"] += start
    return moved


def _primitive(primitive: dict[str, Any], starts: dict[str, int]) -> dict[str, Any]:
    moved = {
        **primitive,
        "attributes": {name: at + starts["accessors"] for name, at in primitive["attributes"].items()},
    }
    for name, kind in (("indices", "accessors"), ("material", "materials")):
        if name in moved:
            moved[name] += starts[kind]
    return moved


def _marked(asset: dict[str, Any], extras: dict[str, Any]) -> dict[str, Any]:
    """What says whose work a GLB is, with the mark of another GLB that goes into it."""
    joint = {**extras, **asset["extras"]}
    if "models" in joint:
        joint["models"] = dict(sorted({**extras.get("models", {}), **joint["models"]}.items()))
    return {**asset, "extras": joint}


def _gather(merged: dict[str, Any]) -> None:
    """All roots in one scene, and one node `object` for those of all files."""
    nodes = merged["nodes"]
    frames = [number for number, node in enumerate(nodes) if "children" in node]
    held = [child for frame in frames for child in nodes[frame]["children"]]
    kept = [number for number in range(len(nodes)) if number not in frames]
    places = {number: place for place, number in enumerate(kept)}
    roots = [places[number] for number in kept if number not in held]
    merged["nodes"] = [nodes[number] for number in kept]
    if frames:
        merged["nodes"].append({**nodes[frames[0]], "children": [places[child] for child in held]})
        roots.append(len(kept))
    merged["scene"], merged["scenes"] = 0, [{"nodes": roots}]


def _read(glb: bytes) -> tuple[dict[str, Any], memoryview]:
    length = struct.unpack_from("<I", glb, 12)[0]
    tree: dict[str, Any] = json.loads(glb[20 : 20 + length])
    return tree, memoryview(glb)[28 + length :]  # no copy of what may be a hundred megabytes


def _written(tree: dict[str, Any], chunks: Sequence[bytes | memoryview]) -> bytes:
    header = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    length = sum(map(len, chunks))
    padding = b"\0" * (-length % ALIGNMENT)
    length += len(padding)
    total = 12 + 8 + len(header) + 8 + length
    return b"".join(
        (struct.pack("<4sII", b"glTF", 2, total), struct.pack("<II", len(header), _JSON), header,
         struct.pack("<II", length, _BIN), *chunks, padding)
    )  # fmt: skip
