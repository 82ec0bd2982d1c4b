"""One thin module a DVC stage, and the command line `partgen`."""

import os
import sys

from stages.interrupt import last_word

# One thread a process, set before torch is imported: OpenMP's threads wait for one another by spinning, which makes a
# process some thirty times slower beside other work (benchmarks/threads.py), and sums depend on how many there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The modules of a stage take seconds to import, and Ctrl-C may come before `stages.entry` is there to tell it.
sys.excepthook = last_word
