"""Heads of HTTP/1.1 requests, also through proxies."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import httpx2

_PORTS = {"http": 80, "https": 443}


def request_head(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request. Raises LocalProtocolError for a line break in it."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % header for header in headers)]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise httpx2.LocalProtocolError("a header with a line break")
    return b"\r\n".join([*lines, b"", b""])


def host_and_port(url: httpx2.URL) -> tuple[str, int]:
    """Return where to connect to for a URL. Raises UnsupportedProtocol unless it is of HTTP."""
    if url.scheme not in _PORTS:
        raise httpx2.UnsupportedProtocol("the base URL must begin with http:// or https://")
    return url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


def proxy_headers(proxy: httpx2.Proxy) -> list[tuple[bytes, bytes]]:
    """Return the headers that a proxy needs, with its credentials."""
    headers = proxy.headers.raw
    if proxy.raw_auth is not None:
        credentials = base64.b64encode(b":".join(proxy.raw_auth))
        headers.append((b"Proxy-Authorization", b"Basic " + credentials))
    return headers


def require_proxy(url: httpx2.URL, proxy: httpx2.Proxy) -> None:
    """Raise UnsupportedProtocol for a kind of proxy that a URL cannot be reached through."""
    kinds = ("http",) if url.scheme == "https" else ("http", "https")
    if proxy.url.scheme not in kinds:
        raise httpx2.UnsupportedProtocol(f"{url.scheme} over a proxy of {proxy.url.scheme}")


def connect_request(url: httpx2.URL, proxy: httpx2.Proxy) -> bytes:
    """Return the request to a proxy for a tunnel to the server of a URL."""
    host, port = host_and_port(url)
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
    headers = [(b"Host", target), (b"Accept", b"*/*"), *proxy_headers(proxy)]
    return request_head(b"CONNECT", target, headers)


def require_tunnel(status: int) -> None:
    """Raise ProxyError for the status of a proxy that opens no tunnel."""
    if status >= 300:
        raise httpx2.ProxyError(f"the proxy refuses: HTTP {status}")
