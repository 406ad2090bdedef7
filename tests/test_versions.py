import pytest

from deepad.errors import IncompatibleInstallError
from deepad.versions import require_matching_torchvision


def pretend(folder, name, version, *requirements):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {line}" for line in requirements)]) + "\n")


def test_the_installed_pair_fits():
    require_matching_torchvision()


def test_a_torchvision_for_another_torch_is_named_with_its_cure(tmp_path, monkeypatch):
    pretend(tmp_path, "torch", "2.13.0")
    pretend(tmp_path, "torchvision", "0.29.1", "numpy", "torch==2.14.1")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IncompatibleInstallError, match=r"torchvision 0\.29\.1 needs torch==2\.14\.1.* torch 2\.13\.0"):
        require_matching_torchvision()


def test_a_local_build_of_the_right_torch_fits(tmp_path, monkeypatch):
    pretend(tmp_path, "torch", "2.14.1+cpu")
    pretend(tmp_path, "torchvision", "0.29.1", "torch==2.14.1")
    monkeypatch.syspath_prepend(tmp_path)
    require_matching_torchvision()
