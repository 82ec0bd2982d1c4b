# SPDX-License-Identifier: GPL-3.0-or-later
"""Take apart, another number of parts, edit a part by text, put back."""

import tempfile
from pathlib import Path
from threading import Event

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty
from bpy.types import Collection, Context, Object

from .exchange import cleared, exported, imported
from .server import Document, Report, Server, ServerError
from .working import Asked, Working


def parts_of(context: Context) -> Collection | None:
    """The collection of parts that the active object, or else the active collection, is of."""
    active = context.view_layer.objects.active
    candidates = [*(active.users_collection if active else ()), context.view_layer.active_layer_collection.collection]
    return next((one for one in candidates if one.partgen.object_id), None)


class TakeApart(Working):
    """Divide the selected meshes into parts, which come into a new collection; the meshes are hidden"""

    bl_idname, bl_label, bl_options = "partgen.take_apart", "Take Apart", {"UNDO"}

    parts: IntProperty(name="Parts", default=0, min=0, max=255, description="0: as many as the model finds")
    parts_from: EnumProperty(
        name="From",
        items=[
            ("model", "Model", "As the grouping model joins connected pieces"),
            ("nodes", "Objects", "One part an object"),
            ("materials", "Materials", "One part a material"),
            ("pieces", "Pieces", "One part a connected piece"),
        ],
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Some mesh is selected, in object mode."""
        return context.mode == "OBJECT" and any(one.type == "MESH" for one in context.selected_objects)

    def prepared(self, context: Context) -> Asked:
        """The selected meshes go to the server."""
        meshes = [one for one in context.selected_objects if one.type == "MESH"]
        active = context.view_layer.objects.active
        self._name = (active if active in meshes else meshes[0]).name
        self._originals = [one.name for one in meshes]
        with tempfile.TemporaryDirectory(prefix="partgen-") as folder:
            path = Path(folder) / "object.glb"
            materials = exported(context, meshes, path)
            glb = path.read_bytes()
        self._materials = [None if one is None else one.name for one in materials]
        options = {"frame": "file", "parts_from": self.parts_from, **({"parts": self.parts} if self.parts else {})}
        name = self._name

        def asked(server: Server, report: Report, cancelled: Event) -> Document:
            return server.take_apart(glb, name, options, report, cancelled)

        return asked

    def finished(self, context: Context, found: Document, glb: bytes) -> None:
        """A collection beside the originals, which are hidden."""
        collection = bpy.data.collections.new(f"{self._name} parts")
        context.scene.collection.children.link(collection)
        state = collection.partgen
        for name in self._originals:
            if (one := bpy.data.objects.get(name)) is not None:
                kept = state.originals.add()
                kept.object, kept.shown = one, not one.hide_render
                one.hide_set(True)
                one.hide_render = True
        for name in self._materials:
            state.materials.add().material = bpy.data.materials.get(name) if name else None
        _filled(context, collection, found, glb)


class Regroup(Working):
    """Divide the object of the active part into another number of parts"""

    bl_idname, bl_label, bl_options = "partgen.regroup", "Number of Parts", {"UNDO"}

    collection: StringProperty(options={"HIDDEN"})
    parts: IntProperty(name="Parts", default=0, min=0, max=255)

    def prepared(self, context: Context) -> Asked:
        """The collection by its name, else that of the active object."""
        collection = bpy.data.collections.get(self.collection) or parts_of(context)
        if collection is None:
            raise ServerError("No part is active; select one of a collection that Take Apart has made.")
        self._collection, state = collection.name, collection.partgen
        wanted = min(self.parts or state.parts, state.pieces)
        known = {"id": state.object_id, "version": state.version}

        def asked(server: Server, report: Report, cancelled: Event) -> Document:
            report("Regrouping", None)
            return server.regroup(known, wanted)

        return asked

    def finished(self, context: Context, found: Document, glb: bytes) -> None:
        """The new parts in the place of the old ones."""
        if (collection := bpy.data.collections.get(self._collection)) is not None:
            _filled(context, collection, found, glb)


class EditPart(Working):
    """Draw the active part anew, after a text"""

    bl_idname, bl_label, bl_options = "partgen.edit_part", "Edit Part", {"UNDO"}

    prompt: StringProperty(name="Text", description="What the part is to be, such as: a red cushion")

    @classmethod
    def poll(cls, context: Context) -> bool:
        """The active object is a part."""
        active = context.view_layer.objects.active
        return context.mode == "OBJECT" and parts_of(context) is not None and active is not None and "part" in active

    def prepared(self, context: Context) -> Asked:
        """The active part."""
        collection, active = parts_of(context), context.view_layer.objects.active
        assert collection is not None
        self._collection, state = collection.name, collection.partgen
        prompt, part = self.prompt or context.window_manager.partgen_prompt, int(active["part"])
        if not prompt.strip():
            raise ServerError("The text is empty; say in a few words what the part is to be.")
        known = {"id": state.object_id, "version": state.version}

        def asked(server: Server, report: Report, cancelled: Event) -> Document:
            return server.edit(known, part, prompt, report, cancelled)

        return asked

    def finished(self, context: Context, found: Document, glb: bytes) -> None:
        """The new parts in the place of the old ones."""
        if (collection := bpy.data.collections.get(self._collection)) is not None:
            _filled(context, collection, found, glb)


class PutBack(bpy.types.Operator):
    """Remove the parts and show the meshes that they were made from"""

    bl_idname, bl_label, bl_options = "partgen.put_back", "Put Back", {"UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """A part is active."""
        return parts_of(context) is not None

    def execute(self, context: Context) -> set[str]:
        """At once."""
        collection = parts_of(context)
        assert collection is not None
        for kept in collection.partgen.originals:
            if kept.object is not None and kept.object.name in context.view_layer.objects:
                kept.object.hide_set(False)
                kept.object.hide_render = not kept.shown
        cleared(collection)
        bpy.data.collections.remove(collection)
        return {"FINISHED"}


def _filled(context: Context, collection: Collection, found: Document, glb: bytes) -> list[Object]:
    """The collection with the parts of an answer in the place of those that it has."""
    state = collection.partgen
    cleared(collection)
    with tempfile.TemporaryDirectory(prefix="partgen-") as folder:
        path = Path(folder) / "parts.glb"
        path.write_bytes(glb)
        names = {part["label"]: part["name"] for part in found["parts"]}
        made = imported(context, path, names, [one.material for one in state.materials], collection)
    state.object_id, state.version = found["id"], found["version"]
    hierarchy = found["hierarchy"]
    state.pieces = hierarchy["pieces"] if hierarchy else 0
    state.shown = state.parts = len(made)
    for one in context.selected_objects:
        one.select_set(False)
    for one in made:
        one.select_set(True)
    context.view_layer.objects.active = made[0] if made else None
    return made


CLASSES = (TakeApart, Regroup, EditPart, PutBack)


def register() -> None:
    """Make them known."""
    for one in CLASSES:
        bpy.utils.register_class(one)


def unregister() -> None:
    """Forget them."""
    for one in reversed(CLASSES):
        bpy.utils.unregister_class(one)
