"""docker-compose.yml, read as text: the tests need no YAML parser and no Docker."""

from __future__ import annotations

import re
from pathlib import Path

COMPOSE = (Path(__file__).parents[3] / "docker-compose.yml").read_text(encoding="utf-8")


def test_every_port_is_published_on_this_machine_alone() -> None:
    block = COMPOSE.partition("\n    ports:\n")[2].partition("\n    healthcheck:")[0]
    ports = [line.strip() for line in block.splitlines()]
    published = [re.match(r'- "127\.0\.0\.1:(\d+):(\d+)"', line) for line in ports]
    assert all(published), ports
    assert [match.groups() for match in published if match] == [
        (port, port) for port in ("16686", "4318", "4317", "13133")
    ]
    assert COMPOSE.count("ports:") == 1
    assert "network_mode" not in COMPOSE


def test_jaeger_is_pinned_and_its_health_is_asked_where_it_answers() -> None:
    (image,) = re.findall(r"^    image: (\S+)$", COMPOSE, re.MULTILINE)
    assert re.fullmatch(r"cr\.jaegertracing\.io/jaegertracing/jaeger:2\.\d+\.\d+", image)
    assert "http://127.0.0.1:13133/status" in COMPOSE.partition("healthcheck:")[2]
