"""SHA-256 of every file of a version, recorded when it is written and checked before it is served.

    <root>/violence_detector/deployments/<version>/files.sha256      a line a file, as sha256sum(1) reads it in <root>

A version that vdeploy 0.1 wrote has none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import sha256_of, write_text
from vdeploy.triton.names import DEPLOYMENTS

__all__ = ["HASHES", "check_hashes", "read_hashes", "render_hashes", "write_hashes"]

HASHES = "files.sha256"

_BYTECODE = "__pycache__"
_REMEDY = "put its bundle into service again: vdeploy deploy BUNDLE, or vdeploy serve BUNDLE"


def render_hashes(version: int, hashes: Mapping[str, Mapping[str, str]]) -> str:
    """Text of the note.

    Args:
        version: The version.
        hashes: SHA-256 in hex by file name, by model.
    """
    return "".join(
        f"{sha256}  {model}/{version}/{name}\n"
        for model, files in sorted(hashes.items())
        for name, sha256 in sorted(files.items())
    )


def write_hashes(root: Path, version: int, hashes: Mapping[str, Mapping[str, str]]) -> None:
    """Notes the hashes of a version, unless that has been done; see `render_hashes`."""
    file, text = _file(root, version), render_hashes(version, hashes)
    if not file.is_file() or file.read_bytes() != text.encode():
        write_text(file, text)


def read_hashes(root: Path, version: int) -> dict[str, dict[str, str]] | None:
    """The hashes of a version's files by model and name; `None` where none are recorded.

    Raises:
        RepositoryError: The note cannot be read.
    """
    file = _file(root, version)
    if not file.is_file():
        return None
    found: dict[str, dict[str, str]] = {}
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            sha256, _, path = line.partition("  ")
            model, number, name = path.split("/")
            if int(number) != version or len(sha256) != 64:
                raise ValueError(line)
            found.setdefault(model, {})[name] = sha256
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{file} cannot be read ({error})", _REMEDY) from error
    return found


def check_hashes(root: Path, version: int, models: Iterable[str]) -> bool:
    """Checks that the files of a version are those that were written, and that there are no others.

    Args:
        root: The repository.
        version: The version.
        models: The models that are served.

    Returns:
        Whether hashes are recorded, so that they could be checked.

    Raises:
        RepositoryError: A file is missing, is another one, or does not belong there.
    """
    hashes = read_hashes(root, version)
    if hashes is None:
        return False
    for model in models:
        folder, noted = root / model / str(version), hashes.get(model, {})
        shutil.rmtree(folder / _BYTECODE, ignore_errors=True)  # Python may make it again, from code that is checked
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if not file.is_dir() and name not in noted:
                raise RepositoryError(
                    f"{file} does not belong to version {version}: no hash of it is recorded", _REMEDY
                )
        for name, sha256 in noted.items():
            file = folder / name
            if not file.is_file():
                raise RepositoryError(f"{file} is missing from the model repository", _REMEDY)
            if sha256_of(file) != sha256:
                raise RepositoryError(f"{file} is not the file that was written: its SHA-256 differs", _REMEDY)
    return True


def _file(root: Path, version: int) -> Path:
    return root / DEPLOYMENTS / str(version) / HASHES
