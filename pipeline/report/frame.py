"""Tables as pandas DataFrames, for notebooks and for what is aggregated by columns."""

from pathlib import Path

import pandas as pd

from pipeline.errors import NotFound, nearest
from pipeline.shards.read import MANIFEST, read_table
from pipeline.shards.table import IMAGE_TYPE, decode_png


def table(name: str, data: Path | str = "data", decode: bool = False) -> pd.DataFrame:
    """A table of a run, a row a row, by its name such as `evaluation/figures`; docs/data.md lists them.

    `data` is the run's folder of tables. A picture is a dict of `bytes`, a PNG, and `path`, a name for its file; with
    `decode` its pixels, uint8 (H, W, 3 or 4), of a label map (H, W). All rows are held in memory. UserError when there
    is no such table, or it is damaged.
    """
    folder = Path(data) / name
    if not (folder / MANIFEST).is_file():
        known = [path.parent.relative_to(data).as_posix() for path in sorted(Path(data).glob(f"*/*/{MANIFEST}"))]
        there = f"there are {', '.join(known)}" if known else "it holds none; `partgen run` makes them"
        raise NotFound(f"There is no table `{name}` in {data}{nearest(name, known)}; {there}.")
    rows = read_table(folder)
    frame = rows.to_pandas()
    for field in rows.schema if decode else ():
        if field.type == IMAGE_TYPE:
            frame[field.name] = [decode_png(cell["bytes"]) for cell in frame[field.name]]
    return frame
