"""A local mirror of Objaverse 1.0 in its own layout, which the package `objaverse` and the published data set share.

object-paths.json.gz        {UID: "glbs/000-023/UID.glb"}
glbs/000-023/UID.glb        the objects, of which a mirror may hold any
metadata/000-023.json.gz    {UID: annotation} of that folder: title, author, licence, categories
"""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.assets.names import name_group
from pipeline.assets.readers import FolderReader, Outside, Reader
from pipeline.assets.reasons import ObjectDropped, encodable
from pipeline.assets.sources import UNKNOWN, Asset, stable_order, unique_id
from pipeline.errors import Invalid, NotFound

PATHS = "object-paths.json.gz"
MOST_BYTES = 1_000_000_000
"""Bytes of a file of paths or annotations once it is unpacked; the largest of Objaverse has about 70 million."""
_LICENCES = {
    "cc0": "CC0-1.0",
    "by": "CC-BY-4.0",
    "by-sa": "CC-BY-SA-4.0",
    "by-nc": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA-4.0",
    "by-nd": "CC-BY-ND-4.0",
    "by-nc-nd": "CC-BY-NC-ND-4.0",
}
"""SPDX identifiers by the words of the annotations; any other word is an unknown licence."""


def objaverse_assets(root: Path, count: int, licences: Collection[str]) -> tuple[list[Asset], dict[str, int]]:
    """`count` objects whose licence is among `licences`, in an order that never changes; how many others were left out.

    The second is by licence, over all GLBs that `root` holds. NotFound when `root`, its paths, the annotations of a
    folder in use or all of the GLBs are not there; Invalid when one of these files cannot be read.
    """
    if not root.is_dir():
        raise NotFound(f"The mirror of Objaverse {root} does not exist; correct assets.objaverse.path.")
    paths = _read(root, PATHS)
    present = {path.relative_to(root).as_posix() for path in root.glob("glbs/*/*.glb")}
    folders: dict[str, dict[str, str]] = {}
    for uid, path in paths.items():
        if isinstance(path, str) and path in present:
            folders.setdefault(PurePosixPath(path).parent.name, {})[uid] = path
    if not folders:
        raise NotFound(f"{root} holds no GLB that its {PATHS} names; download some or correct assets.objaverse.path.")
    reader, taken = FolderReader(root, within=("glbs/",)), set[str]()
    assets, left_out = [], Counter[str]()
    for folder, objects in sorted(folders.items()):
        annotations = _read(root, f"metadata/{folder}.json.gz")
        for uid, path in objects.items():
            asset = _asset(unique_id("objaverse", uid, path, taken), uid, path, annotations.get(uid), reader)
            if asset.licence in licences:
                assets.append(asset)
            else:
                left_out[asset.licence] += 1
    return stable_order(assets)[:count], dict(left_out.most_common())


def _asset(object_id: str, uid: str, path: str, annotation: Any, reader: Reader) -> Asset:
    user, title = _entry(annotation, "user"), _text(annotation, "name")
    categories = _entry(annotation, "categories")
    return Asset(
        object_id=object_id,
        name=title or object_id,
        # Titles such as `Chair` say little: variants of one thing are of one author too.
        name_group=f"{_text(user, 'username')}/{name_group(title) or uid}",
        category=_text(categories[0], "name") if isinstance(categories, list) and categories else "",
        source="objaverse",
        origin=f"https://sketchfab.com/3d-models/{encodable(uid)}",
        licence=_LICENCES.get(_text(annotation, "license"), UNKNOWN),
        author=_text(user, "displayName") or _text(user, "username") or UNKNOWN,
        path=path,
        reader=reader,
    )


def _entry(annotation: Any, key: str) -> Any:
    return annotation.get(key) if isinstance(annotation, dict) else None


def _text(annotation: Any, key: str) -> str:
    found = _entry(annotation, key)
    return encodable(found).strip() if isinstance(found, str) else ""


def _read(root: Path, name: str) -> dict[str, Any]:
    """A gzipped JSON object of the mirror; the sentences never say what stands in it."""
    path = root / name
    try:
        packed = FolderReader(root)(name, MOST_BYTES)
    except Outside:
        raise Invalid(f"{path} is a link out of {root}; download with `--local-dir`, or copy the mirror.") from None
    except ObjectDropped:
        raise Invalid(f"{path} cannot be read, or is too large; download it again.") from None
    if packed is None:
        raise NotFound(f"{path} is not there, which belongs to a mirror of Objaverse; download it into {root}.")
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise Invalid(f"{path} unpacks to more than {MOST_BYTES // 10**6} MB; download it again.")
        found = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"{path} is damaged or no gzipped JSON object; download it again.")
    return found
