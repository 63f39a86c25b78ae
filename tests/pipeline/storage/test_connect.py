"""What the clouds' own tools read is read here as well: variables, profiles, connection strings."""

from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import connect, storage
from pipeline.storage.retry import StoreError

pytestmark = pytest.mark.unit

KEY = "c2VjcmV0"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any of it."""
    for name in list(os.environ):
        if name.startswith(connect._PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("azure", "botocore", "google"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


def s3(**variables: str) -> tuple[dict[str, Any], Any]:
    return connect._s3("b", variables)


def test_aws_variables() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    found, provider = s3(**keys, AWS_ENDPOINT_URL="http://any", AWS_REGION="r1")
    assert (found, provider) == ({"endpoint": "http://any", "region": "r1"}, None)
    found, _ = s3(**keys, AWS_ENDPOINT_URL="http://any", AWS_ENDPOINT_URL_S3="http://s3", AWS_DEFAULT_REGION="r2",
                  AWS_REGION="r1")  # fmt: skip
    assert found == {"endpoint": "http://s3", "region": "r2"}


@pytest.fixture
def profiles(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n"
        "[night]\naws_access_key_id = n\naws_secret_access_key = ns\naws_session_token = nt\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-1\n[profile night]\nregion = eu-2\nendpoint_url = http://night\n"
    )


def test_aws_profiles(profiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    found, provide = s3()
    assert found == {"endpoint": None, "region": "eu-1"}
    assert provide()["access_key_id"] == "d"
    monkeypatch.setenv("AWS_PROFILE", "night")
    found, provide = s3(AWS_PROFILE="night")
    assert found == {"endpoint": "http://night", "region": "eu-2"}
    keys = provide()
    assert (keys["access_key_id"], keys["secret_access_key"], keys["token"]) == ("n", "ns", "nt")
    assert keys["expires_at"].tzinfo is not None
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(StoreError, match=r"^s3://b: cannot be used: .*profile \(none\) could not be found") as error:
        storage.read_bytes("s3://b/k")
    assert "\n" not in str(error.value)


def test_aws_profiles_without_their_library(profiles: None, without_libraries: None) -> None:
    with pytest.raises(StoreError, match=r"credentials: an AWS profile, .* `pip install 'pairstream\[s3\]'` brings"):
        s3()
    assert s3(AWS_ACCESS_KEY_ID="a")[1] is None


def test_aws_roles_are_obstores_own_affair(without_libraries: None) -> None:
    assert s3() == ({"endpoint": None, "region": None}, None)


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "127.0.0.1:1"])
def test_googles_emulator(host: str) -> None:
    found, provide = connect._gcs("b", {"STORAGE_EMULATOR_HOST": host})
    assert found == {"base_url": "http://127.0.0.1:1"}
    assert provide is not None


def test_googles_credentials_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = pytest.importorskip("google.oauth2.credentials")
    kind = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "key.json").write_text(json.dumps(kind))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/key.json")

    def refresh(self: Any, request: Any) -> None:
        self.token = "fresh"

    monkeypatch.setattr(credentials.Credentials, "refresh", refresh)
    found, provide = connect._gcs("b", dict(os.environ))
    assert provide is not None
    assert (found, provide()["token"]) == ({}, "fresh")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")
    with pytest.raises(StoreError, match=r"^gs://b: cannot be used: .*none\.json"):
        storage.read_bytes("gs://b/k")


def azure(container: str = "c", **variables: str) -> dict[str, Any]:
    found, _ = connect._azure(container, {f"AZURE_STORAGE_{name}": value for name, value in variables.items()})
    return {name: value for name, value in found.items() if value}


def test_azures_variables() -> None:
    assert azure(ACCOUNT="a", KEY=KEY) == {"account_name": "a", "account_key": KEY}
    assert azure(ACCOUNT_NAME="a", SAS_TOKEN="sp=r") == {"account_name": "a", "sas_key": "sp=r"}
    assert azure(CONNECTION_STRING="UseDevelopmentStorage=true") == {"use_emulator": True}
    assert azure(USE_EMULATOR="True") == {"use_emulator": True}


def test_azures_connection_string() -> None:
    said = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY}==;EndpointSuffix=core.example.net"
    assert azure(CONNECTION_STRING=said) == {
        "account_name": "a", "account_key": f"{KEY}==", "endpoint": "https://a.blob.core.example.net",
    }  # fmt: skip
    said = "BlobEndpoint=http://127.0.0.1:1/a;SharedAccessSignature=sv=1&sig=x%3D;AccountName=a"
    assert azure(CONNECTION_STRING=said) == {
        "account_name": "a", "sas_key": "sv=1&sig=x%3D", "endpoint": "http://127.0.0.1:1/a",
    }  # fmt: skip


def test_an_account_in_the_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    assert azure("c@one.dfs.core.windows.net", ACCOUNT="other", KEY=KEY) == {
        "account_name": "one", "account_key": KEY, "endpoint": "https://one.blob.core.windows.net",
    }  # fmt: skip
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    store = connect.connect("abfss", "c@one.dfs.core.windows.net", "read")
    assert (store.config["account_name"], store.config["container_name"]) == ("one", "c")


def test_who_signed_in_at_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = pytest.importorskip("azure.identity")

    class Signed:
        def get_token(self, scope: str) -> Any:
            return type("Token", (), {"token": f"for {scope}"})

    monkeypatch.setattr(identity, "DefaultAzureCredential", Signed)
    _, provide = connect._azure("c", {"AZURE_STORAGE_ACCOUNT": "a"})
    assert provide is not None
    assert provide()["token"] == "for https://storage.azure.com/.default"


def test_no_account_at_all_is_one_line(without_libraries: None) -> None:
    with pytest.raises(StoreError, match=r"^az://c: cannot be used: .*Account must be specified") as error:
        storage.read_bytes("az://c/k")
    assert "\n" not in str(error.value)


def test_a_store_is_made_once_for_each_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    first = connect.connect("s3", "b", "read")
    assert connect.connect("s3", "b", "read") is first
    assert connect.connect("s3", "b", "write") is not first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert connect.connect("s3", "b", "read") is not first


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_authority_of_ones_own(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE" if scheme == "s3" else "REQUESTS_CA_BUNDLE", f"{tmp_path}/none.pem")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(StoreError, match=rf"^{scheme}://b: cannot be used: .*none\.pem"):
        storage.read_bytes(f"{scheme}://b/k")
