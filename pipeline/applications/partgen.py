"""The applications as an API: objects made of parts out of a 3D object, a picture or a text, and their editing.

    from partgen import PartGenPipeline

    partgen = PartGenPipeline.from_pretrained("data/models")
    chair = partgen.decompose("chair.glb", seed=1)
    softer = partgen.edit(chair, "seat", "a red cushion")
    partgen.animated(softer).save("results/softer-chair")  # GLBs, grids, masks, fields, animations and result.json

All methods return a `PartObject`, print a line a step on stderr, and raise UserError for input that is of no use.
The same seed gives the same object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
from PIL import Image

from pipeline.applications.assemble import Frame, animations
from pipeline.applications.behind import closing, needs_networks
from pipeline.applications.correct import SeedPoint, atoms_at, merged, recoloured, renamed, split, taken_out
from pipeline.applications.create import Shown, of_object, of_picture, of_text, segmented_anew, with_segmentation
from pipeline.applications.generators import OnSurface
from pipeline.applications.models import Models
from pipeline.applications.result import PartObject
from pipeline.applications.safety import Safety, find_safety
from pipeline.applications.session import Session
from pipeline.applications.settings import Settings
from pipeline.applications.surface import Grouping, grouped, in_number
from pipeline.assets.surface import Up
from pipeline.errors import Invalid
from pipeline.params.choice import Choice
from pipeline.project import default_params, find_models
from pipeline.surface.close import Close
from pipeline.surface.division import PartsFrom

ANY = Choice()
"""The best of the segmentations, as the parameters say."""


class PartGenPipeline:
    """The applications, with the models of one folder; each is read when it is first needed."""

    def __init__(self, models: Models, settings: Settings, safety: Safety | None = None) -> None:
        self.models, self.settings = models, settings
        self._session = Session(models, settings, safety)

    @classmethod
    def from_pretrained(
        cls,
        models: str | Path | None = None,
        *,
        params: str | Path | None = None,
        overrides: Sequence[str] = (),
        steps: int | None = None,
        safety: Safety | None = None,
    ) -> Self:
        """The models in a folder, and the settings of a params.yaml with `group.key=value` overrides.

        Without them, those of the project in the current folder, or those that come with this program.
        `steps` of denoising, for all models; None: as they were saved with. `safety` sees every prompt, picture and
        result and may refuse it, see `Safety`; None: as `applications.safety` says. Cameras are those of the
        reconstruction model. UserError when the folder is not there, and, once it is read, for a model of views of
        another size.
        """
        folder = find_models(models)
        settings = Settings.load(overrides, Path(params or default_params()))
        checker = find_safety(settings.applications.safety) if safety is None else safety
        return cls(Models(folder, settings.render, steps), settings, checker)

    def decompose(
        self,
        path: str | Path,
        choice: Choice = ANY,
        *,
        seed: int = 0,
        reconstructor: str | None = None,
        frame: Frame = "unit",
        up: Up = "y",
        surface: Shown = "original",
        parts: int | None = None,
        parts_from: PartsFrom = "model",
        close: Close = "none",
    ) -> PartObject:
        """The parts of a 3D object: GLB, glTF, OBJ, PLY or STL, of one mesh or many.

        With the surface `original` the parts are made of the file's own triangles, with their textures: `parts` of
        them, or as many as `parts_from` says. What the division opens in a part is filled with `close` `cap`, and with
        `complete` the networks say what lies behind. With `both` there are also the same parts reconstructed from the
        four views (`PartObject.neural`). With `neural` they are found in the four views alone, and all they are made
        of is reconstructed from there, as in the paper; `choice` says which.
        `up` is the axis that points up in an OBJ, PLY or STL; glTF says so itself.
        With the frame `file` the GLBs lie over the file's own geometry, in its place and size; edits keep that.
        """
        on_surface: OnSurface = {"up": up, "parts": parts, "parts_from": parts_from, "close": close}
        return of_object(self._session, path, choice, seed, reconstructor, on_surface, surface, frame)

    def regroup(self, result: PartObject, parts: int | None = None) -> PartObject:
        """An object in parts of its own surface, in another number of parts out of the hierarchy that it keeps.

        None: in as many as it had at first. All parts of the one number are within parts of any smaller one. Its
        openings are closed as they were, and with the surface `both` its parts are reconstructed anew. Invalid when it
        cannot be divided so, or was edited since.
        """
        return self._grouped(result, in_number(result, parts), {"command": "regroup", "parts": parts})

    def merge(self, result: PartObject, parts: Sequence[str], *, name: str = "") -> PartObject:
        """An object in parts of its own surface with several of them, by names or numbers, as one.

        It has the number of the first and, without a `name`, the name of the largest. Invalid as of `regroup`.
        """
        labels = [result.part(part).label for part in parts]
        entry = {"command": "merge", "parts": [result.part(part).name for part in parts], "name": name}
        return self._grouped(result, merged(result, [str(label) for label in labels], name), entry)

    def split(self, result: PartObject, part: str) -> PartObject:
        """An object in parts of its own surface with one of them in two, where the hierarchy divides it first.

        The larger one keeps number and name. Invalid as of `regroup`, and for a part of one piece.
        """
        entry = {"command": "split", "part": result.part(part).name}
        return self._grouped(result, split(result, part), entry)

    def take_out(
        self,
        result: PartObject,
        points: Sequence[SeedPoint] = (),
        *,
        atoms: Sequence[int] = (),
        seed: int = 0,
        reconstructor: str | None = None,
    ) -> PartObject:
        """What is at points of the four views, (x, y, view) each, as a part of its own.

        Of an object in parts of its own surface, one point means the piece around it that is most a thing of its own,
        several points the pieces that they show, and `atoms` name these; the other parts stay as they are. Of any other
        object its four views are segmented anew at one point, and all the rest is one part (3.2, supplement B).
        """
        if result.surface is None:
            if len(points) != 1 or len(atoms):
                raise Invalid(f"{result.name} has no surface of its own; give one seed point in one of its views.")
            return segmented_anew(self._session, result, points[0], seed, reconstructor)
        if len(points) and len(atoms):
            raise Invalid("Give seed points or numbers of pieces, and not both.")
        some = [int(atom) for atom in atoms] or atoms_at(result, points)
        entry = {"command": "take-out", "points": [list(point) for point in points], "atoms": some}
        return self._grouped(result, taken_out(result, some), entry)

    def choose(self, result: PartObject, use: int) -> PartObject:
        """The object made of another of the segmentations that it keeps, from 1: as if `Choice.use` had said so.

        Its four views are segmented once more, as they were. Invalid when it keeps no such segmentation, and when it
        was changed since.
        """
        return with_segmentation(self._session, result, use)

    def rename(self, result: PartObject, part: str, name: str) -> PartObject:
        """The object with a part under another name; it gets a number where another part has that name."""
        entry = {"command": "rename", "part": result.part(part).name, "name": name}
        return self._corrected(renamed(result, part, name), entry)

    def recolour(self, result: PartObject, part: str, colour: str) -> PartObject:
        """The object with a part that its label maps show in another colour, such as `#3cb44b`; empty: its own."""
        entry = {"command": "recolour", "part": result.part(part).name, "colour": colour}
        return self._corrected(recoloured(result, part, colour), entry)

    def from_image(
        self,
        image: str | Path | Image.Image | None = None,
        choice: Choice = ANY,
        *,
        views: Sequence[str | Path | Image.Image] | None = None,
        seed: int = 0,
        reconstructor: str | None = None,
        **on_surface: Unpack[OnSurface],
    ) -> PartObject:
        """An object in parts out of a picture of it, or out of four `views` of it: front, right, back, left.

        The views are as the models' cameras see the object, cut out or not. What is between a picture and the parts is
        the network `image_to_mv`, or `generate.command`: of a mesh that it writes, the parts are found on its surface,
        and divided as `on_surface` says, like a file's in `decompose`.
        """
        return of_picture(self._session, image, views, choice, seed, reconstructor, on_surface)

    def from_text(
        self,
        prompt: str,
        choice: Choice = ANY,
        *,
        views: Sequence[str | Path | Image.Image] | None = None,
        seed: int = 0,
        reconstructor: str | None = None,
        **on_surface: Unpack[OnSurface],
    ) -> PartObject:
        """An object in parts out of a text; with four `views` of it, the text says what they show.

        Else the network `text_to_mv` draws them, or `generate.command` makes the object; see `from_image`.
        """
        return of_text(self._session, prompt, views, choice, seed, reconstructor, on_surface)

    def edit(
        self,
        result: PartObject,
        part: str,
        prompt: str,
        *,
        name: str = "",
        seed: int = 0,
        reconstructor: str | None = None,
    ) -> PartObject:
        """The object with one part, by its name or number, drawn anew after a text (A.8); all others are kept.

        The network sees what the remaining parts show of themselves and imagines the new part in its place, of any
        shape. Without a `name` it is called by the text; the history keeps its old one. `reconstructor` is the
        result's own unless given.
        """
        from pipeline.applications.edit import edited

        return edited(self._session, result, part, prompt, name, seed, reconstructor)

    def add(
        self,
        result: PartObject,
        *,
        text: str | None = None,
        image: str | Path | Image.Image | None = None,
        object: str | Path | None = None,
        up: Up = "y",
        place: Sequence[float] | None = None,
        scale: float | None = None,
        turn: Sequence[float] = (0, 0, 0),
        name: str = "",
        seed: int = 0,
        reconstructor: str | None = None,
    ) -> PartObject:
        """The object with one part more, out of a text, a picture or a 3D object (supplement C).

        A text alone is drawn by the network of edits, in place among the parts that are there. With `place`, `scale` or
        `turn` it is drawn by itself, as pictures and objects are, and stands with its centre at `place` (x, y, z) in
        `scale` times its size (1/2 unless given); 1 is the radius of the object's bounding sphere. Without a `place` it
        stands beside the object. It is first turned by `turn` degrees around its own X, Y and Z, one after another: a
        3D object before it is drawn, all else as a field.
        """
        from pipeline.applications.edit import Addition, added

        addition = Addition(text, image, object, up, place, scale, turn)
        return added(self._session, result, addition, name, seed, reconstructor)

    def animated(self, result: PartObject) -> PartObject:
        """The same with its animations drawn: from all around, as it is and with its parts pulled apart."""
        scene = self._session.resume(result, None)
        to_unit = np.array(result.origin["from_file"]) if scene.frame == "file" else np.eye(4)
        return replace(result, animations=animations(result.parts, scene, to_unit))

    def _grouped(self, result: PartObject, grouping: Grouping, entry: Mapping[str, Any]) -> PartObject:
        """A result in other parts of its own surface, with an entry in its history."""
        scene = self._session.scene()
        if needs_networks(*closing(result)):
            scene = self._session.resume(result, None)
            self._session.require_completion(scene)
        return self._corrected(grouped(result, grouping, self.models, self.settings, scene), entry)

    def _corrected(self, made: PartObject, entry: Mapping[str, Any]) -> PartObject:
        """What became of a result, with an entry in its history."""
        return self._session.allowed(replace(made, history=[*made.history, entry]))
