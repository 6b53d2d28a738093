"""What holds for all tests.

The openai package speaks httpx2 and respx knows httpx: the alias makes them one. What hypothesis
makes up need not be made or checked fast: a busy machine is no bug.
"""

import httpx2
from hypothesis import HealthCheck, settings

httpx2.alias_httpx()
settings.register_profile("harness", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")
