"""What deepad refuses, by name. Every message says what arrived, what is accepted and what to do.

Argument errors are `ValueError` as well, so generic callers (scikit-learn, Lightning) can catch them as usual.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DeepadError(Exception):
    """Base of every error deepad raises on purpose: the command line prints it as one line and exits with 1."""


class InputError(DeepadError, ValueError):
    """Data that cannot be used as it arrived: shape, type, NaN, an unreadable or missing file."""


class DataLeakError(DeepadError, ValueError):
    """Rows that trained or selected a model were offered for calibration."""


class LearningError(DeepadError, RuntimeError):
    """Training ended without a usable model: untouched weights, constant scores or a loss that is not finite."""


class NotFittedError(DeepadError, ValueError, AttributeError):
    """Something was asked of a model that has not been trained."""


class NonFiniteScoreError(DeepadError, ValueError):
    """A calibration score is NaN or infinite."""


class InsufficientCalibrationError(DeepadError, ValueError):
    """The level asked for cannot be guaranteed from this many calibration scores.

    Attributes:
        n: calibration scores at hand.
        needed: the smallest number that would do.
        options: what could be done instead, in words, the best first.
    """

    def __init__(self, message: str, *, n: int, needed: int, options: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.n = n
        self.needed = needed
        self.options = options


class TailFitError(DeepadError, ValueError):
    """A tail beyond the calibration scores cannot be extrapolated.

    Attributes:
        reasons: what speaks against it, in words.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...]) -> None:
        super().__init__(message)
        self.reasons = reasons


class ResolutionError(DeepadError, ValueError):
    """A decision was asked for that p-values of so few calibration scores can never make."""


class CalibrationMismatchError(DeepadError, ValueError):
    """A calibration made from one scorer was put beside another."""


class ArtifactError(DeepadError, ValueError):
    """A saved artifact was not loaded."""


class ArtifactCorruptError(ArtifactError):
    """Truncated, altered or malformed."""


class ArtifactVersionError(ArtifactError):
    """Written by a newer schema than this version reads."""


class ArtifactUnsafeError(ArtifactError):
    """A format that can carry code (pickle, joblib, a zip of pickles), a link, or a path that leaves the folder."""


class IncompatibleInstallError(DeepadError, ImportError):
    """Installed packages that do not fit each other, or an optional one that is missing."""


def visible(text: str, *, keep: str = "") -> str:
    """Text that cannot steer a terminal: what is not printable, but for what is kept, becomes a question mark."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)


def reason_of(error: Exception) -> str:
    """The first line of what a library says, or the name of its error."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def raising_once(error: Callable[[], BaseException]) -> Callable[..., None]:
    """A signal handler that raises the first time: one more signal does not break off the cleaning."""
    asked = False

    def handler(*_: object) -> None:
        nonlocal asked
        if not asked:
            asked = True  # not SIG_IGN: the Trainer puts this handler back when it is broken off
            raise error()

    return handler


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Say of which file or recording something is refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
