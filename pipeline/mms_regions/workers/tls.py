"""The certificates of one run: its scheduler, workers and client know each other by them, and nobody else has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed.security import Security

from mms_regions.core.files import remove_tree

_FILES = ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key", "tls_worker_cert", "tls_worker_key")


@contextmanager
def temporary_credentials(folder: Path) -> Iterator[Security]:
    """Temporary credentials of a run, as files that nobody else can read and that its workers take from there."""
    path = folder / f"credentials-{os.getpid()}"
    try:
        write_credentials(path)
        yield credentials_in(path)
    finally:
        remove_tree(path, best_effort=True)


def write_credentials(path: Path) -> None:
    """Make a folder of temporary credentials that nobody else can read."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Security.temporary()
    for name in _FILES:
        _write_secret(path / f"{name}.pem", getattr(made, name))


def credentials_in(path: Path) -> Security:
    """The credentials in a folder, as distributed takes them."""
    files = {name: str(path / f"{name}.pem") for name in _FILES}
    client = {"tls_client_cert": files["tls_worker_cert"], "tls_client_key": files["tls_worker_key"]}
    return Security(require_encryption=True, **files, **client)


def _write_secret(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
