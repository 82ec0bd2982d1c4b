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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, get_args

import numpy as np
from PIL import Image

from pipeline.applications.assemble import Frame, Scene, animations, fields_of
from pipeline.applications.behind import closing, needs_networks
from pipeline.applications.correct import SeedPoint, atoms_at, merged, recoloured, renamed, split, taken_out
from pipeline.applications.generators import (
    OnSurface,
    check_any,
    check_no_surface,
    from_views,
    made_by_program,
    of_program,
)
from pipeline.applications.inputs import (
    INPUT,
    Source,
    checked_prompt,
    from_object,
    from_picture,
    from_prompt,
    short_name,
)
from pipeline.applications.models import Networks, Settings
from pipeline.applications.photo import as_read, read_picture
from pipeline.applications.result import Part, PartObject
from pipeline.applications.safety import Safety, SubjectT, allowed, find_safety
from pipeline.applications.surface import Grouping, Wanted, grouped, in_number, keep_surface
from pipeline.assets.names import unique_names
from pipeline.assets.surface import Up
from pipeline.captions.object_captions import prepare_backend
from pipeline.errors import Invalid, UserError
from pipeline.params.base import validate, with_overrides
from pipeline.params.choice import Choice
from pipeline.params.reconstruct import ReconstructParams
from pipeline.project import default_params, find_models
from pipeline.reconstruction.field import check_placement
from pipeline.shards.scratch import scratch
from pipeline.surface.close import Close
from pipeline.surface.division import PartsFrom
from pipeline.views.cameras import over_white

if TYPE_CHECKING:  # diffusers takes longer to import than a surface to be taken apart
    from pipeline.diffusion.sampling import MultiViewPipeline

Shown = Literal["original", "neural", "both"]
"""What an object is made of: the surface of its file, or what was reconstructed from four views; or the former, and
the same parts reconstructed beside it."""
MOST_LABELS = 255
ADDED_SCALE = 0.5
"""Size of an added thing beside the object that it is added to, unless said otherwise."""
ANY = Choice()
"""The best of the segmentations, as the parameters say."""


class PartGenPipeline:
    """The applications, with the models of one folder; each is read when it is first needed."""

    def __init__(self, networks: Networks, settings: Settings, safety: Safety | None = None) -> None:
        self.networks, self.settings, self.safety = networks, settings, safety

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
        return cls(Networks(folder, settings.render, steps), settings, checker)

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
        kinds: dict[str, tuple[str, Any]] = {
            "The surface is": (surface, Shown),
            "Openings are closed by": (close, Close),
        }
        kinds |= {"The frame is": (frame, Frame), "Parts are made from": (parts_from, PartsFrom)}
        for what, (value, kind) in kinds.items():
            if value not in get_args(kind):
                raise Invalid(f"{what} {value!r}; give {' or '.join(get_args(kind))}.")
        _check_up(up)
        if surface != "neural" and replace(choice, max_parts=None) != ANY:
            raise Invalid(
                "Segmentations are chosen (--samples, --use, --runs, --seed-point, --min-part-pixels) with the surface "
                "`neural`; leave that out, or add --surface neural."
            )
        if surface == "neural":
            if (parts, parts_from, close) != (None, "model", "none"):
                raise Invalid(
                    "--parts, --parts-from and --close need the surface `original` or `both`; leave out --surface "
                    "neural, or these."
                )
            scene = replace(self._begin(choice, reconstructor), frame=frame)
            return self._taken_apart(self._object(path, up), choice, seed, "decompose", scene)
        choice.params(self.settings.segment)
        scene = replace(self._scene(self.settings.reconstruct.model_dump(), reconstructor), frame=frame)
        wanted = Wanted(parts, parts_from, choice.max_parts, close, surface, seed)
        if needs_networks(close, surface):
            self._require_completion(scene)
        return self._allowed(keep_surface(self._object(path, up), wanted, self.networks, self.settings, scene))

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
            ((x, y, view),) = points
            choice = Choice(seed_point=(x, y), view=view)
            scene = replace(self._begin(choice, reconstructor), frame=result.settings.get("frame", "unit"))
            remarks = [one for one in result.diagnostics if one.kind == INPUT]
            source = Source(
                result.name, result.name, result.grid, result.origin, result.notice, (), remarks, result.picture
            )
            made = self._taken_apart(source, choice, seed, "take-out", scene)
            models = {**result.models, **made.models}
            return replace(made, caption=result.caption, models=models, history=[*result.history, *made.history])
        if len(points) and len(atoms):
            raise Invalid("Give seed points or numbers of pieces, and not both.")
        some = [int(atom) for atom in atoms] or atoms_at(result, points)
        entry = {"command": "take-out", "points": [list(point) for point in points], "atoms": some}
        return self._grouped(result, taken_out(result, some), entry)

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
        if (image is None) == (views is None):
            raise Invalid("Give a picture of the object or four views of it, one of both.")
        if views is not None:
            check_no_surface(on_surface)
            return self._of_views("from-image", views, {"kind": "image"}, choice, seed, reconstructor)
        assert image is not None
        if self.settings.generate.command is not None:
            called = "" if isinstance(image, Image.Image) else Path(image).name
            read = as_read(image, "The picture") if isinstance(image, Image.Image) else read_picture(Path(image))
            origin = {"kind": "image", "file": called}
            return self._by_program("from-image", self._allowed(read), origin, choice, seed, reconstructor, on_surface)
        from pipeline.diffusion.pipelines import ImageToMultiViewPipeline

        check_no_surface(on_surface)
        scene = self._begin(choice, reconstructor, ImageToMultiViewPipeline)
        source = from_picture(image, self.networks, seed, self._allowed)
        return self._taken_apart(source, choice, seed, "from-image", scene)

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
        text = self._allowed(checked_prompt(prompt))
        origin = {"kind": "text", "prompt": text}
        if views is not None:
            check_no_surface(on_surface)
            return self._of_views("from-text", views, origin, choice, seed, reconstructor)
        if self.settings.generate.command is not None:
            return self._by_program("from-text", text, origin, choice, seed, reconstructor, on_surface)
        from pipeline.diffusion.pipelines import TextToMultiViewPipeline

        check_no_surface(on_surface)
        scene = self._begin(choice, reconstructor, TextToMultiViewPipeline)
        source = from_prompt(text, self.networks, seed)
        return self._taken_apart(source, choice, seed, "from-text", scene)

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
        from pipeline.applications.decompose import with_fields
        from pipeline.applications.edit import changed, imagined
        from pipeline.diffusion.pipelines import EditingPipeline

        old, text = result.part(part), self._allowed(checked_prompt(prompt))
        scene = self._resume(result, reconstructor)
        result = with_fields(result, [one.label for one in result.parts], self.networks, self.settings, scene)
        old = result.part(part)
        grid = imagined(result, old.label, text, seed, self.networks)
        called = _free_name(name.strip() or short_name(text), [one for one in result.parts if one is not old])
        field = fields_of(scene, {old.label: grid})[old.label]
        entry = {"command": "edit", "part": old.name, "name": called, "prompt": text, "seed": seed}
        models = self.networks.digests(*EditingPipeline.tasks) | self.networks.reconstructing(scene.params)
        new = replace(
            old, name=called, caption=text, score=None, grid=grid, field=field, original=False, models=models, atoms=()
        )
        parts = [new if one is old else one for one in result.parts]
        return self._allowed(changed(result, parts, new, scene, models, entry))

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
        from pipeline.applications.decompose import with_fields
        from pipeline.applications.edit import changed, imagined, in_place, stand, turned
        from pipeline.diffusion.pipelines import EditingPipeline

        if [text, image, object].count(None) != 2:
            raise Invalid("Give one of a text, an image and an object to add.")
        _check_up(up)
        if place is not None and len(place) != 3:
            raise Invalid(f"The place {tuple(place)} has {len(place)} numbers; give x, y and z.")
        if len(turn) != 3 or not np.isfinite(turn).all():
            raise Invalid(f"The turn {tuple(turn)} is not three numbers; give degrees around x, y and z.")
        label, size = 1 + max(one.label for one in result.parts), ADDED_SCALE if scale is None else scale
        if label > MOST_LABELS:
            raise UserError(f"{result.name} has a part {MOST_LABELS} already; more cannot be told apart.")
        check_placement(place or (0, 0, 0), size)  # before anything is drawn
        prompt = "" if text is None else self._allowed(checked_prompt(text))
        scene = self._resume(result, reconstructor)
        result = with_fields(result, [one.label for one in result.parts], self.networks, self.settings, scene)
        if prompt and place is None and scale is None and not any(turn):
            grid = imagined(result, label, prompt, seed, self.networks)
            field, called = fields_of(scene, {label: grid})[label], short_name(prompt)
            models: Sequence[str] = EditingPipeline.tasks
            origin: Mapping[str, Any] = {"kind": "text", "prompt": prompt}
        else:
            source = self._source(prompt, image, object, seed, up, turn)
            grid = (over_white(source.grid) * 255).round().astype(np.uint8)
            field = fields_of(scene, {label: grid})[label]
            field = turned(field, turn) if any(turn) and object is None else field
            field = stand(field, result.parts, place, size)
            called, models, origin = source.name, source.models, in_place(source.origin, field)
            notices = dict.fromkeys(filter(None, (result.notice, source.notice)))
            remarks = [*result.diagnostics, *source.remarks]
            result = replace(result, notice="; ".join(notices), diagnostics=remarks)
        called = _free_name(name.strip() or called, result.parts)
        used = self.networks.digests(*models) | self.networks.reconstructing(scene.params)
        new = Part(label, called, prompt or called, None, grid, field, models=used)
        placement = {"offset": field.offset_3, "scale": field.scale}
        entry = {"command": "add", "part": called, "origin": origin, "placement": placement, "seed": seed}
        entry |= {"turn": list(turn)} if any(turn) else {}
        return self._allowed(changed(result, [*result.parts, new], new, scene, used, entry))

    def animated(self, result: PartObject) -> PartObject:
        """The same with its animations drawn: from all around, as it is and with its parts pulled apart."""
        scene = self._resume(result, None)
        to_unit = np.array(result.origin["from_file"]) if scene.frame == "file" else np.eye(4)
        return replace(result, animations=animations(result.parts, scene, to_unit))

    def _grouped(self, result: PartObject, grouping: Grouping, entry: Mapping[str, Any]) -> PartObject:
        """A result in other parts of its own surface, with an entry in its history."""
        scene = self._scene(self.settings.reconstruct.model_dump(), None)
        if needs_networks(*closing(result)):
            scene = self._resume(result, None)
            self._require_completion(scene)
        return self._corrected(grouped(result, grouping, self.networks, self.settings, scene), entry)

    def _corrected(self, made: PartObject, entry: Mapping[str, Any]) -> PartObject:
        """What became of a result, with an entry in its history."""
        return self._allowed(replace(made, history=[*made.history, entry]))

    def _allowed(self, subject: SubjectT) -> SubjectT:
        """UserError (Refused) when the safety checker does not let it pass."""
        return allowed(subject, self.safety)

    def _taken_apart(self, source: Source, choice: Choice, seed: int, command: str, scene: Scene) -> PartObject:
        from pipeline.applications.decompose import take_apart

        return self._allowed(take_apart(source, choice, seed, command, self.networks, self.settings, scene))

    def _of_views(
        self,
        command: str,
        views: Sequence[str | Path | Image.Image],
        origin: Mapping[str, Any],
        choice: Choice,
        seed: int,
        reconstructor: str | None,
    ) -> PartObject:
        """Out of four views that somebody else drew."""
        scene = self._begin(choice, reconstructor)
        return self._taken_apart(from_views(views, self.networks, self._allowed, origin), choice, seed, command, scene)

    def _by_program(
        self,
        command: str,
        given: str | Image.Image,
        origin: Mapping[str, Any],
        choice: Choice,
        seed: int,
        reconstructor: str | None,
        on_surface: OnSurface,
    ) -> PartObject:
        """Out of what `generate.command` makes of a text or a picture."""
        choice.check(self.networks.view_size)
        choice.params(self.settings.segment)
        origin = {**origin, "program": self.settings.generate.command}
        with made_by_program(self.settings.generate, given, origin, seed) as found:
            if not isinstance(found, Path):
                check_no_surface(on_surface)
                with of_program(*found):
                    return self._of_views(command, found, origin, choice, seed, reconstructor)
            check_any(choice)
            with of_program(found):
                made = self.decompose(found, choice, seed=seed, reconstructor=reconstructor, **on_surface)
        origin = {**made.origin, **origin}
        history = [{**made.history[0], "command": command, "origin": origin}]
        return replace(made, caption=origin.get("prompt") or made.caption, origin=origin, history=history)

    def _begin(self, choice: Choice, reconstructor: str | None, *kinds: "type[MultiViewPipeline]") -> Scene:
        """What can be wrong with the request or the models is said before anything is drawn."""
        from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline

        choice.check(self.networks.view_size)
        choice.params(self.settings.segment)
        prepare_backend(self.settings.captions, scratch())
        self.networks.require(*kinds, SegmentationPipeline, CompletionPipeline)
        scene = self._scene(self.settings.reconstruct.model_dump(), reconstructor)
        self.networks.reconstructor(scene.params, self.settings.reconstruction)
        return scene

    def _resume(self, result: PartObject, reconstructor: str | None) -> Scene:
        """With the parameters that the result was made with, so that nothing of it changes unasked.

        UserError when its views are not those of the models.
        """
        cameras = result.settings["cameras"]
        if cameras != self.networks.cameras:
            raise UserError(
                f"{result.name} was made with the cameras {cameras}, and the models of {self.networks.models} are for "
                f"{self.networks.cameras}; make it again with these models."
            )
        group = self.settings.reconstruct
        kept = {name: value for name, value in result.settings[group.name].items() if name in type(group).model_fields}
        said = [override for override in self.settings.overrides if override.startswith(f"{group.name}.")]
        values = with_overrides({group.name: {**group.model_dump(), **kept}}, said)
        scene = self._scene(values[group.name], reconstructor)
        return replace(scene, frame=result.settings.get("frame", scene.frame))

    def _scene(self, values: Mapping[str, Any], reconstructor: str | None) -> Scene:
        wanted = {**values, "reconstructor": reconstructor or values["reconstructor"]}
        params = validate(ReconstructParams, wanted, ReconstructParams.name)
        load = partial(self.networks.reconstructor, params, self.settings.reconstruction)
        return Scene(params, load, self.networks.camera, self.networks.cameras["elevation_deg"], self.networks.device)

    def _source(
        self,
        prompt: str,
        image: str | Path | Image.Image | None,
        object: str | Path | None,
        seed: int,
        up: Up,
        turn: Sequence[float],
    ) -> Source:
        if object is not None:
            return self._object(object, up, turn)
        if image is not None:
            return from_picture(image, self.networks, seed, self._allowed)
        return from_prompt(prompt, self.networks, seed)

    def _object(self, path: str | Path, up: Up, turn: Sequence[float] = (0, 0, 0)) -> Source:
        return from_object(Path(path), self.settings.assets, self.settings.render, self.networks, up, turn)

    def _require_completion(self, scene: Scene) -> None:
        """UserError, before anything is drawn, when a model is not there that fields of parts need."""
        from pipeline.diffusion.pipelines import CompletionPipeline

        self.networks.require(CompletionPipeline)
        self.networks.reconstructor(scene.params, self.settings.reconstruction)


def _check_up(up: str) -> None:
    if up not in get_args(Up):
        raise Invalid(f"The axis that points up is {up!r}; give {' or '.join(get_args(Up))}.")


def _free_name(name: str, others: Sequence[Part]) -> str:
    """The name, with a number where another part has it."""
    *_, free = unique_names([*(other.name for other in others), name])
    return free
