# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in the sidebar of the 3D view, the preferences, and what a collection of parts knows of itself."""

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty, PointerProperty, StringProperty
from bpy.types import AddonPreferences, Context, Material, Object, Panel, PropertyGroup

from .operators import parts_of

SETTLED_S = 0.4
"""After the slider's last move, until the server is asked."""
_asked: list[str] = []


class Original(PropertyGroup):
    """A mesh that was taken apart."""

    object: PointerProperty(type=Object)
    shown: BoolProperty(description="Whether it was rendered before")


class Slot(PropertyGroup):
    """A material of the originals, by its number in the GLB; empty for faces without one."""

    material: PointerProperty(type=Material)


def _moved(state: "State", context: Context) -> None:
    """The slider was moved: ask once it rests."""
    if state.parts == state.shown:
        return
    _asked[:] = [state.id_data.name]
    if bpy.app.timers.is_registered(_settled):
        bpy.app.timers.unregister(_settled)
    bpy.app.timers.register(_settled, first_interval=SETTLED_S)


def _settled() -> None:
    windows = bpy.context.window_manager.windows
    if _asked and windows:
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.partgen.regroup("INVOKE_DEFAULT", collection=_asked.pop())


class State(PropertyGroup):
    """Of which object of the server a collection has the parts."""

    object_id: StringProperty()
    version: IntProperty()
    pieces: IntProperty(description="How many parts there can be")
    shown: IntProperty(description="How many parts there are")
    parts: IntProperty(name="Parts", min=1, max=255, update=_moved, description="Into how many it is divided")
    originals: CollectionProperty(type=Original)
    materials: CollectionProperty(type=Slot)


class Preferences(AddonPreferences):
    """Where the server is."""

    bl_idname = __package__

    address: StringProperty(name="Address", default="http://127.0.0.1:8765")
    token: StringProperty(name="Token", subtype="PASSWORD", description="Of a server on another machine")
    command: StringProperty(name="Command", default="partgen", description="What starts PartGen, with its path")

    def draw(self, context: Context) -> None:
        """In the preferences."""
        for name in ("address", "token", "command"):
            self.layout.prop(self, name)
        self.layout.operator("partgen.start_server")


class Sidebar(Panel):
    """In the 3D view, key N."""

    bl_idname, bl_label = "VIEW3D_PT_partgen", "PartGen"
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "PartGen"

    def draw(self, context: Context) -> None:
        """What can be done with the active object."""
        layout, collection = self.layout, parts_of(context)
        row = layout.row(align=True)
        row.operator("partgen.take_apart")
        row.operator_menu_enum("partgen.take_apart", "parts_from", text="", icon="DOWNARROW_HLT")
        if collection is None:
            layout.operator("partgen.start_server")
            return
        state = collection.partgen
        if state.pieces:
            layout.prop(state, "parts", slider=True)
            layout.label(text=f"1 to {state.pieces} parts")
        else:
            layout.label(text="Edited: its number of parts stays")
        layout.prop(context.window_manager, "partgen_prompt")
        layout.operator("partgen.edit_part")
        layout.operator("partgen.put_back")


CLASSES = (Original, Slot, State, Preferences, Sidebar)


def register() -> None:
    """Make them known."""
    for one in CLASSES:
        bpy.utils.register_class(one)
    bpy.types.Collection.partgen = PointerProperty(type=State)
    bpy.types.WindowManager.partgen_prompt = StringProperty(name="Text", description="What the part is to be")


def unregister() -> None:
    """Forget them."""
    if bpy.app.timers.is_registered(_settled):
        bpy.app.timers.unregister(_settled)
    del bpy.types.WindowManager.partgen_prompt, bpy.types.Collection.partgen
    for one in reversed(CLASSES):
        bpy.utils.unregister_class(one)
