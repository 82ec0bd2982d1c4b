"""What the server's processes compute: results out of requests, and pictures and files of results.

Shape suffixes: H W pixels of a picture.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.app.download import pack
from pipeline.app.pictures import atoms_glb, cut_out_mask, preview, sample_preview, with_mask
from pipeline.app.uploads import PICTURE
from pipeline.applications.partgen import PartGenPipeline
from pipeline.applications.result import PartObject
from pipeline.errors import UserError
from pipeline.folders import written
from pipeline.params.choice import Choice
from pipeline.shards.table import encode_png

CHOICE = ("samples", "use", "runs", "max_parts", "min_part_pixels", "seed_point", "view")
RIM = 8
"""Of a cut-out's longer side, the clear ground around it."""
KEPT = 8
"""Results that are kept in memory, as the next request is likely of one of these."""


class Tasks:
    """All tasks by name, with the models of a folder; each is read when it is first needed."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self._results: OrderedDict[Path, PartObject] = OrderedDict()

    @cached_property
    def pipeline(self) -> PartGenPipeline:
        """The models."""
        return PartGenPipeline.from_pretrained(self.models)

    def run(self, task: str, arguments: dict[str, Any]) -> Any:
        """What the task of that name gives, as JSON."""
        return getattr(self, f"task_{task}")(**arguments)

    def task_warm(self) -> None:
        """Nothing; the libraries are loaded then."""
        self.pipeline  # noqa: B018

    def task_make(
        self,
        command: str,
        out: str,
        options: dict[str, Any],
        source: str | None = None,
        mask: str | None = None,
        result: str | None = None,
        **more: Any,
    ) -> None:
        """The result of a job, in the new folder `out`."""
        try:
            made = self._made(command, dict(options), source, mask, None if result is None else Path(result), **more)
        except UserError as error:
            if source is not None:  # where the server keeps it is nothing to the user
                raise type(error)(str(error).replace(f"{Path(source).parent}/", "")) from None
            raise
        made.save(out)
        self._keep(Path(out), made)

    def task_change(self, command: str, result: str, out: str, **arguments: Any) -> None:
        """A result that was corrected, in the new folder `out`."""
        made = getattr(self.pipeline, command.replace("-", "_"))(self._load(Path(result)), **arguments)
        made.save(out)
        self._keep(Path(out), made)

    def task_animate(self, result: str) -> None:
        """The animations of a result, in its folder."""
        self.pipeline.animated(self._load(Path(result))).save_animations(result)

    def task_preview(self, result: str, out: str) -> None:
        """The picture of a result for the gallery."""
        _write(Path(out), encode_png(preview(self._load(Path(result)))))

    def task_sample(self, path: str, out: str) -> None:
        """The picture of a sample."""
        _write(Path(out), encode_png(sample_preview(Path(path).read_bytes())))

    def task_atoms(self, result: str, out: str) -> None:
        """The surface of a result as a GLB with a node an atom."""
        _write(Path(out), atoms_glb(self._load(Path(result))))

    def task_pack(self, result: str, out: str, formats: Sequence[str], parts: Sequence[int], separate: bool) -> None:
        """An archive of a result to be taken away."""
        with written(Path(out)) as partial:
            pack(self._load(Path(result)), Path(result), partial, formats, parts, separate)

    def task_cut_out(self, path: str, picture: str, mask: str) -> dict[str, Any]:
        """An uploaded picture as it is read, and the mask of its object."""
        found, shown, note = cut_out_mask(Path(path))
        _write(Path(picture), encode_png(np.asarray(found)))
        _write(Path(mask), encode_png(shown))
        return {"width": found.width, "height": found.height, "note": note}

    def task_mask(self, content: str, picture: str, mask: str) -> dict[str, Any]:
        """A mask that the user has painted, once it is known to be one."""
        found = with_mask(Path(content), Path(picture))
        _write(Path(mask), encode_png(found))
        return {"width": found.shape[1], "height": found.shape[0], "note": ""}

    def _made(
        self,
        command: str,
        options: dict[str, Any],
        source: str | None,
        mask: str | None,
        result: Path | None,
        **more: Any,
    ) -> PartObject:
        pipeline = self.pipeline
        if command == "decompose":
            return pipeline.decompose(str(source), _choice(options), **options)
        if command == "from-image":
            picture = str(source) if mask is None else masked(Path(str(source)), Path(mask))
            return pipeline.from_image(picture, _choice(options), **options)
        if command == "from-text":
            return pipeline.from_text(more["prompt"], _choice(options), **options)
        assert result is not None
        found = self._load(result)
        if command == "edit":
            return pipeline.edit(found, more["part"], more["prompt"], **options)
        if command == "take-out":
            return pipeline.take_out(found, more["points"], **options)
        if command == "choose":
            return pipeline.choose(found, **options)
        kind = {"object": "object", "picture": "image"}.get(more.get("kind", ""), "text")
        thing: Any = more.get("prompt") if kind == "text" else source
        if kind == "image" and mask is not None:
            thing = masked(Path(str(source)), Path(mask))
        return pipeline.add(found, **{kind: thing}, **options)

    def _load(self, folder: Path) -> PartObject:
        if folder in self._results and (folder / "result.json").is_file():
            self._results.move_to_end(folder)
            return self._results[folder]
        found = PartObject.load(folder)
        self._keep(folder, found)
        return found

    def _keep(self, folder: Path, result: PartObject) -> None:
        self._results[folder] = result
        while len(self._results) > KEPT:
            self._results.popitem(last=False)


def masked(source: Path, mask: Path) -> str:
    """The file of the picture beside a mask, with that as its alpha, on a clear ground: so it counts as cut out."""
    picture = Image.open(mask.with_name(PICTURE)).convert("RGB")
    picture.putalpha(Image.open(mask).convert("L"))
    rim = max(picture.size) // RIM
    ground = Image.new("RGBA", (picture.width + 2 * rim, picture.height + 2 * rim))
    ground.paste(picture, (rim, rim))
    out = mask.parent / "cut" / f"{source.stem}.png"
    _write(out, encode_png(np.asarray(ground)))
    return str(out)


def _choice(options: dict[str, Any]) -> Choice:
    """What of the options says which parts are wanted; it is taken out of these."""
    values = {name: options.pop(name) for name in CHOICE if name in options}
    if values.get("seed_point") is not None:
        x, y = values["seed_point"]
        values["seed_point"] = (x, y)
    return Choice(**values)


def _write(path: Path, content: bytes) -> None:
    with written(path) as partial:
        partial.write_bytes(content)
