"""Gathering the sources that the params ask for into one list of work."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.assets.build import CONTRACT, PartSettings, Payload
from pipeline.assets.objaverse import objaverse_assets
from pipeline.assets.reasons import ObjectDropped
from pipeline.assets.sources import Asset, folder_assets
from pipeline.assets.splits import Splits, read_frozen
from pipeline.assets.sweethome3d import sweethome3d_assets
from pipeline.errors import Invalid, UserError
from pipeline.params.assets import AssetsParams, ObjaverseParams
from pipeline.shards.build import Item
from pipeline.shards.store import content_key

SAMPLES = Path("data/samples")


def collect_assets(params: AssetsParams) -> tuple[list[Asset], list[str]]:
    """The assets of all sources in use, and the names of those that are absent though wanted (announced on stderr)."""
    assets: list[Asset] = []
    absent: list[str] = []
    if params.samples.use:
        assets += folder_assets(SAMPLES, "samples", "samples.csv")
    if params.sweethome3d.objects:
        found = sweethome3d_assets(Path(params.sweethome3d.path), params.sweethome3d.objects)
        if not found:
            sentence = (
                f"{params.sweethome3d.path} holds no .sh3f library; `partgen assets fetch sweethome3d` downloads them "
                "(120 MB), assets.sweethome3d.path names others"
            )
            if params.sweethome3d.required:
                raise UserError(f"{sentence}.")
            print(f"assets: {sentence}; going on without.", file=sys.stderr, flush=True)
            absent.append("sweethome3d")
        assets += found
    if params.objaverse.objects:
        assets += _objaverse(params.objaverse)
    if params.folder.path:
        assets += folder_assets(Path(params.folder.path), "folder", params.folder.index, params.folder.up)
    if not assets:
        raise UserError(
            "No source of objects is in use; set assets.samples.use, sweethome3d.objects, objaverse.objects or "
            "folder.path."
        )
    return assets, absent


def _objaverse(params: ObjaverseParams) -> list[Asset]:
    """The objects of the mirror; says on stderr how many licences kept out. Invalid when they kept out all."""
    assets, left_out = objaverse_assets(Path(params.path), params.objects, params.licences)
    if left_out:
        counts = ", ".join(f"{licence} {count:,}" for licence, count in left_out.items())
        sentence = (
            f"{sum(left_out.values()):,} objects of {params.path} are left out for their licences ({counts}); "
            "assets.objaverse.licences names those that are taken"
        )
        if not assets:
            raise Invalid(f"All {sentence}.")
        print(f"assets: {sentence}.", file=sys.stderr, flush=True)
    return assets


def work_items(assets: Sequence[Asset], params: AssetsParams) -> list[Item]:
    """One item an asset.

    Of two with the same origin, the second is dropped as a duplicate; what no side of the split may have is dropped.
    """
    splits = asset_splits(assets, params)
    settings = PartSettings(**params.model_dump(include=set(PartSettings.model_fields)))
    max_bytes = int(params.max_file_mb * 1e6)
    first: dict[str, str] = {}
    items = []
    for asset in assets:
        original = first.setdefault(asset.origin, asset.object_id)
        split = splits.of(asset.object_id, asset.name_group)
        refused = ""
        if original != asset.object_id:
            refused = f"duplicate of {original}"
        elif split is None:
            refused = "a variant of a held-out object"
        row = _row(asset, split or "")
        content = refused or asset.identity(max_bytes)
        key = content_key(CONTRACT, row, settings, str(max_bytes), content, asset.matrix().tobytes(), asset.up)
        items.append(Item(asset.object_id, key, partial(_payload, asset, row, settings, max_bytes, refused)))
    return items


def asset_splits(assets: Sequence[Asset], params: AssetsParams) -> Splits:
    """The sides of these assets; UserErrors of `Splits` and `read_frozen`."""
    groups = ((asset.object_id, asset.name_group) for asset in assets)
    return Splits(read_frozen(Path(params.splits)), groups, params.validation_share, params.test_share)


def _payload(asset: Asset, row: dict[str, Any], settings: PartSettings, max_bytes: int, refused: str) -> Payload:
    bundle, reason = None, refused
    if not refused:
        try:
            bundle = asset.read(max_bytes)
        except ObjectDropped as error:
            reason = str(error)
    return Payload(row, bundle, reason, asset.matrix(), settings, asset.up)


def _row(asset: Asset, split: str) -> dict[str, Any]:
    return {
        "object_id": asset.object_id,
        "split": split,
        "name": asset.name,
        "name_group": asset.name_group,
        "category": asset.category,
        "source": asset.source,
        "origin": asset.origin,
        "licence": asset.licence,
        "author": asset.author,
    }
