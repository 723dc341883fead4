"""A bundle on disk: opened only if every file in it is what the manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from vdeploy.artifacts.bundle.manifest import SCHEMA_VERSION, Artifact, Manifest, Stage
from vdeploy.artifacts.bundle.versions import upgraded
from vdeploy.artifacts.file_headers.onnx_external import has_external_data
from vdeploy.core.errors import BundleError
from vdeploy.core.files import sha256_of
from vdeploy.core.locks import settle_folder

__all__ = ["MANIFEST", "SIGNATURE", "Bundle", "digest_of", "size_of"]

MANIFEST = "bundle.json"
SIGNATURE = f"{MANIFEST}.sig"


class Bundle:
    """A verified bundle on disk.

    Args:
        root: Its folder.

    Attributes:
        root: Its folder.
        manifest: What it holds.

    Raises:
        BundleError: The folder is no bundle, is of a newer major version, or a file is not what the manifest says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        settle_folder(root)
        self.manifest = self._read()
        self._verify()

    def artifact(self, stage: Stage, format_name: str) -> Artifact:
        """Finds the artifact of a stage in a format.

        Raises:
            BundleError: The bundle does not hold it.
        """
        for artifact in self.manifest.artifacts:
            if artifact.stage == stage and artifact.format == format_name:
                return artifact
        held = sorted({artifact.format for artifact in self.manifest.artifacts if artifact.stage == stage})
        raise BundleError(
            f"{self.root} holds no {stage} in {format_name}, only in {', '.join(held) or 'no format'}",
            f"choose one of these, or export the run {self.manifest.run} again with --format {format_name}",
        )

    def path(self, artifact: Artifact) -> Path:
        """The file or folder of an artifact."""
        return self.root / artifact.path

    def _read(self) -> Manifest:
        file = self.root / MANIFEST
        if not file.is_file():
            raise BundleError(f"{self.root} is no bundle: it holds no {MANIFEST}", "make one with: vdeploy export RUN")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            version = str(values["schema_version"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"{file} cannot be read ({error})", "export the run again") from error
        if _major(version) not in {"1", _major(SCHEMA_VERSION)}:
            raise BundleError(
                f"{file} has schema version {version}, this vdeploy reads {SCHEMA_VERSION}",
                "use the vdeploy that wrote it, or export the run again",
            )
        try:
            manifest = upgraded(values) if _major(version) == "1" else Manifest.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{file}: {where}: {first['msg']}", "export the run again") from error
        if [stage.id for stage in manifest.stages] != ["extractor", "classifier"]:
            raise BundleError(f"{file}: the stages are not an extractor and a classifier", "export the run again")
        return manifest

    def _verify(self) -> None:
        for artifact in self.manifest.artifacts:
            self._check(artifact.path, artifact.sha256)
            if artifact.path.endswith(".onnx") and has_external_data(self.root / artifact.path):
                raise BundleError(
                    f"{self.root / artifact.path} takes weights from another file, which no hash covers",
                    "do not trust this bundle",
                )
        for path, sha256 in self.manifest.documents.items():
            self._check(path, sha256)
        self._refuse_unlisted()

    def _refuse_unlisted(self) -> None:
        """Refuses files that the manifest does not list, and links, whose targets may change: no hash covers them."""
        listed = {MANIFEST, SIGNATURE, *self.manifest.documents}
        artifacts = {artifact.path for artifact in self.manifest.artifacts}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root)
            if path.is_symlink():
                raise BundleError(f"{path} is a link, not a file of the bundle", "copy the file that it leads to")
            folders = {parent.as_posix() for parent in (name, *name.parents)}
            if path.is_file() and name.as_posix() not in listed and not folders & artifacts:
                raise BundleError(
                    f"{path} is not a file of the bundle: {MANIFEST} does not list it",
                    "remove it, or do not trust this bundle",
                )

    def _check(self, path: str, sha256: str) -> None:
        file = self.root / path
        if not file.resolve().is_relative_to(self.root.resolve()):
            outside = f"{self.root / MANIFEST} names a file outside the bundle: {path}"
            raise BundleError(outside, "do not trust this bundle")
        if not file.exists():
            raise BundleError(f"{file} is missing from the bundle", "export the run again")
        if digest_of(file) != sha256:
            raise BundleError(
                f"{file} is not the file that was exported: its SHA-256 differs from {MANIFEST}",
                "export the run again",
            )


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, SHA-256 of a line ``HASH  PATH`` for each file in it, sorted by path."""
    if path.is_file():
        return sha256_of(path)
    lines = [
        f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n"
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _major(version: str) -> str:
    return version.partition(".")[0]
