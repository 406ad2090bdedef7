"""Installed packages that must fit each other, checked before the import that would fail without saying why.

Each torchvision build needs one exact torch. With any other, `import pytorch_lightning` ends in a traceback about an
unknown operator, because it imports torchvision wherever it is installed.
"""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from deepad.errors import IncompatibleInstallError


def require_matching_torchvision() -> None:
    """Compare the installed torch with the one that the installed torchvision was built for.

    Raises:
        IncompatibleInstallError: they do not match; the message names both and the line that mends it.
    """
    try:
        ours, theirs = version("torch"), version("torchvision")
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, requires("torchvision") or []):
        if requirement.name == "torch" and not requirement.specifier.contains(ours, prereleases=True):
            raise IncompatibleInstallError(
                f"torchvision {theirs} needs torch{requirement.specifier}, but torch {ours} is installed: "
                f"pip install 'torch{requirement.specifier}' 'torchvision=={theirs}', or pip uninstall torchvision"
            )
