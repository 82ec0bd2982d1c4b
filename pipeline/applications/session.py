"""What the applications have in common: models, parameters and a safety checker; and what can be wrong with a request,
which is said before anything is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.applications.assemble import Scene
from pipeline.applications.models import Models
from pipeline.applications.result import PartObject
from pipeline.applications.safety import Safety, SubjectT, allowed
from pipeline.applications.settings import Settings
from pipeline.captions.object_captions import prepare_backend
from pipeline.errors import UserError
from pipeline.params.base import validate, with_overrides
from pipeline.params.choice import Choice
from pipeline.params.reconstruct import ReconstructParams
from pipeline.shards.scratch import scratch

if TYPE_CHECKING:  # diffusers takes longer to import than a surface to be taken apart
    from pipeline.diffusion.sampling import MultiViewPipeline


@dataclass(frozen=True)
class Session:
    """The models, parameters and checker of one `PartGenPipeline`."""

    models: Models
    settings: Settings
    safety: Safety | None = None

    def allowed(self, subject: SubjectT) -> SubjectT:
        """The same; UserError (Refused) when the safety checker does not let it pass."""
        return allowed(subject, self.safety)

    def begin(self, choice: Choice, reconstructor: str | None, *kinds: "type[MultiViewPipeline]") -> Scene:
        """What can be wrong with the request or the models is said before anything is drawn."""
        from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline

        choice.check(self.models.view_size)
        choice.params(self.settings.segment)
        prepare_backend(self.settings.captions, scratch())
        self.models.require(*kinds, SegmentationPipeline, CompletionPipeline)
        scene = self.scene(reconstructor)
        self.models.reconstructor(scene.params, self.settings.reconstruction)
        return scene

    def resume(self, result: PartObject, reconstructor: str | None) -> Scene:
        """With the parameters that the result was made with, so that nothing of it changes unasked.

        UserError when its views are not those of the models.
        """
        cameras = result.settings["cameras"]
        if cameras != self.models.cameras:
            raise UserError(
                f"{result.name} was made with the cameras {cameras}, and the models of {self.models.folder} are for "
                f"{self.models.cameras}; make it again with these models."
            )
        group = self.settings.reconstruct
        kept = {name: value for name, value in result.settings[group.name].items() if name in type(group).model_fields}
        said = [override for override in self.settings.overrides if override.startswith(f"{group.name}.")]
        values = with_overrides({group.name: {**group.model_dump(), **kept}}, said)
        scene = self.scene(reconstructor, values[group.name])
        return replace(scene, frame=result.settings.get("frame", scene.frame))

    def scene(self, reconstructor: str | None = None, values: Mapping[str, Any] | None = None) -> Scene:
        """With these `values` of the group `reconstruct`, or the settings' own, and the reconstructor of that name."""
        values = self.settings.reconstruct.model_dump() if values is None else values
        wanted = {**values, "reconstructor": reconstructor or values["reconstructor"]}
        params = validate(ReconstructParams, wanted, ReconstructParams.name)
        load = partial(self.models.reconstructor, params, self.settings.reconstruction)
        return Scene(params, load, self.models.camera, self.models.cameras["elevation_deg"], self.models.device)

    def require_completion(self, scene: Scene) -> None:
        """UserError, before anything is drawn, when a model is not there that fields of parts need."""
        from pipeline.diffusion.pipelines import CompletionPipeline

        self.models.require(CompletionPipeline)
        self.models.reconstructor(scene.params, self.settings.reconstruction)
