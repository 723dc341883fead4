"""Complete the package's metadata: links to the repository, and a README that a package index can show.

The address of the repository is taken from the CI job that builds (GitHub Actions, GitLab), from
``VDEPLOY_REPOSITORY_URL``, or from the remote ``origin`` of the checkout. Everything else is in pyproject.toml.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
INDEX = "https://pypi.org/project/vdeploy/"


def repository_url() -> str | None:
    """Return the https address of the repository, or ``None`` where it is unknown."""
    env = os.environ
    if url := env.get("VDEPLOY_REPOSITORY_URL") or env.get("CI_PROJECT_URL"):
        return url.rstrip("/")
    if env.get("GITHUB_REPOSITORY"):
        return f"{env.get('GITHUB_SERVER_URL', 'https://github.com')}/{env['GITHUB_REPOSITORY']}"
    if not (ROOT / ".git").exists():
        return None
    remote = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    found = subprocess.run(remote, capture_output=True, text=True, check=False).stdout.strip()
    match = re.fullmatch(r"(?:https://|git@|ssh://git@)(?:[^@/]*@)?([\w.-]+)[:/](.+?)(?:\.git)?/?", found)
    return f"https://{match[1]}/{match[2]}" if match else None


def project_urls(repository: str | None) -> dict[str, str]:
    """Return the links that a package index shows beside the description."""
    if repository is None:
        return {"Homepage": INDEX}
    return {
        "Homepage": repository,
        "Documentation": f"{repository}/blob/HEAD/docs/index.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Source": repository,
        "Issues": f"{repository}/issues",
    }


def description(readme: str, repository: str | None) -> str:
    """Return a README whose links work outside the repository.

    Args:
        readme: Markdown with links relative to the root of the repository.
        repository: Address that the links are made absolute with; where it is unknown, pictures are left out and links
            become their text.
    """

    def replace(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if target.startswith(("http://", "https://", "#")):
            return match[0]
        if repository is None:
            return "" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", replace, readme)


if __name__ == "__main__":
    REPOSITORY = repository_url()
    setup(
        long_description=description((ROOT / "README.md").read_text(encoding="utf-8"), REPOSITORY),
        long_description_content_type="text/markdown",
        project_urls=project_urls(REPOSITORY),
    )
