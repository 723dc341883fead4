"""The cameras that clients may have watched: their names and addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vdeploy.core.errors import GatewayError
from vdeploy.live.addresses import shown_address
from vdeploy.live.source import parse_source

__all__ = ["read_cameras"]

_EXAMPLE = "door=rtsp://10.0.0.7/main"


def read_cameras(pairs: Iterable[str], file: Path | None = None) -> dict[str, str]:
    """Read cameras from arguments and from a file.

    Args:
        pairs: ``NAME=URL`` each.
        file: One ``NAME=URL`` per line; empty lines and lines that begin with ``#`` are ignored.

    Returns:
        Addresses, or absolute paths of files and devices, by name.

    Raises:
        GatewayError: An entry is not ``NAME=URL``, a name occurs twice, or the file cannot be read.
        UserError: An address is malformed, or a file does not exist.
    """
    cameras: dict[str, str] = {}
    given = [("--camera", pair) for pair in pairs]
    for place, pair in [*given, *(_lines(file) if file else ())]:
        name, separator, address = (part.strip() for part in pair.partition("="))
        if not (separator and name and address) or not name.isprintable() or "/" in name:
            raise GatewayError(f"{place} {shown_address(pair)} is not NAME=URL", f"for example: {_EXAMPLE}")
        if name in cameras:
            raise GatewayError(f"{place}: there are two cameras named {name}", "give each a name of its own")
        cameras[name] = parse_source(address).target
    return cameras


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise GatewayError(f"{file} cannot be read ({error.strerror})", "check its path and permissions") from error
    except UnicodeDecodeError as error:
        raise GatewayError(f"{file} is not UTF-8", f"write one camera per line: {_EXAMPLE}") from error
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{file}:{number}:", line
