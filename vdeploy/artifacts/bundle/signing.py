"""Signed bundles: an Ed25519 signature of the manifest, which holds the hash of every other file.

A pair of keys is made once:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out public.pem
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.artifacts.bundle.folder import MANIFEST, SIGNATURE, Bundle
from vdeploy.core.errors import BundleError
from vdeploy.core.files import write_json
from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNATURE", "check_signature", "open_signed", "sign_bundle"]

_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "make it with: openssl pkey -in key.pem -pubout -out public.pem"


def sign_bundle(bundle: Bundle, key: Path) -> Path:
    """Signs a bundle's manifest.

    Args:
        bundle: The bundle, all of whose files have just been checked.
        key: PEM file of an Ed25519 private key, not encrypted.

    Returns:
        The signature's file, beside the manifest.

    Raises:
        BundleError: The key cannot be used, or the bundle's folder cannot be written.
        MissingExtraError: The library for signatures is not installed.
    """
    private = _private_key(key)
    signature = private.sign((bundle.root / MANIFEST).read_bytes())
    file = bundle.root / SIGNATURE
    value = {
        "algorithm": "ed25519",
        "key": _fingerprint(private.public_key()),
        "signature": base64.b64encode(signature).decode("ascii"),
    }
    try:
        write_json(file, value)
    except OSError as error:
        raise BundleError(
            f"cannot write {file} ({error.strerror or error})", "make the bundle's folder writable"
        ) from error
    return file


def open_signed(folder: Path, key: Path | None) -> Bundle:
    """Opens a bundle and, where a key is given, checks that its owner has signed it.

    Args:
        folder: The bundle's folder.
        key: PEM file of the Ed25519 public key; `None` takes unsigned bundles.

    Raises:
        BundleError: The bundle is damaged, or the key has not signed it.
        MissingExtraError: The library for signatures is not installed.
    """
    bundle = Bundle(folder)
    if key is not None:
        check_signature(bundle, key)
    return bundle


def check_signature(bundle: Bundle, key: Path) -> str:
    """Checks that a bundle's manifest is what the owner of a key has signed.

    Args:
        bundle: The bundle, all of whose files have just been checked.
        key: PEM file of the Ed25519 public key.

    Returns:
        The key's fingerprint: SHA-256 of its raw bytes, in hex.

    Raises:
        BundleError: There is no signature, it is another key's, or the manifest has changed since.
        MissingExtraError: The library for signatures is not installed.
    """
    public = _public_key(key)
    exceptions: Any = _cryptography("cryptography.exceptions")
    file = bundle.root / SIGNATURE
    if not file.is_file():
        raise BundleError(
            f"{bundle.root} is not signed: it holds no {SIGNATURE}", "sign it: vdeploy bundle sign BUNDLE"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        signer, signature = str(values["key"]), base64.b64decode(values["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read as a signature ({error})", "sign the bundle again") from error
    fingerprint = _fingerprint(public)
    if signer != fingerprint:
        raise BundleError(
            f"{bundle.root} was signed with another key ({signer[:16]}) than {key} ({fingerprint[:16]})",
            "ask for the signer's public key, and do not trust this bundle before",
        )
    try:
        public.verify(signature, (bundle.root / MANIFEST).read_bytes())
    except exceptions.InvalidSignature as error:
        raise BundleError(
            f"{bundle.root / MANIFEST} has changed since it was signed", "do not trust this bundle"
        ) from error
    return fingerprint


def _private_key(path: Path) -> Ed25519PrivateKey:
    private: Ed25519PrivateKey = _load_key(path, "private", _MAKE_KEY, password=None)
    return private


def _public_key(path: Path) -> Ed25519PublicKey:
    public: Ed25519PublicKey = _load_key(path, "public", _MAKE_PUBLIC)
    return public


def _load_key(path: Path, kind: Literal["private", "public"], hint: str, **options: Any) -> Any:
    serialization: Any = _cryptography("cryptography.hazmat.primitives.serialization")
    ed25519: Any = _cryptography("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        key = getattr(serialization, f"load_pem_{kind}_key")(path.read_bytes(), **options)
    except OSError as error:
        raise BundleError(f"the key {path} cannot be read ({error.strerror})", hint) from error
    except TypeError as error:
        raise BundleError(f"the key {path} is encrypted", "decrypt it: openssl pkey -in KEY -out key.pem") from error
    except ValueError as error:
        raise BundleError(f"{path} is no {kind} key in PEM format", hint) from error
    if not isinstance(key, getattr(ed25519, f"Ed25519{kind.capitalize()}Key")):
        raise BundleError(f"the key {path} is not an Ed25519 key", hint)
    return key


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _cryptography(module: str) -> Any:
    return require(module, extra="sign", purpose="signing bundles")
