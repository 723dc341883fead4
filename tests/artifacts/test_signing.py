"""Signed bundles: what the owner of a key has signed is told from everything else, each time in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.bundle.signing import SIGNATURE, check_signature, sign_bundle
from vdeploy.core.errors import BundleError

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SUBJECT = serialization.PublicFormat.SubjectPublicKeyInfo


def make_keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, SUBJECT))
    return private, public


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path)


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "bundle")


def line_of(call, *arguments) -> str:
    with pytest.raises(BundleError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_signed_bundle_is_known_by_its_key(bundle, keys):
    private, public = keys
    assert sign_bundle(bundle, private) == bundle.root / SIGNATURE
    fingerprint = check_signature(Bundle(bundle.root), public)
    assert len(fingerprint) == 64
    assert json.loads((bundle.root / SIGNATURE).read_text())["key"] == fingerprint


def test_signing_twice_gives_the_same_signature(bundle, keys):
    first = sign_bundle(bundle, keys[0]).read_bytes()
    assert sign_bundle(bundle, keys[0]).read_bytes() == first


def test_a_bundle_that_nobody_signed_is_told(bundle, keys):
    assert "is not signed: it holds no bundle.json.sig" in line_of(check_signature, bundle, keys[1])


def test_another_key_is_told(bundle, keys, tmp_path):
    sign_bundle(bundle, keys[0])
    _, other = make_keys(tmp_path, "other")
    assert "was signed with another key" in line_of(check_signature, bundle, other)


def test_a_manifest_that_was_changed_is_told(bundle, keys):
    sign_bundle(bundle, keys[0])
    manifest = bundle.root / MANIFEST
    manifest.write_text(manifest.read_text().replace('"threshold": 0.5', '"threshold": 0.9'))
    assert "has changed since it was signed" in line_of(check_signature, Bundle(bundle.root), keys[1])


def test_a_signature_under_a_borrowed_name_is_told(bundle, keys, tmp_path):
    sign_bundle(bundle, keys[0])
    honest = json.loads((bundle.root / SIGNATURE).read_text())
    forger, _ = make_keys(tmp_path, "forger")
    sign_bundle(bundle, forger)
    forged = json.loads((bundle.root / SIGNATURE).read_text())
    (bundle.root / SIGNATURE).write_text(json.dumps({**forged, "key": honest["key"]}))
    assert "has changed since it was signed" in line_of(check_signature, bundle, keys[1])


def test_a_changed_file_is_noticed_before_the_signature(bundle, keys):
    sign_bundle(bundle, keys[0])
    (bundle.root / "classifier" / "onnx-fp32" / "model.onnx").write_bytes(b"another model")
    assert "is not the file that was exported" in line_of(Bundle, bundle.root)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"key": "a", "signature": "?"}'])
def test_a_signature_that_cannot_be_read_is_told(bundle, keys, content):
    (bundle.root / SIGNATURE).write_text(content)
    assert "cannot be read as a signature" in line_of(check_signature, bundle, keys[1])


def test_keys_that_cannot_be_used_are_told(bundle, keys, tmp_path):
    private, public = keys
    encrypted, curve, curve_public = (tmp_path / name for name in ("encrypted.pem", "curve.pem", "curve.pub.pem"))
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, secret))
    other = ec.generate_private_key(ec.SECP256R1())
    curve.write_bytes(other.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    curve_public.write_bytes(other.public_key().public_bytes(PEM, SUBJECT))
    assert "cannot be read" in line_of(sign_bundle, bundle, tmp_path / "none.pem")
    assert "is no private key in PEM format; make one with: openssl" in line_of(sign_bundle, bundle, public)
    assert "is encrypted; decrypt it" in line_of(sign_bundle, bundle, encrypted)
    assert "is not an Ed25519 key" in line_of(sign_bundle, bundle, curve)
    assert "is no public key in PEM format" in line_of(check_signature, bundle, private)
    assert "is not an Ed25519 key" in line_of(check_signature, bundle, curve_public)
    assert not (bundle.root / SIGNATURE).exists()


def test_a_folder_that_cannot_be_written_is_told(bundle, keys):
    (bundle.root / SIGNATURE).mkdir()
    assert f"cannot write {bundle.root / SIGNATURE}" in line_of(sign_bundle, bundle, keys[0])
