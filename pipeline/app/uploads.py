"""What was uploaded: a folder each, by a random id, and nothing called as the client says."""

import asyncio
import json
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.app.archives import unpacked
from pipeline.app.refusals import Refusal
from pipeline.app.settings import MOST_UPLOAD_BYTES, UPLOADS_STAY_S
from pipeline.app.sniff import find_format
from pipeline.assets.names import cut_bytes
from pipeline.folders import written

RECORD = "upload.json"
PICTURE, MASK = "picture.png", "mask.png"
"""The picture as it is read, upright, and its object: 8 bits grey, 255 where it is."""
_ID = re.compile(r"[0-9a-f]{32}")
_UNSAFE = re.compile(r"[^\w -]+")
_NAME = 200
"""Characters that are kept of what the client calls a file."""


@dataclass(frozen=True)
class Upload:
    """One file, or one object with all its files."""

    id: str
    name: str
    """As the client calls it; it is shown and nothing else."""
    kind: Literal["object", "picture"]
    format: str
    """Its suffix, such as `glb`."""
    bytes: int
    file: str
    """The file to read, within the upload's folder."""


class Uploads:
    """All uploads of a server, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, upload: Upload) -> Path:
        """The file to read."""
        return self.folder / upload.id / upload.file

    def get(self, upload_id: str) -> Upload:
        """Refusal (404) when there is none."""
        if not _ID.fullmatch(upload_id):
            raise Refusal(404, "There is no such upload; upload the file again.")
        try:
            return Upload(**json.loads((self.folder / upload_id / RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            raise Refusal(404, "There is no such upload any more; upload the file again.") from None

    async def take(self, name: str, length: int | None, chunks: AsyncIterator[bytes]) -> Upload:
        """Keep what comes; Refusal when it is too large, or none of the kinds that are read. `length` is what the
        client says of its size, if it does.
        """
        if length is not None and length > MOST_UPLOAD_BYTES:
            raise _too_large()
        upload_id = secrets.token_hex(16)
        folder = self.folder / upload_id
        folder.mkdir()
        try:
            size = 0
            with (folder / "received").open("xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MOST_UPLOAD_BYTES:
                        raise _too_large()
                    file.write(chunk)
            return await asyncio.to_thread(self._sorted, upload_id, _shown(name), size)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def put(self, upload: Upload, name: str, content: bytes) -> None:
        """Write a file of this program's own beside the upload, whole."""
        with written(self.folder / upload.id / name) as partial:
            partial.write_bytes(content)

    def remove_old(self, needed: set[str]) -> None:
        """Remove what was uploaded long ago, but for what jobs still need."""
        for folder in self.folder.iterdir():
            if folder.name not in needed and time.time() - folder.stat().st_mtime > UPLOADS_STAY_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _sorted(self, upload_id: str, name: str, size: int) -> Upload:
        folder = self.folder / upload_id
        received = folder / "received"
        kind, form = find_format(received)
        stem = cut_bytes(_UNSAFE.sub(" ", Path(name).stem).strip(" -"), _NAME // 2) or "object"
        if kind == "archive":
            main = unpacked(received, folder / "files", MOST_UPLOAD_BYTES)
            received.unlink()
            kind, form = "object", main.suffix[1:].lower()
        else:
            main = received.rename(folder / f"{stem}.{form}")
        upload = Upload(upload_id, name, kind, form, size, main.relative_to(folder).as_posix())
        with written(folder / RECORD) as partial:
            partial.write_text(json.dumps(asdict(upload)), encoding="utf-8")
        return upload


def _shown(name: str) -> str:
    """The last part of what the client calls a file, on one line."""
    plain = "".join(one if one.isprintable() else " " for one in name).replace("\\", "/").rpartition("/")[2]
    return plain.encode(errors="replace").decode()[:_NAME].strip() or "upload"


def _too_large() -> Refusal:
    most = MOST_UPLOAD_BYTES // 2**20
    return Refusal(413, f"The file is larger than {most} MB, the most that may be uploaded; make it smaller.")
