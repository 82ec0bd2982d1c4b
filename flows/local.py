"""Runs on this machine: at once (`partgen run`), or when someone starts one in Prefect's UI (`partgen serve`)."""

from stages.entry import one_sentence_errors  # isort: skip  # first, so that Ctrl-C is told from here on

import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from typing import cast

import httpx

from flows.processes import end, guarded
from flows.settings import set_up_prefect
from flows.workspace import find_project
from pipeline.errors import UserError

GRACE_S = 20.0
"""What a flow is given to end its stages and to report that it was cancelled."""
STRANGER = "http://another-page.example"
"""An origin that no server need answer."""
RUNS_AT_ONCE = 1
"""Of those started from the UI: a run uses all cores as it is, so others wait."""


def run_here(overrides: Sequence[str] = (), stages: Sequence[str] = (), force: bool = False) -> bool:
    """Run the flow in the current project and print a table of what each stage came to; whether all went well.

    The arguments are the flow's, see `flows.pipeline.partgen`. The flow runs in a process of its own, with Prefect's
    embedded server, to which it alone has the login, or, where PREFECT_API_URL names one, with that. When this process
    ends, however it ends, so do the flow, its server and all that the stages started.
    """
    find_project()
    set_up_prefect()
    arguments = json.dumps({"overrides": list(overrides), "stages": list(stages), "force": force})
    command = guarded([sys.executable, "-m", "flows.local", "flow", arguments], GRACE_S)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        return process.wait() == 0
    finally:
        end(process, GRACE_S)


def serve() -> None:
    """Register the deployment `partgen/here` and run what is started from it, here, until interrupted.

    Prints first what the server is open to, see `openings`. UserError when no Prefect server is named (PREFECT_API_URL,
    or a Prefect profile), or none answers.
    """
    find_project()
    set_up_prefect()
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(
            "No Prefect server is named; start one with `prefect server start`, then "
            "`PREFECT_API_URL=http://127.0.0.1:4200/api partgen serve`."
        )
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
        warnings = openings(url)
    except httpx.HTTPError as error:
        raise UserError(
            f"No Prefect server answers at {url} ({error}); start it with `prefect server start`."
        ) from None
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr, flush=True)
    from flows.pipeline import partgen

    partgen.serve(name="here", limit=RUNS_AT_ONCE, description=partgen.description, pause_on_shutdown=False)


def openings(url: str) -> list[str]:
    """What Prefect's server at `url` is open to and need not be, a sentence each with how to close it."""
    found = []
    asked = {"Origin": STRANGER, "Access-Control-Request-Method": "POST"}
    if httpx.options(f"{url}/flows/", headers=asked, timeout=10).headers.get("access-control-allow-origin"):
        found.append(
            f"The Prefect server at {url} does what any web page says that is open in a browser which reaches it; "
            f"start it with PREFECT_SERVER_CORS_ALLOWED_ORIGINS={url.removesuffix('/api')}."
        )
    if httpx.get(f"{url}/admin/version", timeout=10).is_success:
        found.append(
            f"The Prefect server at {url} wants no login, and whoever reaches it can run any program here as you; "
            "start it with PREFECT_SERVER_API_AUTH_STRING=NAME:PASSWORD, and `partgen serve` with "
            "PREFECT_API_AUTH_STRING=NAME:PASSWORD."
        )
    return found


def main() -> None:
    """`run JSON` and `serve`, which the command line becomes, and `flow JSON`, the process that `run` guards."""
    command, *values = sys.argv[1:]
    with one_sentence_errors():
        if command == "serve":
            serve()
            return
        run = {"run": run_here, "flow": _run_flow}[command]
        sys.exit(0 if run(**json.loads(*values)) else 1)


def _run_flow(overrides: list[str], stages: list[str], force: bool) -> bool:
    from flows.graph import read_graph, with_needed

    with_needed(read_graph(find_project()), stages)  # a misspelt stage shows before the server starts
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_API_AUTH_STRING,
        temporary_settings,
    )
    from rich.console import Console

    from flows.pipeline import partgen
    from flows.results import Outcome, summary

    # The embedded server ends with this process, so that nobody else need know its login.
    login = dict.fromkeys((PREFECT_API_AUTH_STRING, PREFECT_SERVER_API_AUTH_STRING), f"run:{secrets.token_hex(16)}")
    with temporary_settings({} if PREFECT_API_URL.value() else login):
        state = partgen(overrides=overrides, stages=stages, force=force, return_state=True)
    Console().print(summary(cast(list[Outcome], state.result(raise_on_failure=False))))
    if not state.is_completed():
        print(f"partgen: {state.message}", file=sys.stderr)
    return state.is_completed()


if __name__ == "__main__":
    main()
