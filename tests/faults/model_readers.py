"""More of what reads: weights, models, and what trainings and encoders leave in scratch."""

import shutil
from functools import partial
from pathlib import Path

from pipeline.applications.models import Models
from pipeline.diffusion.example_index import build_index
from pipeline.diffusion.frozen import text_outputs
from pipeline.diffusion.networks import load_autoencoder
from pipeline.diffusion.pipelines import SegmentationPipeline
from pipeline.diffusion.tasks import TASKS
from pipeline.diffusion.text import MiniLM
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.params.render import RenderParams
from pipeline.training.checkpoints import Checkpoints
from tests.captions.test_captions_openai import ONE, backend_for
from tests.chat_server import ChatServer
from tests.faults.readers import READERS, Reader, corpus, say, tree_digest
from tests.faults.stage_targets import trained
from tests.faults.targets import DATA, ROOT
from tests.toy_corpus import write_toy_corpus

NANO = ROOT / "presets/nano.yaml"
WEIGHTS = Path("weights/nano")


def _weights() -> None:
    for name in ("segment", "lrm"):
        shutil.copytree(ROOT / WEIGHTS / name, WEIGHTS / name)
    if (ROOT / WEIGHTS / "SHA256SUMS").exists():
        shutil.copy(ROOT / WEIGHTS / "SHA256SUMS", WEIGHTS)


def _networks() -> None:
    models = Models(WEIGHTS, load_group(RenderParams, path=NANO))
    model = models.get(SegmentationPipeline)
    for part in (model.unet, model.autoencoder):
        say(part)
    params = load_group(ReconstructParams, ["reconstruct.reconstructor=lrm"], NANO)
    say(models.reconstructor(params, load_group(ReconstructionParams, path=NANO)).lrm)  # type: ignore[attr-defined]
    say((dict(model.config), model.scheduler.config, models.cameras))


def _interrupted() -> None:
    """A training with a checkpoint after its second step, and no end."""

    def end(checkpoints: Checkpoints, module: object) -> None:
        raise SystemExit(0)

    Checkpoints.finish = end  # type: ignore[method-assign, assignment]
    _corpus_of_trainings()
    trained("autoencoder", checkpoint_every=2)


def _finished() -> None:
    _corpus_of_trainings()
    trained("autoencoder")
    shutil.rmtree(DATA / "models")


def _corpus_of_trainings() -> None:
    write_toy_corpus(DATA, objects=6, view_size=16)


def _train(every: int) -> None:
    trained("autoencoder", checkpoint_every=every)
    say(tree_digest(DATA / "models", Path("metrics")))


def _index() -> None:
    path = build_index(DATA, TASKS["segment"], "train", 10)
    say(path.read_bytes())


def _tokens() -> None:
    outputs = text_outputs(DATA, MiniLM(24))
    say(outputs[list(range(len(outputs)))].numpy().tobytes())


def _caption() -> None:
    with ChatServer() as server:
        say(backend_for(server, Path(".partgen/captions")).unify(ONE))


READERS |= {
    "weights": Reader(_weights, f"{WEIGHTS}/*/**/*", _networks),
    "models": Reader(
        lambda: (_corpus_of_trainings(), trained("autoencoder")),
        f"{DATA}/models/autoencoder/*",
        lambda: say(load_autoencoder(DATA / "models/autoencoder")),
    ),
    "checkpoint": Reader(_interrupted, ".partgen/training/*/*.*", partial(_train, 2)),
    "finished": Reader(_finished, ".partgen/training/*/*.*", partial(_train, 1000)),
    "index": Reader(lambda: (_corpus_of_trainings(), _index()), ".partgen/examples/*", _index),
    "frozen": Reader(lambda: (corpus(), _tokens()), ".partgen/frozen/*", _tokens),
    "captions": Reader(_caption, ".partgen/captions/**/*.json", _caption),
}  # fmt: skip
