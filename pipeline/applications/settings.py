"""The parameters that the applications work with: groups of a params.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.params.applications import ApplicationsParams
from pipeline.params.assets import AssetsParams
from pipeline.params.base import PARAMS_FILE, load_group
from pipeline.params.captions import CaptionsParams
from pipeline.params.complete import CompleteParams
from pipeline.params.generate import GenerateParams
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.segment import SegmentParams


@dataclass(frozen=True)
class Settings:
    """Groups of a params.yaml."""

    assets: AssetsParams
    render: RenderParams
    captions: CaptionsParams
    generate: GenerateParams
    segment: SegmentParams
    complete: CompleteParams
    reconstruction: ReconstructionParams
    reconstruct: ReconstructParams
    applications: ApplicationsParams
    overrides: tuple[str, ...]
    """What was said apart from the file; it also holds for results that are edited."""

    @classmethod
    def load(cls, overrides: Sequence[str] = (), path: Path = PARAMS_FILE) -> Self:
        """From a file; `overrides` as of `load_group`."""
        return cls(
            load_group(AssetsParams, overrides, path),
            load_group(RenderParams, overrides, path),
            load_group(CaptionsParams, overrides, path),
            load_group(GenerateParams, overrides, path),
            load_group(SegmentParams, overrides, path),
            load_group(CompleteParams, overrides, path),
            load_group(ReconstructionParams, overrides, path),
            load_group(ReconstructParams, overrides, path),
            load_group(ApplicationsParams, overrides, path),
            tuple(overrides),
        )
