"""Training samples of a diffusion task, out of the shards."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.diffusion.example_index import RECORD, build_index, tables_of
from pipeline.diffusion.samples import Samples
from pipeline.diffusion.tasks import Task
from pipeline.errors import UserError
from pipeline.params.diffusion import DiffusionParams
from pipeline.shards.dataset import DecodedRows, TableRows
from pipeline.shards.read import read_manifest
from pipeline.training.index_file import IndexFile

KEPT_BYTES = 2**28
"""Of decoded pictures that are kept, of each table, in each process: a small corpus is decoded once."""
COLUMNS = {
    "grids": ["object_id", "image.bytes"],
    "labels": ["labels.bytes"],
    "views": ["image.bytes"],
    "captions": ["caption"],
}


class Examples(Samples):
    """The samples of a task over a split of the shards.

    Nothing is held that grows with the corpus but where row groups start, and up to KEPT_BYTES of pictures a table.
    Copies that are sent to other processes open the files themselves.
    """

    def __init__(
        self,
        data: Path,
        task: Task,
        split: str,
        params: DiffusionParams,
        seed: int,
        drop_condition: float,
        augment: bool,
        only: Sequence[str] | None = None,
        expected_view_size: int | None = None,
    ) -> None:
        """`drop_condition` is the share of samples to train without conditions; `only` names the objects to keep.

        Without `augment`, a task of one view draws view n % 4 for sample n. UserErrors: see `build_index`; and when the
        shards' views are not of `expected_view_size` pixels.
        """
        _check_sizes(data, task, expected_view_size)
        index = IndexFile(build_index(data, task, split, params.colours, only), RECORD)
        tables = {
            name: DecodedRows(TableRows(data / folder, COLUMNS[name]), KEPT_BYTES)
            for name, folder in tables_of(task).items()
        }
        super().__init__(task, index, tables, params.colours, params.palette, seed, drop_condition, augment)


def _check_sizes(data: Path, task: Task, expected: int | None) -> None:
    sizes = {folder: _view_size(data / folder) for folder in tables_of(task).values() if "captions" not in folder}
    drawn = sizes["renders/grids"]
    if expected is not None and drawn != expected:
        raise UserError(
            f"{data / 'renders/grids'} has views of {drawn} px and the params say render.view_size={expected}; run the "
            f"stages render and masks again, or set render.view_size={drawn}."
        )
    for folder, size in sizes.items():
        if size != drawn:
            raise UserError(
                f"{data / folder} has views of {size} px and {data / 'renders/grids'} of {drawn} px; run the stage "
                f"{'masks' if folder.startswith('masks') else 'render'} again."
            )


def _view_size(folder: Path) -> int:
    size: int = read_manifest(folder).settings["view_size"]
    return size
