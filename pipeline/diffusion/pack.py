"""A pack: the training samples of diffusion tasks for a machine with a GPU and little else, see `packed`.

A folder of safetensors pieces. Pictures and label maps are decoded, captions are the tokens of the frozen encoders, the
settings are values. So what trains there needs neither Parquet nor the encoders; a pack is larger than its shards.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import FrozenOutputs, image_outputs, text_outputs
from pipeline.diffusion.image import build_image_encoder
from pipeline.diffusion.models import save_model
from pipeline.diffusion.networks import Model, load_autoencoder
from pipeline.diffusion.packed import INDEX, KIND, MANIFEST, ROWS, VERSION
from pipeline.diffusion.samples import FIELDS
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import TASKS, Task
from pipeline.diffusion.text import build_text_encoder
from pipeline.diffusion.trainings import TrainingData, chosen_objects
from pipeline.diffusion.unet import build_unet
from pipeline.errors import UserError
from pipeline.folders import replaced
from pipeline.params.train import TrainParams
from pipeline.shards.progress import step
from pipeline.shards.write import write_json
from pipeline.training.index_file import NONE

PIECE_BYTES = 60_000_000
"""Of a piece, at most."""
TABLE_OF = {"whole": "grids", "part": "grids", "labels": "labels", "view": "views", "caption": "captions"}
"""By the field of a record, the table whose row it names."""
PICTURES = {"grids": "image", "labels": "labels", "views": "image"}
"""By table, the column of its pictures."""


def write_pack(out: Path, tasks: Sequence[str], params: TrainParams, training: TrainingData, models: Path) -> None:
    """Write the pack of these tasks: training and validation samples, tokens, settings, and the networks beside them.

    `models` has the `autoencoder`. UserError when `out` holds something else, a table or the autoencoder is missing, or
    the networks are those of a checkpoint.
    """
    diffusion = training.diffusion
    if diffusion.checkpoint:
        raise UserError(
            f"A pack is for networks of the params' own, and diffusion.checkpoint is {diffusion.checkpoint!r}; "
            "train on a machine with the whole program, or set it empty."
        )
    samples: dict[str, Examples] = {}
    for name in tasks:
        samples[f"{name}/train"] = training.examples(TASKS[name], only=chosen_objects(params, name))
        if (validation := training.validation(TASKS[name])) is not None:
            samples[f"{name}/val"] = validation
    records = {key: np.array([found.index[place] for place in range(found.count)]) for key, found in samples.items()}
    tables = {table: rows for found in samples.values() for table, rows in found.tables.items()}
    used = {table: _rows_of(table, records.values()) for table in tables}

    with replaced(out, KIND) as partial, torch.no_grad():
        models_of = _write_models(partial / "models", tasks, training, models)
        rows: dict[str, dict[str, list[str]]] = {}
        for table, column in PICTURES.items():
            if table in tables:
                with step(f"{len(used[table])} rows of {table}"):
                    read = tables[table]
                    _write_pieces(partial, table, lambda row, read=read, column=column: read[row][column], used[table])
        if "grids" in tables:
            rows["grids"] = {"object_id": [tables["grids"][row]["object_id"] for row in used["grids"].tolist()]}
        tokens: dict[str, FrozenOutputs] = {}
        if "captions" in tables:
            rows["captions"] = {"caption": [tables["captions"][row]["caption"] for row in used["captions"].tolist()]}
            tokens["text"] = text_outputs(training.data, models_of["text"])
            _write_tokens(partial, "text", tokens["text"], used["captions"])
        if models_of["image"] is not None:
            tokens["image"] = image_outputs(training.data, models_of["image"])
            both = np.stack([2 * used["views"], 2 * used["views"] + 1], axis=1).flatten()  # and its mirror image
            _write_tokens(partial, "image", tokens["image"], both)
        null, pooled = models_of["text"].encode([""])
        assert pooled is None  # no encoder of the params has one
        arrays = {key: _renumbered(found, used) for key, found in records.items()}
        save_file(arrays | {"null_text": null.numpy()}, partial / INDEX)
        write_json(partial / ROWS, rows)
        write_json(
            partial / MANIFEST,
            {
                "pack": VERSION,
                "view_size": training.view_size,
                "image_embed_width": None if models_of["image"] is None else models_of["image"].width,
                "diffusion": diffusion.model_dump(mode="json"),
                "loop": params.loop.model_dump(mode="json"),
                "schedules": {name: params.denoiser(name).model_dump(mode="json") for name in tasks},
            },
        )


def _rows_of(table: str, records: Iterable[np.ndarray]) -> np.ndarray:
    """The rows of a table that records name, ascending."""
    columns = [FIELDS.index(field) for field, of in TABLE_OF.items() if of == table]
    return np.setdiff1d(np.concatenate([found[:, columns].flatten() for found in records]), [NONE])


def _renumbered(records: np.ndarray, used: Mapping[str, np.ndarray]) -> np.ndarray:
    """The records with the rows' places in the pack for their places in the tables."""
    found = records.copy()
    for place, field in enumerate(FIELDS):
        rows = records[:, place]
        if field in TABLE_OF and (rows != NONE).any():
            found[:, place] = np.where(rows == NONE, NONE, np.searchsorted(used[TABLE_OF[field]], rows))
    return found


def _write_pieces(folder: Path, name: str, read: Callable[[int], np.ndarray], rows: np.ndarray) -> None:
    """Files NAME-00000.safetensors, ..., of the arrays of these rows, stacked."""
    held: list[np.ndarray] = []
    number = 0
    for place, row in enumerate(rows.tolist()):
        held.append(read(row))
        if place + 1 == len(rows) or (len(held) + 1) * held[0].nbytes > PIECE_BYTES - 4096:  # what a header takes
            save_file({name: np.stack(held)}, folder / f"{name}-{number:05d}.safetensors")
            held, number = [], number + 1


def _write_tokens(folder: Path, name: str, tokens: FrozenOutputs, rows: np.ndarray) -> None:
    with step(f"{len(rows)} rows of tokens of {name}"):
        _write_pieces(folder, name, lambda row: tokens[[row]][0].numpy().astype(np.float16), rows)


def _write_models(folder: Path, tasks: Sequence[str], training: TrainingData, models: Path) -> dict[str, Any]:
    """The model of each task as it is saved, without its denoiser; the frozen `text` and `image` encoders."""
    diffusion, grid_size = training.diffusion, 2 * training.view_size
    autoencoder = load_autoencoder(models / "autoencoder")
    text = build_text_encoder(diffusion.text)
    image = build_image_encoder(diffusion.image) if any(TASKS[name].image_tokens for name in tasks) else None
    for name in tasks:
        task: Task = TASKS[name]
        unet = build_unet(diffusion, task, diffusion.autoencoder.channels, grid_size, text.width)
        model = Model(unet, autoencoder, text, image if task.image_tokens else None)
        save_model(model, task, training_schedule(diffusion.schedule, task), diffusion, grid_size, folder / name)
        rmtree(folder / name / "unet")
        (folder / name / "SHA256SUMS").unlink()  # the pack's are of all files
    return {"text": text, "image": image}
