"""On how many processes of this machine a training runs: one a GPU, or as many as PARTGEN_PROCESSES says."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from accelerate.utils import check_cuda_p2p_ib_support
from torch.distributed import TCPStore

from pipeline.errors import UserError

HOST = "127.0.0.1"
LAUNCHER = "PARTGEN_LAUNCHER"
"""The variable that tells a process of a training who started it: a process id."""
LOOK_EVERY_S = 0.02
PR_SET_PDEATHSIG = 1


def launched(module: str, arguments: Sequence[str] = ()) -> bool:
    """Whether `python -m module arguments` has run, to its end, in several processes; False when this one is to train.

    When one of them fails, which it has reported, or this one ends, however it ends, so do all. UserError when
    PARTGEN_PROCESSES is no number, and when one was killed.
    """
    if "RANK" in os.environ:
        _end_with_launcher()
        return False
    processes = os.environ.get("PARTGEN_PROCESSES") or str(max(1, torch.cuda.device_count()))
    if not processes.isdecimal() or int(processes) < 1:
        raise UserError(f"PARTGEN_PROCESSES is {processes!r}; give a whole number of processes.")
    if int(processes) == 1:
        return False
    status = _run([sys.executable, "-m", module, *arguments], int(processes))
    if status < 0:
        raise UserError(
            f"One of the {processes} processes that train was ended by {signal.Signals(-status).name}, and the others "
            "with it; run it again, which goes on from the last checkpoint, where there is one."
        )
    if status:
        sys.exit(status)
    return True


def _run(command: Sequence[str], processes: int) -> int:
    """Run `command` that many times, each with its place among them; the exit status of the first that fails, or 0.

    They find each other through a store on a port of this machine alone, which this process keeps open from the start:
    no port is chosen that someone else may take meanwhile.
    """
    listening = socket.create_server((HOST, 0))
    port = listening.getsockname()[1]
    store = TCPStore(HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    places = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": HOST}
    places |= {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True", LAUNCHER: str(os.getpid())}
    defaults = {"OMP_NUM_THREADS": "1"}
    if not check_cuda_p2p_ib_support():  # a series of GPUs with an old driver, which accelerate refuses otherwise
        defaults |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    environment = {**defaults, **os.environ, **places}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            # In a session of its own, since Ctrl-C is this process's to hear.
            started.append(subprocess.Popen(command, env={**environment, **place}, start_new_session=True))
        while None in (statuses := [process.poll() for process in started]) and not any(statuses):
            time.sleep(LOOK_EVERY_S)
        return min((status for status in statuses if status), default=0)
    finally:
        # A training may be killed at any moment; all at once, since those that miss one would complain of it.
        for process in [process for process in started if process.poll() is None]:
            os.killpg(process.pid, signal.SIGKILL)
        for process in started:
            process.wait()


def _end_with_launcher() -> None:
    """Let this process end at once when the one that started it says so, or dies.

    It waits for the others in code that no Python handler of a signal interrupts.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(LAUNCHER, str(os.getppid())) != str(os.getppid()):  # it died before
        sys.exit(128 + signal.SIGTERM)
