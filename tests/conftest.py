"""What holds for all tests.

The openai package speaks httpx2 and respx knows httpx: the alias makes them one. What hypothesis
makes up need not be made or checked fast: a busy machine is no bug.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.text import Text

httpx2.alias_httpx()
settings.register_profile("harness", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")

# A shell starts a background job with SIGINT ignored, and then Python does not handle it. Tests
# that interrupt themselves, or processes that they start, would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _plots_without_rendering(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write only the text of a plot to its file, except in modules marked `plots`.

    Rendering the plots of a small run takes longer than the run.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("plots") is None:
            patch.setattr(FigureCanvasAgg, "print_png", _write_text)
            patch.setattr(FigureCanvasSVG, "print_svg", _write_text)
        yield


def _write_text(canvas: FigureCanvasBase, path: Path, **_: object) -> None:
    texts = (one.get_text() for one in canvas.figure.findobj(Text) if isinstance(one, Text))
    path.write_text("\n".join(texts), encoding="utf-8")
