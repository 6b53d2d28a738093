"""An environment that cannot be used is one line before the first record."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from harness.bench import preflight
from harness.cli.main import main
from harness.config.network import cached_tls_context
from harness.records.errors import PreflightError
from tests.cli.answering import one_line, scenario


@pytest.fixture(autouse=True)
def _no_context() -> None:
    cached_tls_context.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks://u:pw@127.0.0.1:7891/", "a proxy of the kind socks://"),
        ("https_proxy", "socks5://127.0.0.1:7891/", "a proxy of the kind socks5://"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "SSL_CERT_FILE=/no/such/file.pem: cannot be read"),
    ],
)
def test_proxies_and_certificates_are_checked(
    variable: str,
    value: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN_KEY", "sk-a-key")
    monkeypatch.setenv(variable, value)
    file = scenario(tmp_path, "http://127.0.0.1:9/v1")
    assert main(["run", str(file), "--out", "out", "--no-preflight"]) == 2
    said = one_line(capsys.readouterr().err)
    assert words in said
    assert "pw" not in said
    assert not (tmp_path / "out").exists()


def test_a_file_of_certificates_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_text("no certificate")
    own = {"kind": "openai", "base_url": "https://127.0.0.1:9", "model": "m", "ca_file": "ca.pem"}
    assert main(["run", str(scenario(tmp_path, "", endpoint=own)), "--out", "out"]) == 2
    assert "endpoint.ca_file = " in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_run_in_virtual_time_needs_a_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.enough_files(2)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (30, 30))
    preflight.enough_files(1)
    with pytest.raises(PreflightError, match=r"needs 32 open files, .* \(ulimit -n 32\)"):
        preflight.enough_files(2)
