# SPDX-License-Identifier: GPL-3.0-or-later
"""A session of Blender with the extension, without a window: blender_session.py ZIP ADDRESS COMMAND [PICTURE].

Installs the zip as a user would, starts the server from the preferences, takes objects apart that are parented, turned,
scaled and mirrored, regroups them and puts them back; prints what is there after each step, a JSON document a line.
"""

import json
import math
import os
import sys
import time
import urllib.request
from typing import Any

import bpy
from mathutils import Matrix, Vector

START_S = 120.0


def boxes(objects: Any) -> dict[str, Any]:
    """Of every object its box in the world, volume, materials and whether it is seen."""
    found = {}
    bpy.context.view_layer.update()
    for one in objects:
        corners = [one.matrix_world @ vertex.co for vertex in one.data.vertices]
        volume = 0.0
        one.data.calc_loop_triangles()
        for triangle in one.data.loop_triangles:
            a, b, c = (corners[index] for index in triangle.vertices)
            volume += a.dot(b.cross(c)) / 6
        found[one.name] = {
            "low": [min(corner[axis] for corner in corners) for axis in range(3)],
            "high": [max(corner[axis] for corner in corners) for axis in range(3)],
            "volume": volume,
            "scale": list(one.matrix_world.to_scale()),
            "materials": [slot.material.name if slot.material else None for slot in one.material_slots],
            "hidden": one.hide_get() and one.hide_render,
        }
    return found


def mesh_object(name: str, shape: Any, materials: list[Any]) -> Any:
    """An object of a mesh that `shape` makes active."""
    shape()
    made = bpy.context.view_layer.objects.active
    made.name = name
    for material in materials:
        made.data.materials.append(material)
    return made


def scene() -> list[Any]:
    """A table of two pieces, whose materials look alike in a GLB, below a turned and scaled parent; a mirrored lamp."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    wood, metal = bpy.data.materials.new("Wood"), bpy.data.materials.new("Metal")
    for material in (wood, metal):  # procedural, of which a GLB knows nothing
        material.use_nodes = True
        tree = material.node_tree
        noise = tree.nodes.new("ShaderNodeTexNoise")
        tree.links.new(noise.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    top = mesh_object("Table", lambda: bpy.ops.mesh.primitive_cube_add(size=1, scale=(2, 1, 0.1)), [wood])
    leg = mesh_object("Leg", lambda: bpy.ops.mesh.primitive_cylinder_add(radius=0.1, depth=1), [metal])
    leg.location = (0, 0, -0.7)
    lamp = mesh_object("Lamp", lambda: bpy.ops.mesh.primitive_uv_sphere_add(radius=0.3), [])
    lamp.location, lamp.scale = (0.5, 0, 0.9), (-1, 1, 1.5)
    with bpy.context.temp_override(active_object=top, selected_editable_objects=[top, leg]):
        bpy.ops.object.join()
    parent = bpy.data.objects.new("Room", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.matrix_world = Matrix.LocRotScale(
        Vector((1, 2, 3)), Matrix.Rotation(math.radians(30), 3, "Z"), Vector((2,) * 3)
    )
    for one in (top, lamp):
        one.parent = parent
    bpy.context.view_layer.update()
    for one in bpy.data.objects:
        one.select_set(one in (top, lamp))
    bpy.context.view_layer.objects.active = top
    return [top, lamp]


def main() -> None:
    """All steps."""
    extension, address, command = sys.argv[1:4]
    originals = scene()
    bpy.ops.extensions.package_install_files(filepath=extension, repo="user_default", enable_on_install=True)
    preferences = bpy.context.preferences.addons["bl_ext.user_default.partgen"].preferences
    preferences.address, preferences.command = address, command
    try:
        bpy.ops.partgen.take_apart(parts_from="pieces")
    except RuntimeError as error:
        print(json.dumps({"refused": str(error)}))
    print(json.dumps({"before": boxes(originals), "objects": len(bpy.data.objects)}))
    bpy.ops.partgen.start_server()
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(f"{address}/api/v1/about", timeout=5).read()
            break
        except OSError:
            time.sleep(0.2)
    print(json.dumps({"said": sorted(bpy.ops.partgen.take_apart(parts_from="pieces"))}))
    parts = bpy.data.collections["Table parts"]
    print(
        json.dumps(
            {
                "parts": boxes(parts.objects),
                "originals": boxes(originals),
                "materials": sorted(one.name for one in bpy.data.materials),
            }
        )
    )
    if len(sys.argv) > 4:
        picture(sys.argv[4], parts)
    bpy.ops.partgen.regroup(parts=2)
    print(json.dumps({"two": boxes(parts.objects), "pieces": parts.partgen.pieces, "shown": parts.partgen.parts}))
    bpy.ops.partgen.put_back()
    print(json.dumps({"back": boxes(originals), "collections": len(bpy.data.collections)}))
    bpy.ops.preferences.addon_disable(module="bl_ext.user_default.partgen")
    sys.stdout.flush()
    os._exit(0)  # the module `bpy` crashes while the interpreter shuts down


def picture(path: str, parts: Any) -> None:
    """Draw the parts, pulled apart."""
    middle = sum((one.location for one in parts.objects), Vector()) / len(parts.objects)
    kept = {one.name: one.location.copy() for one in parts.objects}
    for one in parts.objects:
        one.location += (one.location - middle) * 0.5
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.scene.collection.objects.link(camera)
    camera.location = middle + Vector((5, -9, 4))
    camera.rotation_euler = (middle - camera.location).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.camera = camera
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 4, (0.6, 0.2, 0.4)
    bpy.context.scene.collection.objects.link(sun)
    bpy.context.scene.world = bpy.data.worlds.new("World")
    bpy.context.scene.render.engine, bpy.context.scene.cycles.samples = "CYCLES", 8
    bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = 400
    bpy.context.scene.render.filepath = path
    bpy.ops.render.render(write_still=True)
    for one in parts.objects:
        one.location = kept[one.name]


main()
