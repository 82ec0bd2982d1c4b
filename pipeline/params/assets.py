"""Parameters of the stage `assets`."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.params.base import Group, StageGroup


class SamplesParams(Group):
    """The ten CC0 objects of data/samples."""

    use: bool
    """Whether they are part of the data set."""


class SweetHomeParams(Group):
    """Objects of the Debian package sweethome3d-furniture, or of other .sh3f libraries."""

    path: str
    """A folder of .sh3f libraries, or the package's .deb; `partgen assets fetch sweethome3d` fills the default one."""
    objects: int = Field(ge=0)
    """How many objects to take, spread over the libraries in an order that never changes; 0 takes none."""
    required: bool
    """Whether the stage fails when `path` holds no library; otherwise it says so and goes on."""


class ObjaverseParams(Group):
    """Objects of a local mirror of Objaverse 1.0 in its own layout, see `pipeline.assets.objaverse`."""

    path: str
    """The folder with `object-paths.json.gz`, `glbs` and `metadata`."""
    objects: int = Field(ge=0)
    """How many objects to take, in an order that never changes; 0 takes none."""
    licences: list[
        Literal[
            "CC0-1.0",
            "CC-BY-4.0",
            "CC-BY-SA-4.0",
            "CC-BY-NC-4.0",
            "CC-BY-NC-SA-4.0",
            "CC-BY-ND-4.0",
            "CC-BY-NC-ND-4.0",
            "unknown",
        ]
    ] = Field(min_length=1)
    """Objects under other licences are left out."""


class FolderParams(Group):
    """Any tree of GLB, glTF, OBJ, PLY and STL files."""

    path: str
    """The folder; empty for none. Only a folder under data/sources makes DVC notice when its files change."""
    index: str
    """A CSV or JSON in it with file, name, category, author, licence, origin, group; empty for none."""
    up: Literal["y", "z"]
    """The axis that points up in its OBJ, PLY and STL files; glTF is always +Y up."""


class AssetsParams(StageGroup):
    """Sources of objects, the part rule, and the split."""

    name: ClassVar[str] = "assets"

    samples: SamplesParams
    sweethome3d: SweetHomeParams
    objaverse: ObjaverseParams
    folder: FolderParams

    max_parts: int = Field(ge=2, le=254)
    """S: the most parts of an object, 10 in the paper."""
    small_by: Literal["surface", "volume"]
    """What a part's size is a share of."""
    small_share: float = Field(ge=0, lt=0.5)
    """A part with a smaller share of the object is small."""
    small_parts: Literal["merge", "cull"]
    """Small parts are merged into the part they touch, or culled."""
    too_many: Literal["merge", "drop"]
    """More parts than `max_parts` are merged, the smallest into the closest, or the object is not divided."""
    undivided: Literal["drop", "keep"]
    """Objects of a single part, or of too many, are dropped, or kept whole: `text_to_mv`, `image_to_mv` and `lrm` learn
    from them, and nothing that needs parts does."""

    texture_px: int = Field(ge=4)
    """Longer side of a texture; larger ones are scaled down."""
    min_opacity: float = Field(ge=0, le=1)
    """More transparent materials are raised to this opacity: a part that nobody can see cannot be learned."""
    max_file_mb: float = Field(gt=0)
    """Objects whose files together are larger are dropped."""
    max_triangles: int = Field(gt=0)
    """Objects with more triangles are dropped."""

    splits: str
    """Folder of val.txt and test.txt, the frozen ids. Only one under data/splits makes DVC notice when they change."""
    validation_share: float = Field(ge=0, lt=1)
    """Share of the name groups that validate, beside the frozen ids; 0 for exactly these, all of which must be kept."""
    test_share: float = Field(ge=0, lt=1)
    """Share of the name groups that test, beside the frozen ids; 0 for exactly these, all of which must be kept."""

    shards: int = Field(ge=1)
    """Parquet files a table, here and in every later stage."""
    max_failed_share: float = Field(ge=0, le=1)
    """The stage fails when a larger share of the objects does (dropped objects are no failures)."""
    timeout_s: float = Field(gt=0)
    """Seconds one object may take."""
