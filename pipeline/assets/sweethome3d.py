"""The Sweet Home 3D furniture libraries: 820 objects of the Debian package sweethome3d-furniture 1.8-1."""

import hashlib
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

from pipeline.assets.names import name_group
from pipeline.assets.readers import ZipReader
from pipeline.assets.reasons import ObjectDropped, encodable
from pipeline.assets.sources import UNKNOWN, Asset, stable_order, unique_id
from pipeline.errors import UserError
from pipeline.shards.scratch import scratch

PACKAGE, VERSION = "sweethome3d-furniture", "1.8-1"
SHA256 = "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"
"""Of the package's .deb."""

_CATALOGUE = "PluginFurnitureCatalog.properties"
_MOST_CATALOGUE = 16_000_000
"""Bytes of a catalogue once it is unpacked; that of the largest library has 200 kB."""
_LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Reallusion": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
"""By library, as SPDX identifiers, from each library's LICENSE.TXT."""
_OWN_LICENCES = {
    "BlendSwap-CC-0/winchesterArmchair": "CC-BY-3.0",
    "BlendSwap-CC-0/winchesterSofa": "CC-BY-3.0",
}
"""Objects whose own licence file differs from their library's."""


def sweethome3d_assets(path: Path, count: int) -> list[Asset]:
    """`count` objects of the .sh3f libraries in the folder `path`, the libraries taking turns in a fixed order.

    `path` may also be one .sh3f file or the package's .deb. An empty list when there is no library; UserError when one
    cannot be read.
    """
    libraries = [stable_order(_library(library)) for library in _libraries(path)]
    turns = chain.from_iterable(zip_longest(*libraries))
    return [asset for asset in turns if asset is not None][:count]


def fetch_sweethome3d(destination: Path) -> list[Path]:
    """Download the package with apt-get, check it, and put its libraries into `destination`; the paths of these.

    UserError when apt-get or dpkg-deb is missing, the download fails, or the checksum differs.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UserError(
                f"{program} was not found: on systems other than Debian and Ubuntu, get Debian's package {PACKAGE} "
                f"{VERSION} elsewhere and name the file in assets.sweethome3d.path."
            )
    with tempfile.TemporaryDirectory(prefix="partgen-") as folder:
        command = ["apt-get", "download", f"{PACKAGE}={VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archives = sorted(Path(folder).glob("*.deb"))
        if done.returncode or not archives:
            said = (done.stderr.strip().splitlines() or ["it wrote no file"])[-1]
            raise UserError(f"`{' '.join(command)}` failed ({said}); go online, or run `apt-get update` first.")
        return extract_package(archives[0], destination)


def extract_package(archive: Path, destination: Path) -> list[Path]:
    """Put the libraries of the package `archive` into the folder `destination`, each appearing whole or not at all."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(
            f"{archive.name} has the sha256 {found}, not {SHA256}: it is not {PACKAGE} {VERSION}; fetch it again."
        )
    if shutil.which("dpkg-deb") is None:
        raise UserError(f"dpkg-deb was not found, which unpacks {archive.name}; install dpkg.")
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=destination) as folder:
        subprocess.run(["dpkg-deb", "-x", str(archive), folder], check=True)
        libraries = sorted(Path(folder).rglob("*.sh3f"))
        return [library.rename(destination / library.name) for library in libraries]


def _libraries(path: Path) -> list[Path]:
    if path.suffix == ".deb" and path.is_file():
        unpacked = scratch() / "sources" / path.stem
        return sorted(unpacked.glob("*.sh3f")) or extract_package(path, unpacked)
    if path.is_file():
        return [path]
    return sorted(library for library in path.glob("*.sh3f") if library.is_file())


def _library(path: Path) -> Iterator[Asset]:
    try:
        reader = ZipReader(zipfile.ZipFile(path))
        contents = reader(_CATALOGUE, _MOST_CATALOGUE)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, ObjectDropped) as error:
        raise UserError(f"{path} is not a furniture library ({error}); fetch it again or take it out.") from None
    if contents is None:
        raise UserError(f"{path} is not a furniture library (no {_CATALOGUE}); fetch it again or take it out.")
    catalogue = encodable(_properties(contents.decode("latin-1")))
    entries: dict[int, dict[str, str]] = {}
    for key, value in catalogue.items():
        if numbered := re.fullmatch(r"(\w+)#(\d{1,9})", key):
            entries.setdefault(int(numbered[2]), {})[numbered[1]] = value
    library, taken = path.stem, set[str]()
    for number, entry in sorted(entries.items()):
        if not {"id", "model"} <= entry.keys():
            raise UserError(f"{path}: entry {number} of {_CATALOGUE} lacks `id` or `model`; take the library out.")
        model = entry["model"].lstrip("/")
        identity = entry["id"].rpartition("#")[2]
        origin = f"{library}/{identity}"
        try:
            rotation = tuple(float(value) for value in entry.get("modelRotation", "").split())
        except ValueError:
            raise UserError(f"{path}: entry {number} of {_CATALOGUE} has a modelRotation that is no numbers.") from None
        yield Asset(
            object_id=unique_id("sweethome3d", origin, model, taken),
            name=entry.get("name", identity),
            name_group=name_group(identity),
            category=entry.get("category", ""),
            source="sweethome3d",
            origin=origin,
            licence=_OWN_LICENCES.get(origin, _LICENCES.get(library, catalogue.get("license", UNKNOWN))),
            author=entry.get("creator", UNKNOWN),
            path=model,
            reader=reader,
            rotation=rotation if len(rotation) == 9 else None,
        )


def _properties(text: str) -> dict[str, str]:
    """A Java properties file: `key = value` lines, `#` comments, `\\uXXXX` escapes."""
    values = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith(("#", "!")):
            values[key.strip()] = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value.strip())
    return values
