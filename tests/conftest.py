"""The openai package speaks httpx2 and respx knows httpx: the alias makes them one."""

import httpx2

httpx2.alias_httpx()
