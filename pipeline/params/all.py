"""The whole of params.yaml, for those who check it or write it; stages read their own group."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import Invalid, nearest
from pipeline.params.applications import ApplicationsParams
from pipeline.params.assets import AssetsParams
from pipeline.params.atoms import AtomsParams
from pipeline.params.base import PARAMS_FILE, StageGroup, read_yaml, validate, with_overrides
from pipeline.params.captions import CaptionsParams
from pipeline.params.complete import CompleteParams
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.evaluate import EvaluateParams
from pipeline.params.gaussians import GaussiansParams
from pipeline.params.generate import GenerateParams
from pipeline.params.masks import MasksParams
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.params.report import ReportParams
from pipeline.params.segment import SegmentParams
from pipeline.params.train import TrainParams

GROUPS: dict[str, type[StageGroup]] = {
    group.name: group
    for group in (
        AssetsParams,
        RenderParams,
        MasksParams,
        AtomsParams,
        CaptionsParams,
        DiffusionParams,
        TrainParams,
        ReconstructionParams,
        GaussiansParams,
        GenerateParams,
        SegmentParams,
        CompleteParams,
        ReconstructParams,
        EvaluateParams,
        ReportParams,
        ApplicationsParams,
    )
}
"""The groups in the order of the DAG: one a stage, `diffusion`, `reconstruction` and `gaussians`, of networks,
and the applications' own."""


def check_params(overrides: Iterable[str] = (), path: Path = PARAMS_FILE) -> dict[str, StageGroup]:
    """Validate every group of `path`; UserError, in one sentence, for the first unknown or ill-typed key."""
    return check_values(with_overrides(read_yaml(path), overrides), str(path))


def check_values(values: dict[str, Any], where: str) -> dict[str, StageGroup]:
    """Validate the values of a whole params.yaml."""
    for name in values:
        if name not in GROUPS:
            raise Invalid(
                f"{where}: unknown group `{name}`{nearest(str(name), GROUPS)}; the groups are {', '.join(GROUPS)}."
            )
    for name in GROUPS:
        if name not in values:
            raise Invalid(f"{where} has no group `{name}`; `partgen preset nano` writes a complete file.")
    return {name: validate(group, values[name], f"{where}: {name}") for name, group in GROUPS.items()}
