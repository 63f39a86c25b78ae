"""Connections to object stores by obstore, set up from what the clouds' own tools read: variables, profiles, roles."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from importlib import metadata
from typing import Any

from pipeline.storage.retry import ATTEMPTS, GIVE_UP_S, LONGEST_WAIT_S, StoreError, short_text, wait_s

SCHEMES = {"s3": "S3Store", "gs": "GCSStore", "gcs": "GCSStore", "az": "AzureStore", "abfs": "AzureStore",
           "abfss": "AzureStore"}  # fmt: skip

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0  # a store that is silent for longer is asked again
_WRITE_SILENCE = 4  # times READ_SECONDS: a store says nothing while a body is sent to it
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_HOST", "REQUESTS_CA_BUNDLE")
_TOKEN_TIME = timedelta(minutes=5)  # until a key or token is asked for again; the clouds' libraries renew theirs

Store = Any  # obstore's classes and modules have types that only its compiled part knows
Credentials = Callable[[], dict[str, object]]
Settings = tuple[Mapping[str, object], Credentials | None]  # of a store, and what gives it its keys


def connect(scheme: str, bucket: str, purpose: str) -> Store:
    """Return obstore's store of a bucket, kept for the next time.

    Args:
        scheme: one of SCHEMES.
        bucket: its name; that of a container of Azure's may have its account's host after an @.
        purpose: "read", "write", or "parts": a large write, whose requests obstore repeats, each by itself.

    Raises:
        StoreError: what the environment says cannot be used.
    """
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_PREFIXES)))
    silence = READ_SECONDS if purpose == "read" else _WRITE_SILENCE * READ_SECONDS
    return _connect(os.getpid(), scheme, bucket, purpose, environment, CONNECT_SECONDS, silence)


@functools.lru_cache(maxsize=64)
def _connect(
    _process: int, scheme: str, bucket: str, purpose: str, environment: tuple[tuple[str, str], ...],
    connect_s: float, silence_s: float,
) -> Store:  # fmt: skip
    kind, variables = SCHEMES[scheme], dict(environment)
    options: dict[str, object] = {
        "connect_timeout": timedelta(seconds=connect_s), "read_timeout": timedelta(seconds=silence_s),
        "timeout": timedelta(days=1),  # what is slow may take its time
    }  # fmt: skip
    if kind == "GCSStore" and purpose == "read":  # else Google unpacks what is stored as gzip, without any ranges
        options["default_headers"] = {"accept-encoding": "gzip"}
    try:
        if bundle := variables.get("AWS_CA_BUNDLE" if kind == "S3Store" else "REQUESTS_CA_BUNDLE"):
            with open(bundle, "rb") as file:
                options["root_certificate"] = file.read()
        if metadata.version("obstore").startswith("0.10."):  # Python 3.10's last one limits the whole alone
            options["timeout"] = timedelta(seconds=_WRITE_SILENCE * silence_s)
            for name in ("read_timeout", "root_certificate"):
                options.pop(name, None)
        config, provider = {"S3Store": _s3, "GCSStore": _gcs, "AzureStore": _azure}[kind](bucket, variables)
        options["allow_http"] = not str(config.get("endpoint") or config.get("base_url") or "").startswith("https://")
        return getattr(library()._store, kind)(
            bucket.partition("@")[0], config={key: value for key, value in config.items() if value},
            client_options=options, retry_config=_repeats(purpose == "parts"), credential_provider=provider,
        )  # fmt: skip
    except StoreError:
        raise
    except Exception as error:  # obstore's and the clouds' libraries' own, of many kinds
        raise StoreError(f"{scheme}://{bucket}: cannot be used: {short_text(error)}") from None


def _repeats(in_parts: bool) -> dict[str, object]:
    """Say how often obstore itself repeats a request: never, but for parts of large writes; `retry` does the rest."""
    if not in_parts:
        return {"max_retries": 0}
    waits = {
        "init_backoff": timedelta(seconds=max(0.001, wait_s("", 0))),
        "max_backoff": timedelta(seconds=LONGEST_WAIT_S),
    }
    return {"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(seconds=GIVE_UP_S), "backoff": waits}


_loading = threading.Lock()
_first_process: list[int] = []


def _unlock() -> None:
    global _loading
    _loading = threading.Lock()  # the parent's may have been held by a thread that the child has not


os.register_at_fork(after_in_child=_unlock)


def library() -> Store:
    """Return obstore's compiled module; a process that was forked, as PyTorch's loaders are, gets a copy of its own.

    obstore's threads stay in the parent, and the child would always wait for them. A module that is loaded
    from another file starts its own.
    """
    with _loading:
        return _load(os.getpid())


@functools.lru_cache(maxsize=1)
def _load(process: int) -> Store:
    import obstore._obstore as compiled

    _first_process.append(process)
    if _first_process[0] == process:
        return compiled
    if not hasattr(os, "memfd_create"):
        raise StoreError("object store: found a process that was forked, expected multiprocessing_context='spawn'")
    copy = os.memfd_create("obstore")
    with open(compiled.__file__, "rb") as source, open(copy, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target)
    loader = importlib.machinery.ExtensionFileLoader(compiled.__name__, f"/proc/self/fd/{copy}")
    spec = importlib.util.spec_from_file_location(compiled.__name__, loader.path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _expiry() -> datetime:
    return datetime.now(timezone.utc) + _TOKEN_TIME


def _s3(_bucket: str, variables: Mapping[str, str]) -> Settings:
    """Read AWS's variables; profiles, their files and single sign-on by botocore, since obstore knows none of them."""
    config = {
        "endpoint": variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL"),
        "region": variables.get("AWS_DEFAULT_REGION") or variables.get("AWS_REGION"),
    }
    has_keys = "AWS_ACCESS_KEY_ID" in variables or "AWS_SKIP_SIGNATURE" in variables
    if has_keys and any(config.values()):
        return config, None
    try:
        from botocore.session import Session
    except ModuleNotFoundError:
        file = variables.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.expanduser("~/.aws/credentials")
        if not has_keys and ("AWS_PROFILE" in variables or os.path.exists(file)):
            needs = "pip install 'pairstream[s3]'"
            raise StoreError(f"{file}: an AWS profile, which needs botocore: `{needs}` brings it") from None
        return config, None
    session = Session()
    config["endpoint"] = config["endpoint"] or session.get_scoped_config().get("endpoint_url")
    config["region"] = config["region"] or session.get_config_variable("region")
    credentials: Any = None if has_keys else session.get_credentials()

    def provide() -> dict[str, object]:
        keys = credentials.get_frozen_credentials()
        names = {"access_key_id": keys.access_key, "secret_access_key": keys.secret_key, "token": keys.token}
        return {**names, "expires_at": _expiry()}

    return config, provide if credentials else None


def _gcs(_bucket: str, variables: Mapping[str, str]) -> Settings:
    """Read Google's variables; kinds of credentials that obstore does not know by google-auth, where it is there."""
    if emulator := variables.get("STORAGE_EMULATOR_HOST"):  # without credentials, as in Google's own clients
        address = emulator if "://" in emulator else f"http://{emulator}"
        return {"base_url": address}, lambda: {"token": "none", "expires_at": None}
    with contextlib.suppress(ModuleNotFoundError):
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import Request

        with contextlib.suppress(DefaultCredentialsError):
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])

            def provide() -> dict[str, object]:
                if not credentials.valid:
                    credentials.refresh(Request())
                return {"token": credentials.token, "expires_at": _expiry()}

            return {}, provide
    return {}, None


def _azure(container: str, variables: Mapping[str, str]) -> Settings:
    """Read Azure's variables; sign-ins that obstore does not know by azure-identity, where it is there."""
    said = variables.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";")
    parts = {name: value for name, equals, value in (part.partition("=") for part in said) if equals}

    def first(*names: str) -> str | None:
        return next(filter(None, (variables.get(f"AZURE_STORAGE_{name}") for name in names)), None)

    account, _, host = container.partition("@")[2].partition(".")  # NAME.dfs.core.windows.net
    config: dict[str, object] = {
        "account_name": account or first("ACCOUNT_NAME", "ACCOUNT") or parts.get("AccountName"),
        "account_key": first("ACCOUNT_KEY", "KEY", "ACCESS_KEY") or parts.get("AccountKey"),
        "sas_key": first("SAS_TOKEN", "SAS_KEY") or parts.get("SharedAccessSignature"),
        "endpoint": first("ENDPOINT") or parts.get("BlobEndpoint"),
    }
    suffix = host.partition(".")[2] or parts.get("EndpointSuffix")
    if suffix and not config["endpoint"]:
        config["endpoint"] = f"https://{config['account_name']}.blob.{suffix}"
    if "true" in (parts.get("UseDevelopmentStorage"), (first("USE_EMULATOR") or "").lower()):
        return {"use_emulator": True}, None
    if config["account_key"] or config["sas_key"] or first("TOKEN") or "AZURE_SKIP_SIGNATURE" in variables:
        return config, None
    with contextlib.suppress(ModuleNotFoundError):
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential()

        def provide() -> dict[str, object]:
            return {"token": credential.get_token("https://storage.azure.com/.default").token, "expires_at": _expiry()}

        return config, provide
    return config, None
