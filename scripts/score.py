"""Score an array with a saved scorer, without anything of its training.

python scripts/score.py --scorer runs/digits-scorer --input digits.npy
"""

import argparse

import numpy as np

from deepad import Scorer


def main(scorer: str, input: str, alpha: float | None) -> None:
    """Print the ten samples a normal source would be least likely to give."""
    judge = Scorer.load(scorer)
    verdict = judge(np.load(input, allow_pickle=False), alpha=alpha)
    print(f"{verdict.flagged.sum()} of {len(verdict)} flagged; {verdict.guarantee}")
    for row in np.argsort(-verdict.score)[:10]:
        print(f"row {row}: score {verdict.score[row]:.4g}, p-value {verdict.p_value[row]:.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", default="runs/digits-scorer")
    parser.add_argument("--input", required=True)
    parser.add_argument("--alpha", type=float)
    main(**vars(parser.parse_args()))
