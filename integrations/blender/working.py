# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators that ask the server in a thread, so that Blender stays usable: progress in the status bar, Esc cancels."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import bpy
from bpy.types import Context, Operator

from .server import Cancelled, Document, Report, Server, ServerError

TICK_S = 0.2

Asked = Callable[[Server, Report, Event], Document]
"""What is asked; it runs in a thread and touches nothing of Blender."""


class Work(Thread):
    """A question to the server, and what became of it."""

    def __init__(self, asked: Asked, server: Server) -> None:
        super().__init__(daemon=True)
        self.cancelled = Event()
        self.told: tuple[str, float | None] = ("Starting", None)
        self.found: Document | None = None
        self.glb = b""
        self.error: Exception | None = None
        self._asked, self._server = asked, server

    def run(self) -> None:
        """Ask, and get the GLB of what the answer is about."""
        try:
            found = self._asked(self._server, self._report, self.cancelled)
            self._report("Receiving", None)
            self.glb, self.found = self._server.glb(found), found
        except Exception as error:
            self.error = error

    def _report(self, step: str, share: float | None) -> None:
        self.told = (step, share)


class Working(Operator):
    """The base of operators that ask the server; without a window they wait for it."""

    def prepared(self, context: Context) -> Asked:
        """What is to be asked; ServerError when there is nothing to ask."""
        raise NotImplementedError

    def finished(self, context: Context, found: Document, glb: bytes) -> None:
        """Put into the scene what the server has answered."""
        raise NotImplementedError

    def execute(self, context: Context) -> set[str]:
        """At once."""
        work = self._started(context)
        if work is None:
            return {"CANCELLED"}
        work.join()
        return self._ended(context, work)

    def invoke(self, context: Context, event: Any) -> set[str]:
        """With a timer, in the background."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        self._work = self._started(context)
        if self._work is None:
            return {"CANCELLED"}
        self._timer = context.window_manager.event_timer_add(TICK_S, window=context.window)
        context.window_manager.progress_begin(0, 100)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Any) -> set[str]:
        """A tick, or Esc."""
        if event.type == "ESC" and event.value == "PRESS":
            self._work.cancelled.set()
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        step, share = self._work.told
        words = "Cancelling" if self._work.cancelled.is_set() else step
        percent = "" if share is None else f" {share:.0%}"
        context.workspace.status_text_set(f"PartGen: {words}{percent} (Esc cancels)")
        context.window_manager.progress_update(100 * (share or 0))
        if self._work.is_alive():
            return {"PASS_THROUGH"}
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        context.workspace.status_text_set(None)
        return self._ended(context, self._work)

    def _started(self, context: Context) -> Work | None:
        preferences = context.preferences.addons[__package__].preferences
        try:
            work = Work(self.prepared(context), Server(preferences.address, preferences.token))
        except ServerError as error:
            self.report({"ERROR"}, str(error))
            return None
        work.start()
        return work

    def _ended(self, context: Context, work: Work) -> set[str]:
        if work.found is not None and not work.cancelled.is_set():
            self.finished(context, work.found, work.glb)
            return {"FINISHED"}
        if work.cancelled.is_set() or isinstance(work.error, Cancelled):
            self.report({"INFO"}, "PartGen was cancelled")
        elif isinstance(work.error, ServerError):
            self.report({"ERROR"}, str(work.error))
        elif work.error is not None:
            raise work.error
        return {"CANCELLED"}
