"""`vdeploy bundle`: show, verify and sign bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vdeploy.cli.options import JsonOption, print_json, print_line, print_next, print_table

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder.")]

app = typer.Typer(help="Show, verify and sign bundles.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def show(bundle: BundleArgument, json: JsonOption = False) -> None:
    """Check every file's hash and print the content of a bundle."""
    from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  keeps --help fast

    manifest = Bundle(bundle).manifest
    if json:
        print_json(manifest.model_dump(mode="json"))
        return
    models = f"{manifest.extractor.architecture} + {manifest.classifier.architecture}"
    title = f"{manifest.run}: {models}, threshold {manifest.threshold:.3g}, {manifest.created}"
    rows = [
        (
            artifact.stage,
            artifact.format,
            artifact.precision,
            f"{artifact.bytes / 1e6:.1f}",
            f"{artifact.parity.max_rel:.1e}",
            artifact.sha256[:16],
        )
        for artifact in manifest.artifacts
    ]
    print_table(("stage", "format", "found", "MB", "relative diff", "sha256"), rows, title=title)


@app.command("verify")
def verify(
    bundle: BundleArgument,
    key: Annotated[Path | None, typer.Option(help="PEM file of the signer's Ed25519 public key.")] = None,
    json: JsonOption = False,
) -> None:
    """Check every file's hash and, with --key, the signature."""
    from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.artifacts.bundle.signing import SIGNATURE, check_signature  # noqa: PLC0415  keeps --help fast

    opened = Bundle(bundle)
    signer = None if key is None else check_signature(opened, key)
    manifest = opened.manifest
    files = len(manifest.artifacts) + len(manifest.documents)
    if json:
        print_json({"bundle": str(bundle), "files": files, "signer": signer})
        return
    print_line(f"{bundle}: {files} files are what was exported from {manifest.run}")
    if signer is not None:
        print_line(f"signed by the key {signer}")
    elif (bundle / SIGNATURE).exists():
        print_line("signed; the signer was not checked")
        print_next("bundle", "verify", bundle, "--key", "PUBLIC_KEY")


@app.command("sign")
def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="PEM file of an Ed25519 private key: openssl genpkey -algorithm ed25519.")],
) -> None:
    """Sign a bundle's manifest, which holds the hash of every file."""
    from vdeploy.artifacts.bundle import Bundle  # noqa: PLC0415  keeps --help fast
    from vdeploy.artifacts.bundle.signing import sign_bundle  # noqa: PLC0415  keeps --help fast

    file = sign_bundle(Bundle(bundle), key)
    print_line(f"signature: {file}")
    print_next("bundle", "verify", bundle, "--key", "PUBLIC_KEY")
