"""Fetches programs and a small root file system from Debian's archive without installing them on this machine.

Whence and how comes from this machine's own apt configuration. What was fetched stays in the cache.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vdeploy.core.files import cache_dir, publish_folder, staging_folder

__all__ = ["Unavailable", "fetch_packages", "make_root_file_system"]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES = ("bookworm", "trixie")
FETCH_TIMEOUT_SECONDS = 240


class Unavailable(Exception):
    """What a test needs cannot be had on this machine; the message is the reason to skip it."""


def fetch_packages(name: str, packages: Sequence[str]) -> Path:
    """Unpacks Debian packages side by side, once.

    Args:
        name: Of the folder in the cache.
        packages: `PACKAGE/SUITE`; dependencies are not followed.

    Returns:
        The folder with `usr/` in it.

    Raises:
        Unavailable: They cannot be fetched here.
    """
    final = cache_dir() / "debian" / name
    wanted = "\n".join(packages)
    marker = final / "packages.txt"
    if marker.is_file() and marker.read_text() == wanted:
        return final
    with staging_folder(final) as staged, tempfile.TemporaryDirectory() as work:
        environment = _apt(Path(work))
        downloads = Path(work, "debs")
        downloads.mkdir()
        _run(["apt-get", "update", "-qq"], environment)
        _run(["apt-get", "download", "-qq", *packages], environment, cwd=downloads)
        for file in sorted(downloads.glob("*.deb")):
            _run(["dpkg", "-x", str(file), str(staged)], environment)
        (staged / "packages.txt").write_text(wanted)
        publish_folder(staged, final)
    return final


def make_root_file_system(packages: Sequence[str]) -> Path:
    """Makes a minimal Debian 12 with some packages as a tar file, once.

    Raises:
        Unavailable: It cannot be made here.
    """
    final = cache_dir() / "debian" / f"bookworm-{'-'.join(packages)}"
    if not final.is_dir():
        programs = fetch_packages("mmdebstrap", ["mmdebstrap/bookworm"]) / "usr" / "bin"
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
        command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
        with staging_folder(final) as staged:
            command += [f"--keyring={KEYRING}", "bookworm", str(staged / "root.tar"), f"deb {_archive()} bookworm main"]
            _run(command, os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"})
            publish_folder(staged, final)
    return final / "root.tar"


def _apt(work: Path) -> dict[str, str]:
    """An environment in which apt reads both suites and writes below `work`."""
    lists, cache, parts = work / "lists", work / "cache", work / "parts"
    for folder in (lists / "partial", cache / "archives" / "partial", parts):
        folder.mkdir(parents=True)
    lines = (f"deb [signed-by={KEYRING}] {_archive()} {suite} main\n" for suite in SUITES)
    (work / "sources.list").write_text("".join(lines))
    (work / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{work}/sources.list";\nDir::Etc::SourceParts "{parts}";\nDir::State::Lists "{lists}";\n'
        f'Dir::Cache "{cache}";\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\n'
    )
    return os.environ | {"APT_CONFIG": str(work / "apt.conf")}


def _archive() -> str:
    """Where this machine's apt gets Debian itself from."""
    if not KEYRING.is_file():
        raise Unavailable(f"this is no Debian: {KEYRING} is missing")
    listing = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], dict(os.environ))
    for uri in listing.split():
        if urlsplit(uri).path.rstrip("/").endswith("/debian"):
            return uri
    raise Unavailable("apt has no Debian archive among its sources")


def _run(command: list[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"{' '.join(command[:2])}: {lines[-1] if lines else 'no reason given'}")
    return done.stdout
