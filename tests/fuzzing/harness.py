"""What the fuzzers share: libFuzzer for so many seconds, with limits, from a corpus that is made anew.

It ends with the number of executions and status 0, or at the first crash, hang or excess of memory with another; the
input that did it is kept in a folder that is printed.
"""

import os
import sys
import tempfile
import traceback
import warnings
from argparse import ArgumentParser
from pathlib import Path

import atheris

sys.path += [str(Path(__file__).parents[1] / "faults")]
HANG, MEMORY, LARGEST = 10, 4096, 1 << 18
"""Seconds until an input that does not end is given up, MiB of the whole process, and bytes of an input. That one takes
more than a second of work, or memory out of proportion to it, is found by `budget.bounded`, which is finer."""


TRIALS = 3
"""How often an input must take too much before it counts."""


def fuzz(target, mutate, corpus):
    """Run until the seconds of the command line are over.

    Args:
        target: takes bytes, and raises for a defect.
        mutate: bytes from bytes, the most bytes and a `random.Random`.
        corpus: inputs to begin with, by name.
    """
    parser = ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0 for another one each time")
    parser.add_argument("inputs", nargs="*", help="inputs to run again, instead of looking for more")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="deepad-fuzz-"))
    (folder / "corpus").mkdir()
    for name, data in corpus.items():
        (folder / "corpus" / name).write_bytes(data)
        target(data)  # what is imported at the first use is not the fault of an input
    print(f"{len(corpus)} inputs to begin with; one that fails is kept in {folder}", flush=True)
    limits = [f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}", f"-malloc_limit_mb={MEMORY // 2}", f"-max_len={LARGEST}"]
    run = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", f"-artifact_prefix={folder}{os.sep}"]
    quiet = ["-verbosity=0", "-print_final_stats=1", "-reload=0", "-len_control=0"]
    arguments = [sys.argv[0], *limits, *run, *quiet, *(options.inputs or [str(folder / "corpus")])]
    atheris.Setup(arguments, _keeping(target, folder), custom_mutator=mutate)
    atheris.Fuzz()


def _keeping(target, folder):
    """The target; an input at which it raises is kept, and ends the process at once."""

    def kept(data):
        try:
            for trial in range(TRIALS):
                try:
                    return target(data)
                except AssertionError:  # an allocator may have taken memory for what came before
                    if trial == TRIALS - 1:
                        raise
        except BaseException:
            traceback.print_exc()
            (folder / "crash").write_bytes(data)
            print(
                f"{folder / 'crash'} is the input: give it to this script to run it again", file=sys.stderr, flush=True
            )
            os._exit(1)

    return kept
