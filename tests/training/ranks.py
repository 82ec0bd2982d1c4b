"""A small training on several processes of this machine: what launches them, and each of them.

PARTGEN_PROCESSES=2 python -m tests.training.ranks FOLDER STEPS [SPOILT]
"""

import sys
from pathlib import Path

from pipeline.training.launch import launched
from stages.entry import one_sentence_errors

if __name__ == "__main__":
    with one_sentence_errors():
        if not launched("tests.training.ranks", sys.argv[1:]):
            from tests.training.regression import Regression, Samples, run, schedule  # which the launcher does not need

            place, number, *sample = sys.argv[1:]
            samples = Samples(spoilt=int(sample[0]) if sample else None)
            run(Path(place), Regression(samples), schedule(steps=int(number)), checkpoint_every=1)
