"""The prices of the package genai-prices: ten models by hand, and the models that have none."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from harness.config.model_prices import NoPrice, price_of
from harness.config.prices import Price, cost_usd
from harness.records.schema import Tokens

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"
GROQ = "https://api.groq.com/openai/v1"
MISTRAL = "https://api.mistral.ai/v1"
XAI = "https://api.x.ai/v1"
OPENROUTER = "https://openrouter.ai/api/v1"
MOONSHOT = "https://api.moonshot.ai/v1"
PERPLEXITY = "https://api.perplexity.ai"
AZURE = "https://mine.openai.azure.com/openai/v1"
DEEPSEEK = "https://api.deepseek.com"

NOON, PEAK = "2026-11-27T12:00:00", "2026-11-27T07:00:00"  # a Friday
USUAL = Tokens(input=10_000, cached=4_000, output=3_000, reasoning=1_000)
LONG = Tokens(input=300_000, cached=100_000, output=3_000, reasoning=1_000)


def nanoseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


BY_HAND = [
    # 6,000 x 2.50 = 15,000; 4,000 x 1.25 = 5,000; 3,000 x 10 = 30,000 millionths of a dollar
    ("gpt-4o", OPENAI, USUAL, NOON, 0.050_000),
    # 6,000 x 2 = 12,000; 4,000 x 0.50 = 2,000; 3,000 x 8 = 24,000
    ("o3", OPENAI, USUAL, NOON, 0.038_000),
    # 6,000 x 2 = 12,000; 4,000 x 0.20 = 800; 3,000 x 10 = 30,000
    ("gpt-6-sol", OPENAI, USUAL, NOON, 0.042_800),
    # above 272,000: 200,000 x 4 = 800,000; 100,000 x 0.40 = 40,000; 3,000 x 15 = 45,000
    ("gpt-6-sol", OPENAI, LONG, NOON, 0.885_000),
    # 6,000 x 3 = 18,000; 4,000 x 0.30 = 1,200; 3,000 x 15 = 45,000
    ("claude-sonnet-4-5", ANTHROPIC, USUAL, NOON, 0.064_200),
    # above 200,000: 200,000 x 6 = 1,200,000; 100,000 x 0.60 = 60,000; 3,000 x 22.50 = 67,500
    ("claude-sonnet-4-5", ANTHROPIC, LONG, NOON, 1.327_500),
    # 6,000 x 1.25 = 7,500; 4,000 x 0.125 = 500; 3,000 x 10 = 30,000
    ("gemini-2.5-pro", GOOGLE, USUAL, NOON, 0.038_000),
    # no price of cached input: 10,000 x 0.59 = 5,900; 3,000 x 0.79 = 2,370
    ("llama-3.3-70b-versatile", GROQ, USUAL, NOON, 0.008_270),
    # no price of cached input: 10,000 x 2 = 20,000; 3,000 x 6 = 18,000
    ("mistral-large-latest", MISTRAL, USUAL, NOON, 0.038_000),
    # 6,000 x 3 = 18,000; 4,000 x 0.75 = 3,000; 3,000 x 15 = 45,000
    ("grok-4", XAI, USUAL, NOON, 0.066_000),
    # 10,000 x 2 = 20,000; 2,000 x 8 = 16,000; 1,000 of reasoning x 3 = 3,000
    ("perplexity/sonar-deep-research", OPENROUTER, USUAL, NOON, 0.039_000),
    # 6,000 x 0.60 = 3,600; 4,000 x 0.15 = 600; 3,000 x 2.50 = 7,500
    ("kimi-k2-0905-preview", MOONSHOT, USUAL, NOON, 0.011_700),
    # 6,000 x 0.55 = 3,300; 4,000 x 0.14 = 560; 3,000 x 2.19 = 6,570; at any hour
    ("deepseek-reasoner", DEEPSEEK, USUAL, NOON, 0.010_430),
    ("deepseek-reasoner", DEEPSEEK, USUAL, "2026-11-27T20:00:00", 0.010_430),
    # 6,000 x 0.15 = 900; 4,000 x 0.003 = 12; 3,000 x 0.60 = 1,800; twice that at peak hours
    ("deepseek-flash", DEEPSEEK, USUAL, NOON, 0.002_712),
    ("deepseek-flash", DEEPSEEK, USUAL, PEAK, 0.005_424),
    ("deepseek-v4-flash", DEEPSEEK, USUAL, PEAK, 0.005_424),
    ("deepseek-v4-flash", DEEPSEEK, USUAL, "2026-11-28T07:00:00", 0.002_712),  # a Saturday
]


@pytest.mark.parametrize(
    ("model", "base_url", "tokens", "moment", "usd"),
    BY_HAND,
    ids=[f"{one[0]} {one[2].input} {one[3]}" for one in BY_HAND],
)
def test_a_cost_is_the_sum_worked_by_hand(
    model: str, base_url: str, tokens: Tokens, moment: str, usd: float
) -> None:
    price = price_of(model, base_url)
    assert isinstance(price, Price), price
    assert cost_usd(price, tokens, nanoseconds(moment)) == pytest.approx(usd, rel=1e-12)


def test_the_sums_are_of_ten_models_at_five_providers_and_more() -> None:
    assert len({model for model, *_ in BY_HAND}) >= 10
    assert len({base_url for _, base_url, *_ in BY_HAND}) >= 5


def test_the_source_names_the_package_the_provider_and_the_entry() -> None:
    price = price_of("gpt-4o-mini-2024-07-18", OPENAI)
    assert isinstance(price, Price)
    assert price.source.startswith("genai-prices ")
    assert price.source.endswith(", OpenAI: gpt-4o-mini")


def test_a_service_tier_has_its_own_price() -> None:
    usual, flex = price_of("gpt-5", OPENAI), price_of("gpt-5", OPENAI, "flex")
    assert isinstance(usual, Price)
    assert isinstance(flex, Price)
    assert flex.output == usual.output / 2


@pytest.mark.parametrize(
    ("model", "base_url", "why"),
    [
        ("gpt-0", OPENAI, "does not have it for OpenAI"),
        ("gpt-6-luna", OPENAI, "has several prices for OpenAI"),
        ("text-embedding-3-small", OPENAI, "no price of input and output tokens"),
        ("deepseek/deepseek-r1:free", OPENROUTER, "no price of input and output tokens"),
        ("sonar", PERPLEXITY, "a price of each request, which the harness does not count"),
        ("sonar-deep-research", PERPLEXITY, "a price of citations"),
        ("gpt-4o-of-my-team", AZURE, "does not have it for Microsoft Azure"),
        ("gpt-4o", "http://127.0.0.1:8000/v1", "is of no provider"),
        ("gpt-4o", "http://gateway:4000/v1", "is of no provider"),
        ("gpt-4o", "https://api.example.com/v1", "api.example.com is of no provider"),
        ("gpt-4o", "https://api.openai.com.example.org/v1", "is of no provider"),
        ("gpt-4o", "https://[half/v1", "is of no provider"),
    ],
)
def test_a_model_that_is_unknown_or_ambiguous_has_no_price(
    model: str, base_url: str, why: str
) -> None:
    found = price_of(model, base_url)
    assert isinstance(found, NoPrice)
    assert why in found.why


def test_a_deployment_has_the_price_of_a_model_only_by_its_exact_name() -> None:
    assert isinstance(price_of("gpt-4o", AZURE), Price)


def test_no_price_comes_from_the_network() -> None:
    code = f"""
import socket, sys, threading
def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from harness.config.model_prices import price_of
from harness.config.prices import Price
assert isinstance(price_of("gpt-4o", {OPENAI!r}), Price)
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
