# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of a scene as a GLB, and the parts of a GLB as objects where the meshes were, with the scene's materials."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import bpy
from bpy.types import Collection, Context, Material, Object
from mathutils import Matrix

NUMBERED = re.compile(r"\[(\d+)\](?:\.\d+)?$")
"""How the name of a material ends that goes to the server; Blender adds `.001` to names that are there already."""
NAME_LENGTH = 40


def exported(context: Context, objects: Sequence[Object], path: Path) -> list[Material | None]:
    """Write meshes to a GLB, where they stand in the world with their modifiers applied, and return their materials.

    Material K is called `NAME [K]` in the GLB; None stands for faces without one.
    """
    selected, active = list(context.selected_objects), context.view_layer.objects.active
    depsgraph = context.evaluated_depsgraph_get()
    materials: list[Material | None] = []
    marked: list[Material] = []
    copies: list[Object] = []
    try:
        for one in objects:
            mesh = bpy.data.meshes.new_from_object(
                one.evaluated_get(depsgraph), preserve_all_data_layers=True, depsgraph=depsgraph
            )
            mesh.transform(one.matrix_world)
            if one.matrix_world.determinant() < 0:
                mesh.flip_normals()
            used = [slot.material for slot in one.material_slots] or [None]
            for number, material in enumerate(used):
                if material not in materials:
                    marked.append(_marked(material, len(materials)))
                    materials.append(material)
                if number == len(mesh.materials):
                    mesh.materials.append(None)
                mesh.materials[number] = marked[materials.index(material)]
            copy = bpy.data.objects.new(one.name, mesh)
            context.scene.collection.objects.link(copy)
            copies.append(copy)
        for one in selected:
            one.select_set(False)
        for one in copies:
            one.select_set(True)
        bpy.ops.export_scene.gltf(
            filepath=str(path), export_format="GLB", use_selection=True, export_animations=False, export_skins=False,
            export_morph=False, export_cameras=False, export_lights=False,
        )  # fmt: skip
    finally:
        for one in copies:
            bpy.data.meshes.remove(one.data)  # and the object with it
        for material in marked:
            bpy.data.materials.remove(material)
        for one in selected:
            one.select_set(True)
        context.view_layer.objects.active = active
    return materials


def imported(
    context: Context, path: Path, names: Mapping[int, str], materials: Sequence[Material | None], into: Collection
) -> list[Object]:
    """The parts of a GLB as objects in a collection, each around its own centre, in the world as they stand in the GLB.

    Their custom property `part` is their number, by which `names` call them. Materials that are numbered are those of
    `materials`; others, of parts that were drawn anew, come from the GLB.
    """
    before = {kind: set(getattr(bpy.data, kind)) for kind in ("objects", "materials", "images")}
    bpy.ops.import_scene.gltf(filepath=str(path))
    context.view_layer.update()
    new = [one for one in bpy.data.objects if one not in before["objects"]]
    parts = [one for one in new if one.type == "MESH"]
    for one in parts:
        world = one.matrix_world.copy()
        one.parent = None
        one.data.transform(Matrix.Translation(-world.translation) @ world)
        one.matrix_world = Matrix.Translation(world.translation)
        for holder in list(one.users_collection):
            holder.objects.unlink(one)
        into.objects.link(one)
        one.name = one.data.name = names.get(int(one.get("part", 0)), one.name)
        for slot in one.material_slots:
            found = NUMBERED.search(slot.material.name) if slot.material else None
            if found and int(found[1]) < len(materials):
                slot.material = materials[int(found[1])]
    for one in new:
        if one not in parts:
            bpy.data.objects.remove(one)
    for kind in ("materials", "images"):  # of the copies that have been replaced
        store = getattr(bpy.data, kind)
        for one in set(store) - before[kind]:
            if not one.users:
                store.remove(one)
    return sorted(parts, key=lambda one: int(one.get("part", 0)))


def cleared(collection: Collection) -> None:
    """Remove the objects of a collection, with meshes and materials that nothing else uses."""
    meshes = {one.data for one in collection.objects if one.type == "MESH"}
    for one in list(collection.objects):
        bpy.data.objects.remove(one)
    for mesh in meshes:
        if not mesh.users:
            bpy.data.meshes.remove(mesh)


def _marked(material: Material | None, number: int) -> Material:
    copy = bpy.data.materials.new("none") if material is None else material.copy()
    copy.name = f"{(material or copy).name[:NAME_LENGTH]} [{number}]"
    return copy
