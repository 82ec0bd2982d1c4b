"""Stage `generate`: held-out objects are drawn out of their caption and out of one view, and fixed texts are drawn."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.errors import NoObjects
from pipeline.folders import content_digest
from pipeline.heldout.generate_object import CONTRACT, GenerateTask, PromptTask, generate_object
from pipeline.heldout.generate_tables import FROM_IMAGE, FROM_TEXT, GENERATIONS, PROMPTS
from pipeline.params.generate import GenerateParams
from pipeline.shards.build import Item, Report, build_shards
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.store import content_key
from pipeline.shards.table import WHOLE
from pipeline.shards.write import write_metrics
from pipeline.views.tables import GIVEN_VIEW
from stages.entry import stage_main


def run(params: GenerateParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Draw the objects of one split, and the texts of `generate.prompts`.

    Objects without a caption, with which the stage captions failed, are left out.
    """
    settings = read_manifest(data / "captions/captions").settings
    work = list(items(data, params))
    if not work:
        raise NoObjects(f"There are no objects of the split `{params.split}` in {data / 'captions/captions'}.")
    report = build_shards(
        stage="generate",
        out=data / "generations",
        tables=(GENERATIONS, PROMPTS),
        items=[*work, *texts(data, params)],
        function=generate_object,
        shards=settings["shards"],
        settings={**settings, "generate": params.deciding("prompts")},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    grids, prompts = (read_manifest(data / "generations" / table.name).rows for table in (GENERATIONS, PROMPTS))
    drawn = report.total - len(report.failures) - prompts
    write_metrics("generate", {"objects": drawn, "failed": len(report.failures), "grids": grids, "prompts": prompts})
    return report


def items(data: Path, params: GenerateParams) -> Iterator[Item]:
    """The work on every object of the split that has a caption."""
    models = data / "models"
    digests = {name: content_digest(models / name) for name in (FROM_TEXT, FROM_IMAGE)}
    captions = ObjectRows(data / "captions/captions", ["part_id", "caption"])
    views = ObjectRows(data / "renders/conditioning", ["view", "image"])
    captioned = read_table(data / "captions/captions", ["object_id", "split", "part_id"]).to_pylist()
    splits = {row["object_id"]: row["split"] for row in captioned if row["part_id"] != WHOLE}
    for object_id, split in sorted(splits.items()):
        if split != params.split:
            continue
        load = partial(_task, object_id, captions, views, models, params)
        task = load()
        inputs = {"object_id": object_id, "split": split, "caption": task.caption, "models": digests}
        key = content_key(CONTRACT, task.view, inputs, params.deciding("prompts"))
        yield Item(object_id, key, load)


def texts(data: Path, params: GenerateParams) -> Iterator[Item]:
    """The work on the texts that are always drawn."""
    models = data / "models"
    digest = content_digest(models / FROM_TEXT)
    for number, prompt in enumerate(params.prompts, start=1):
        task = PromptTask(f"prompt-{number:03d}", prompt, models, params)
        yield Item(
            task.object_id, content_key(CONTRACT, prompt, digest, params.deciding("prompts")), partial(_same, task)
        )


def _same(task: PromptTask) -> PromptTask:
    return task


def _task(
    object_id: str, captions: ObjectRows, views: ObjectRows, models: Path, params: GenerateParams
) -> GenerateTask:
    caption = captions.whole(object_id)["caption"]
    view = next(row["image"]["bytes"] for row in views.of(object_id) if row["view"] == GIVEN_VIEW)
    return GenerateTask(object_id, params.split, caption, view, models, params)


if __name__ == "__main__":
    stage_main(GenerateParams, run)
