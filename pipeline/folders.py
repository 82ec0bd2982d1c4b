"""Folders that are written and compared as a whole, such as a model's."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Configured(Protocol):
    """A network of diffusers."""

    def register_to_config(self, **kwargs: Any) -> None: ...


Network = TypeVar("Network", bound=Configured)


def without_origin(network: Network) -> Network:
    """The network, of which the folder that it was loaded from is forgotten.

    diffusers keeps that folder in the config and writes it wherever the network is saved: a path of one machine in a
    model that is passed on, and two digests of one and the same model.
    """
    network.register_to_config(_name_or_path="")
    return network


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of `out` when all went well."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def content_digest(path: Path) -> str:
    """Of a file, or of all files in a folder: their names in it, and their contents."""
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            found.update(f"{file.relative_to(path)} {hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return found.hexdigest()
