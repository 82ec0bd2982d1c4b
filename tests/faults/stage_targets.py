"""More of what is disturbed: trainings, and the stages that need networks or the results of other stages."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.diffusion.frozen import text_outputs
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.diffusion.tasks import TRAININGS
from pipeline.diffusion.text import MiniLM
from pipeline.heldout.reconstruct_tables import FIELDS
from pipeline.params.complete import CompleteParams
from pipeline.params.report import ReportParams
from pipeline.reconstruction.field import Decoder, Field
from stages import complete, evaluate, reconstruct, report, segment, train
from tests.evaluation.test_evaluate_stage import PARAMS as EVALUATE
from tests.faults.targets import DATA, ROOT, TARGETS, Target, partgen
from tests.heldout.test_reconstruct_stage import CARVE
from tests.heldout.test_segment_stage import PARAMS as SEGMENT
from tests.reconstruction.test_train_lrm import RECONSTRUCTION
from tests.toy_corpus import write_toy_corpus
from tests.toy_models import VIEW_SIZE, tiny
from tests.toy_report import NUMBERS, put, write_toy_project
from tests.toy_results import write_toy_results

COMPLETE = CompleteParams(
    methods=["complete"], seed=0, draws=1, keep_visible=True, max_failed_share=0.0, timeout_s=120.0
)


def _exported() -> None:
    """Toy models of all networks, and what a card says of them; an older export."""
    write_toy_project(Path())
    shutil.copy(ROOT / "presets/nano.yaml", "params.yaml")
    Field(torch.ones(2, 4, 4, 4), Decoder(channels=2, width=4, layers=2)).save(Path("field"))
    same = {"split": "test", "source": "predicted", "method": "complete", "label": 1}
    rows = [{"object_id": name, **same, "field": Path("field").read_bytes()} for name in NUMBERS]
    put(DATA / "reconstructions", FIELDS, rows)
    for weight in (1.0, 2.0):
        for name in (*TRAININGS, "lrm"):
            folder = DATA / "models" / name
            folder.mkdir(parents=True, exist_ok=True)
            save_file({"weight": torch.full((4,), weight)}, folder / "diffusion_pytorch_model.safetensors")
        if weight == 1.0:
            partgen("export", "weights/toy")


def trained(*tasks: str, checkpoint_every: int = 1000) -> None:
    """Tiny trainings of three steps on the toy corpus."""
    torch.set_num_threads(1)
    params, diffusion = tiny(steps=3)
    loop = params.loop.model_copy(update={"checkpoint_every": checkpoint_every})
    for task in tasks:
        train.run(task, params.model_copy(update={"loop": loop}), diffusion, VIEW_SIZE)


def _corpus(*tasks: str) -> None:
    write_toy_corpus(DATA, objects=6, view_size=VIEW_SIZE)
    trained(*tasks)


def _held_out() -> None:
    """What `segment` needs, and an older segmentation."""
    _corpus("autoencoder", "text_to_mv", "segment", "complete")
    model = SegmentationPipeline.from_pretrained(DATA / "models/segment")
    torch.manual_seed(0)
    torch.nn.init.normal_(model.unet.conv_out.weight)  # trained so briefly it would draw nothing but white
    shutil.rmtree(DATA / "models/segment")
    model.save_pretrained(DATA / "models/segment")
    segment.run(SEGMENT)


def _drawn() -> None:
    write_toy_corpus(DATA, objects=4, view_size=VIEW_SIZE)
    write_toy_results(DATA, {"toy-002": 2})
    shutil.rmtree(DATA / "reconstructions")


def _evaluated() -> None:
    write_toy_corpus(DATA, objects=3, view_size=32, shards=1)
    write_toy_results(DATA, {"toy-001": 1})
    evaluate.run(EVALUATE.model_copy(update={"points": 50}))


def _reported() -> None:
    write_toy_project(Path())
    report.run(ReportParams(objects=1))


TARGETS |= {
    "export": Target(_exported, lambda: partgen("export", "weights/toy"), ("weights/toy",)),
    "frozen": Target(
        lambda: write_toy_corpus(DATA, objects=10), lambda: text_outputs(DATA, MiniLM(24)), ()
    ),
    "train@autoencoder": Target(
        _corpus,
        lambda: trained("autoencoder", checkpoint_every=1),
        ("data/models/autoencoder", "metrics/train/autoencoder.json"),
    ),
    "train@segment": Target(
        lambda: _corpus("autoencoder", "text_to_mv"),
        lambda: trained("segment", checkpoint_every=1),
        ("data/models/segment", "metrics/train/segment.json"),
    ),
    "stage:segment": Target(
        _held_out,
        lambda: segment.run(SEGMENT.model_copy(update={"seed": 1})),
        ("data/segmentations", "metrics/segment.json"),
    ),
    "stage:complete": Target(_held_out, lambda: complete.run(COMPLETE), ("data/completions", "metrics/complete.json")),
    "stage:reconstruct": Target(
        _drawn, lambda: reconstruct.run(CARVE, RECONSTRUCTION), ("data/reconstructions", "metrics/reconstruct.json")
    ),
    "stage:evaluate": Target(
        _evaluated, lambda: evaluate.run(EVALUATE), ("data/evaluation", "metrics/evaluate.json", "metrics/summary.json")
    ),
    "stage:report": Target(
        _reported, lambda: report.run(ReportParams(objects=2)), ("data/report", "metrics/report.json")
    ),
}  # fmt: skip
