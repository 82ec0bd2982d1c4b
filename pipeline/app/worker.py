"""A process that computes for the server: it takes a task a line and keeps its models.

    python -m pipeline.app.worker MODELS SERVER NAME

SERVER is the process id of the server, with which this one ends. The name, `jobs` or `quick`, is for whoever looks at a
list of processes. Answers are lines on what was standard output;
all that libraries print goes to standard error.
"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.app.refusals import as_refusal
from pipeline.shards.pool import die_with_parent
from pipeline.shards.progress import Event, listening

SAID_EVERY_S = 0.2
"""Between two events of one step's items."""


def main() -> None:
    """Answer until the server is gone."""
    die_with_parent()
    if os.getppid() != int(sys.argv[2]):  # it has died meanwhile
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server hears Ctrl-C and ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(document: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(document) + "\n")
            answers.flush()

    from pipeline.app.tasks import Tasks

    tasks = Tasks(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        said = 0.0

        def tell(event: Event) -> None:
            nonlocal said
            now = time.monotonic()
            if 0 < event.done < event.total and event.seconds is None and now - said < SAID_EVERY_S:
                return
            said = now
            say({"event": asdict(event)})

        try:
            with listening(tell):
                result = tasks.run(request.pop("task"), request)
            say({"result": result})
        except Exception as error:  # whatever it is, the user is told and the next task is taken
            refusal = as_refusal(error)
            if refusal.status == 500:
                sys.excepthook(type(error), error, error.__traceback__)
            say({"error": refusal.sentence, "status": refusal.status})


if __name__ == "__main__":
    main()
