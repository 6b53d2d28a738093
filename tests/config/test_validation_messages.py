"""Every kind of error in a table is one line: key, value, what is wrong, and the way out."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from harness.config.config_base import Count, Name, Several, Text
from harness.config.tables import ConfigTable, Duration, SettingError
from harness.config.validation_messages import message_of


class Inner(ConfigTable):
    number: int = Field(default=1, ge=1, lt=10)
    secret: str = ""

    @model_validator(mode="after")
    def _no_secret(self) -> Inner:
        if self.secret:
            raise SettingError("must not be here; remove it", "secret")
        if self.number == 7:
            raise SettingError("is unlucky; use 8", "number", value=self.number)
        return self


class Table(ConfigTable):
    truth: bool = True
    whole: Count = 1
    real: Annotated[float, Field(gt=0.5, le=2e6, allow_inf_nan=False)] = 1.0
    text: Text = "x"
    short: Annotated[str, Field(min_length=1)] = "x"
    choice: Literal["red", "green"] = "red"
    wait: Duration = 1.0
    day: datetime.date = Field(default=datetime.date(2026, 1, 31), strict=False)
    many: Several[Count] = (1,)
    inner: Inner = Inner()
    named: dict[Name, Inner] = Field(default_factory=dict)
    listed: tuple[Inner, ...] = Field(default=(), strict=False)
    needed: int


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "needed: missing; add it"),
        ({"truth": 1}, "truth = 1: must be true or false"),
        ({"whole": True}, "whole = true: must be a whole number"),
        ({"whole": 0}, "whole = 0: must be at least 1"),
        ({"whole": 2_000_000}, "whole = 2000000: must be at most 1000000"),
        ({"real": "1"}, "real = '1': must be a number"),
        ({"real": 0.5}, "real = 0.5: must be greater than 0.5"),
        ({"real": float("nan")}, "real = nan: must be a finite number"),
        ({"text": 7}, "text = 7: must be text in quotes"),
        ({"text": " "}, "text = ' ': must not be blank; write text, or remove the key"),
        ({"short": ""}, "short = '': must not be empty"),
        ({"choice": "rod"}, "choice = 'rod': must be 'red' or 'green' (did you mean 'red'?)"),
        (
            {"wait": "5 days"},
            'wait = \'5 days\': must be a duration, such as "500ms", "1.2s" or "2m", '
            "or a number of seconds",
        ),
        ({"day": "soon"}, "day = 'soon': must be a date, such as 2026-01-31"),
        ({"day": [1]}, "day = [1]: must be a date, such as 2026-01-31"),
        ({"many": []}, "many = []: must not be empty; give at least one value"),
        ({"many": {"a": 1}}, "many = {'a': 1}: must be a list, such as [1, 2]"),
        ({"many": 0}, "many = 0: must be at least 1"),
        ({"many": [1, 0]}, "many[1] = 0: must be at least 1"),
        ({"inner": 3}, "inner = 3: must be a table; write [inner] with its keys below it"),
        ({"named": 3}, "named = 3: must be a table; write [named] with its keys below it"),
        ({"inner": {"number": 10}}, "inner.number = 10: must be less than 10"),
        ({"inner": {"number": 7}}, "inner.number = 7: is unlucky; use 8"),
        ({"inner": {"secret": "sk-1"}}, "inner.secret: must not be here; remove it"),
        (
            {"inner": {"numbr": 1}},
            "inner.numbr: unknown key (did you mean 'number'?); known here: number, secret",
        ),
        ({"inner": {"a b": 1}}, 'inner."a b": unknown key; known here: number, secret'),
        ({"listed": [{}, {"number": 0}]}, "listed[1].number = 0: must be at least 1"),
        ({"named": {"v1.2": {"number": 0}}}, 'named."v1.2".number = 0: must be at least 1'),
        (
            {"named": {"_": {}}},
            "named._: must have at most 64 letters, digits, '.' and '-', and begin with a letter "
            "or digit",
        ),
    ],
)
def test_an_error_is_one_line(values: dict[str, Any], text: str) -> None:
    whole = values if not values else {"needed": 1, **values}
    with pytest.raises(ValidationError) as caught:
        Table.model_validate(whole)
    assert message_of(caught.value.errors()[0], whole).text == text


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate({"needed": "x" * 500})
    text = message_of(caught.value.errors()[0], {}).text
    assert text == f"needed = '{'x' * 56}...: must be a whole number"
