"""What holds for all tests.

The openai package speaks httpx2 and respx knows httpx: the alias makes them one. No example that
hypothesis makes up has to be fast: a busy machine is no bug.
"""

import httpx2
from hypothesis import settings

httpx2.alias_httpx()
settings.register_profile("harness", deadline=None)
settings.load_profile("harness")
