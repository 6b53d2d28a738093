"""TLS and the proxies of the environment. The HTTP client is imported late: that is slow."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.errors import PreflightError

if TYPE_CHECKING:
    import httpx2

_PROXY_SCHEMES = ("http", "https")
_PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def tls_context(
    trust_env: bool, ca_file: str | None = None, *, verify: bool = True
) -> ssl.SSLContext:
    """Return the TLS context.

    `trust_env`: use SSL_CERT_FILE and SSL_CERT_DIR of the environment. `ca_file`: the only
    certificates to trust. `verify`: False accepts every certificate.
    """
    return cached_tls_context(trust_env, ca_file, verify)


@functools.cache
def cached_tls_context(trust_env: bool, ca_file: str | None, verify: bool) -> ssl.SSLContext:
    """Return the TLS context; reading the certificates is slow."""
    import httpx2

    if ca_file is not None and verify:
        return ssl.create_default_context(cafile=ca_file)
    return httpx2.create_ssl_context(verify=verify, trust_env=trust_env)


def environment_proxy(url: httpx2.URL) -> httpx2.Proxy | None:
    """Return the proxy that the environment names for `url`, None for none."""
    import httpx2
    from httpx2._utils import URLPattern, get_environment_proxies

    proxies = {URLPattern(key): proxy for key, proxy in get_environment_proxies().items()}
    for pattern in sorted(proxies):  # as httpx2 does for the async client
        if pattern.matches(url):
            proxy = proxies[pattern]
            return None if proxy is None else httpx2.Proxy(proxy)
    return None


def check_environment(ca_file: str | None, *, verify: bool) -> None:
    """Raise PreflightError if the proxies or certificates of the environment cannot be used."""
    for name in (*_PROXY_VARIABLES, *map(str.lower, _PROXY_VARIABLES)):
        scheme, separator, _ = os.environ.get(name, "").partition("://")
        if separator and scheme.lower() not in _PROXY_SCHEMES:
            raise PreflightError(
                f"{name}: a proxy of the kind {scheme}:// is not supported; name one with http://, "
                f"or unset it (env -u {name} harness ...)"
            )
    try:
        tls_context(True, ca_file, verify=verify)
    except (OSError, ssl.SSLError) as error:
        raise PreflightError(_no_certificates(error, ca_file)) from None


def _no_certificates(error: OSError, ca_file: str | None) -> str:
    reason = error.strerror or str(error)
    if ca_file is not None:
        return (
            f"endpoint.ca_file = {ca_file!r}: cannot be read ({reason}); "
            "name a file with certificates (PEM)"
        )
    named = [f"{name}={path}" for name in _CERTIFICATE_VARIABLES if (path := os.environ.get(name))]
    named = [one for one in named if not Path(one.partition("=")[2]).exists()] or named
    where = ", ".join(named) or "the certificates of this machine"
    return f"{where}: cannot be read ({reason}); name a file with certificates (PEM), or unset it"
