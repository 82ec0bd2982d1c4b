# SPDX-License-Identifier: GPL-3.0-or-later
#
# This program runs inside Blender and is free software: you can redistribute it and/or modify it under the terms of the
# GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your
# option) any later version. It comes WITHOUT ANY WARRANTY. See LICENSES/GPL-3.0-or-later.txt.
"""A program that draws GLBs with Blender: `python blender_worker.py --threads N --answers FD`.

It speaks JSON lines and knows nothing of the programs that use it. Its answers go to the file descriptor FD, which it
inherits and on which nobody else writes: whatever Blender, its libraries and Python itself print, from the first byte
on, is on standard output and error. It first says which Blender and which device it has,

    {"blender": "4.2.23", "device": "OPTIX: NVIDIA H100"}

and then answers each job on its standard input, in order, by `{}` or `{"error": "why the object cannot be drawn"}`:

    {"glb": "/tmp/a/object.glb",     # one node a part, numbered by its `extras`: {"part": 1}; in the unit sphere
     "out": "/tmp/a",                # the pictures of series s become out/s_0.png, out/s_1.png, ...
     "series": [{"part": null, "poses": [[[1, 0, 0, 0], ...], ...]}, {"part": 1, "poses": [...]}],
     "view_size": 64, "fov_deg": 40.0, "engine": "cycles", "samples": 16, "seed": 0, "denoiser": "none",
     "bounces": {"diffuse": 3, "glossy": 3, "transmission": 6, "transparent": 16},
     "lights": {"sky": 0.65, "ground": 0.4,
                "suns": [{"azimuth_deg": 40, "elevation_deg": 35, "strength": 1.2, "angle_deg": 15}]}}

`part` is the only part to show, or null for all. Poses are camera-to-world matrices in the frame of glTF (+Y up) with
OpenGL's camera axes. Pictures are RGBA with straight alpha, 8 bits, sRGB ("Standard" view transform, no tone mapping).
Temporary files lie in TMPDIR until the first job, then in the `out` of the latest one. The program ends when its
standard input does, or when its parent dies; Ctrl-C is its parent's to hear.
"""
# ruff: noqa: E402

import argparse
import ctypes
import json
import math
import os
import signal
import sys
import tempfile

PR_SET_PDEATHSIG = 1
if __name__ == "__main__":  # first of all: the imports take seconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

# BlenderProc refuses to be imported outside its own launcher unless these stand in the environment.
os.environ["OUTSIDE_OF_THE_INTERNAL_BLENDER_PYTHON_ENVIRONMENT_BUT_IN_RUN_SCRIPT"] = "1"
os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"

import bpy
import numpy as np
from blenderproc.python.camera import CameraUtility
from blenderproc.python.loader.ObjectLoader import load_obj
from blenderproc.python.renderer import RendererUtility
from blenderproc.python.types.LightUtility import Light
from blenderproc.python.types.MeshObjectUtility import MeshObject
from blenderproc.python.utility.Initializer import _Initializer, clean_up
from mathutils import Matrix, Vector

GLTF_TO_BLENDER = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1)))
"""+Y up to +Z up, as Blender's importer turns the object."""
COINCIDENT = 1e-4
"""Sheets that are nearer to each other, in radii of the object, count as one."""
ROUGH = 0.7
"""From this roughness on a dielectric shows no highlight worth drawing."""
SHARP = math.radians(30)
"""Where a mesh has no normals, edges that bend more are sharp and all others smooth."""
ENGINES = {"cycles": "CYCLES", "eevee": "BLENDER_EEVEE_NEXT"}


def main() -> None:
    """Answer jobs until the standard input ends."""
    parser = argparse.ArgumentParser(description="Draw GLBs with Blender; JSON lines on stdin and on a descriptor.")
    parser.add_argument("--threads", type=int, required=True, help="CPU threads; they do not change the pictures")
    parser.add_argument("--answers", type=int, required=True, help="the file descriptor that the answers go to")
    arguments = parser.parse_args()
    with os.fdopen(arguments.answers, "w", buffering=1) as answers:
        print(json.dumps({"blender": bpy.app.version_string, "device": start(arguments.threads)}), file=answers)
        for line in sys.stdin:
            try:
                draw(json.loads(line))
                answer = {}
            except Exception as error:  # a bad object must not cost the start of a new Blender
                answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
            print(json.dumps(answer), file=answers)
    # The module `bpy` crashes while the interpreter shuts down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def start(threads: int) -> str:
    """Set Blender up as BlenderProc's `init` does, which does not work in the module `bpy`; return the device."""
    clean_up(clean_up_camera=True)
    _Initializer.set_default_parameters()
    RendererUtility.set_render_devices()
    RendererUtility.set_cpu_threads(threads)
    preferences = bpy.context.preferences.addons["cycles"].preferences
    if bpy.context.scene.cycles.device == "CPU":
        return "CPU"
    names = [device.name for device in preferences.devices if device.use and device.type != "CPU"]
    return f"{preferences.compute_device_type}: {', '.join(names)}"


def draw(job: dict) -> None:
    """Draw all pictures of one object."""
    # Whoever made that folder removes it; a folder of our own would stay when this program is killed.
    tempfile.tempdir = bpy.context.preferences.filepaths.temporary_directory = job["out"]
    clean_up(clean_up_camera=True)
    scene = bpy.context.scene
    set_up_renderer(job)
    set_up_lights(job["lights"])
    size = job["view_size"]
    CameraUtility.set_intrinsics_from_blender_params(
        math.radians(job["fov_deg"]), size, size, 0.01, 100.0, 1, 1, 0, 0, "FOV"
    )
    parts = load_parts(job["glb"])
    for number, series in enumerate(job["series"]):
        if series["part"] is not None and series["part"] not in parts:
            raise ValueError(f"no node of the GLB is part {series['part']}")
        for part, obj in parts.items():
            obj.hide(series["part"] not in (None, part))
        shown = np.concatenate([vertices(obj) for obj in parts.values() if not obj.is_hidden()])
        for view, pose in enumerate(series["poses"]):
            # One picture after the other and no key frames: those would make Blender prepare the whole scene anew for
            # every picture, which takes longer than to draw a small one.
            scene.camera.matrix_world = GLTF_TO_BLENDER @ Matrix(pose)
            draw_only_where(shown, scene.camera.matrix_world, job["fov_deg"])
            scene.render.filepath = f"{job['out']}/{number}_{view}.png"
            bpy.ops.render.render(write_still=True)


def draw_only_where(points: np.ndarray, camera_to_world: Matrix, fov_deg: float) -> None:
    """Restrict rendering to the rectangle that holds the points (N, 3): most of a small part's picture is empty."""
    scene = bpy.context.scene
    to_camera = np.array(camera_to_world.inverted())
    seen = points @ to_camera[:3, :3].T + to_camera[:3, 3]
    seen = (seen[:, :2] / -seen[:, 2:] / math.tan(math.radians(fov_deg / 2)) + 1) / 2
    margin = 3 / scene.render.resolution_x  # pixels; the filter that smooths edges is 1.5 wide
    low, high = np.clip(seen.min(axis=0) - margin, 0, 1), np.clip(seen.max(axis=0) + margin, 0, 1)
    scene.render.use_border = True
    scene.render.border_min_x, scene.render.border_min_y = low
    scene.render.border_max_x, scene.render.border_max_y = high


def vertices(obj: MeshObject) -> np.ndarray:
    """The vertices (N, 3) of an object in Blender's world."""
    mesh = obj.get_mesh()
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    pose = obj.get_local2world_mat()
    return points.reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]


def set_up_renderer(job: dict) -> None:
    """Engine and quality; what BlenderProc sets by default is stated here where pictures depend on it."""
    scene, bounces = bpy.context.scene, job["bounces"]
    scene.render.engine = ENGINES[job["engine"]]
    RendererUtility.set_max_amount_of_samples(job["samples"])
    scene.eevee.taa_render_samples = job["samples"]
    RendererUtility.set_noise_threshold(0)  # no adaptive sampling: it saves nothing at few samples
    RendererUtility.set_denoiser(None if job["denoiser"] == "none" else job["denoiser"])
    RendererUtility.set_light_bounces(
        diffuse_bounces=bounces["diffuse"],
        glossy_bounces=bounces["glossy"],
        ao_bounces_render=0,
        max_bounces=max(bounces["diffuse"], bounces["glossy"], bounces["transmission"]),
        transmission_bounces=bounces["transmission"],
        transparent_max_bounces=bounces["transparent"],
        volume_bounces=0,
    )
    RendererUtility.set_output_format("PNG", 8, enable_transparency=True, view_transform="Standard")
    scene.render.use_compositing = job["denoiser"] == "intel"  # BlenderProc puts that one into the compositor
    scene.render.use_sequencer = False
    scene.render.dither_intensity = 0
    RendererUtility.toggle_light_tree(True)  # the sun in sight, rather than any: less noise
    scene.render.image_settings.compression = 0
    scene.cycles.seed = job["seed"]
    scene.cycles.use_animated_seed = False


def set_up_lights(lights: dict) -> None:
    """A sky that fades into the ground, and suns, all fixed to the world so that the views of an object agree."""
    world = bpy.context.scene.world
    world.use_nodes = True
    # The sky is smooth: rays that leave the object find it, a map for importance sampling would only cost time.
    world.cycles.sampling_method = "NONE"
    nodes, links = world.node_tree.nodes, world.node_tree.links
    direction = nodes.new("ShaderNodeTexCoord").outputs["Generated"]
    height = nodes.new("ShaderNodeSeparateXYZ")
    radiance = nodes.new("ShaderNodeMapRange")
    for name, value in {"From Min": -1, "From Max": 1, "To Min": lights["ground"], "To Max": lights["sky"]}.items():
        radiance.inputs[name].default_value = value
    background = nodes["Background"]
    background.inputs["Color"].default_value = (1, 1, 1, 1)
    links.new(direction, height.inputs["Vector"])
    links.new(height.outputs["Z"], radiance.inputs["Value"])
    links.new(radiance.outputs["Result"], background.inputs["Strength"])
    for sun in lights["suns"]:
        azimuth, elevation = math.radians(sun["azimuth_deg"]), math.radians(sun["elevation_deg"])
        towards = Vector(
            (math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation))
        )
        light = Light("SUN")
        light.set_energy(sun["strength"])
        light.blender_obj.data.angle = math.radians(sun["angle_deg"])
        light.set_rotation_mat(towards.to_track_quat("Z", "Y").to_matrix())


def load_parts(glb: str) -> dict[int, MeshObject]:
    """The mesh objects of the parts, by their numbers."""
    parts = {}
    for obj in load_obj(glb):
        if obj.blender_obj.type != "MESH":
            continue
        if not obj.has_cp("part"):
            raise ValueError(f"the node {obj.get_name()!r} of the GLB has no extras.part")
        parts[obj.get_cp("part")] = obj
        mesh = obj.get_mesh()
        if not mesh.has_custom_normals:
            mesh.shade_smooth()
            mesh.set_sharp_from_angle(angle=SHARP)
        for material in {material.blender_obj for material in obj.get_materials() if material is not None}:
            material.use_backface_culling = False  # EEVEE would look into boxes that lack a back
            let_light_leave(material)
            take_sheen_off(material)
    if not parts:
        raise ValueError("the GLB has no mesh")
    return parts


def let_light_leave(material: bpy.types.Material) -> None:
    """Make a surface transparent to rays that have only just set out.

    Many artists model two-sided sheets as two coincident ones; each would block the light of the other, and both be
    black.
    """
    nodes, links = material.node_tree.nodes, material.node_tree.links
    surface = next(node for node in nodes if node.bl_idname == "ShaderNodeOutputMaterial").inputs["Surface"]
    just_left = nodes.new("ShaderNodeMath")
    just_left.operation = "LESS_THAN"
    just_left.inputs[1].default_value = COINCIDENT
    mix = nodes.new("ShaderNodeMixShader")
    links.new(nodes.new("ShaderNodeLightPath").outputs["Ray Length"], just_left.inputs[0])
    links.new(just_left.outputs[0], mix.inputs[0])
    links.new(surface.links[0].from_socket, mix.inputs[1])
    links.new(nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[2])
    links.new(mix.outputs[0], surface)


def take_sheen_off(material: bpy.types.Material) -> None:
    """Make rough dielectrics matte: their faint reflections, taken at random, are half the noise of a few samples."""
    for node in material.node_tree.nodes:
        if node.type == "BSDF_PRINCIPLED":
            roughness, metallic = node.inputs["Roughness"], node.inputs["Metallic"]
            constant = not roughness.is_linked and not metallic.is_linked
            if constant and roughness.default_value >= ROUGH and metallic.default_value == 0:
                node.inputs["Specular IOR Level"].default_value = 0


if __name__ == "__main__":
    main()
