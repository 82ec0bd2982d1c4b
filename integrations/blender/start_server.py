# SPDX-License-Identifier: GPL-3.0-or-later
"""`partgen app` started from Blender; it ends with Blender."""

import atexit
import shlex
import subprocess
import urllib.parse

import bpy
from bpy.types import Context

_process: subprocess.Popen[bytes] | None = None


class StartServer(bpy.types.Operator):
    """Start `partgen app` on this machine, at the port of the address; it ends with Blender"""

    bl_idname, bl_label = "partgen.start_server", "Start PartGen"

    def execute(self, context: Context) -> set[str]:
        """It goes on in the background."""
        global _process
        preferences = context.preferences.addons[__package__].preferences
        address = urllib.parse.urlsplit(preferences.address)
        if address.hostname not in ("127.0.0.1", "localhost", "::1"):
            self.report({"ERROR"}, f"{preferences.address} is another machine; start `partgen app` there.")
            return {"CANCELLED"}
        if _process is not None and _process.poll() is None:
            self.report({"INFO"}, f"It is running at {preferences.address}")
            return {"FINISHED"}
        command = [*shlex.split(preferences.command), "app", "--no-browser", "--port", str(address.port or 80)]
        try:
            _process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except OSError as error:
            self.report({"ERROR"}, f"{preferences.command!r} cannot be started ({error.strerror}); give its path.")
            return {"CANCELLED"}
        self.report({"INFO"}, f"PartGen starts at {preferences.address}")
        return {"FINISHED"}


def register() -> None:
    """Make it known."""
    bpy.utils.register_class(StartServer)
    atexit.register(_end)


def unregister() -> None:
    """End what was started."""
    atexit.unregister(_end)
    _end()
    bpy.utils.unregister_class(StartServer)


def _end() -> None:
    if _process is not None and _process.poll() is None:
        _process.terminate()
