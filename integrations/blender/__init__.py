# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender extension of PartGen: takes the selected meshes apart, by the HTTP API of `partgen app`.

Blender's Python has no packages of PartGen's; nothing here needs more than the standard library and bpy.
"""

from . import operators, start_server, ui


def register() -> None:
    """Blender enables the extension."""
    ui.register()
    operators.register()
    start_server.register()


def unregister() -> None:
    """Blender disables it, or ends."""
    start_server.unregister()
    operators.unregister()
    ui.unregister()
