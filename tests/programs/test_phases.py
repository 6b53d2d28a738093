import asyncio

import pytest

from harness.workflows.program.phases import current_phase, phase


def test_a_phase_ends_with_its_context() -> None:
    with phase("plan"):
        with phase("work"):
            assert current_phase.get() == "work"
        assert current_phase.get() == "plan"
    assert current_phase.get() is None


async def test_tasks_have_the_phase_in_which_they_began() -> None:
    async def seen() -> str | None:
        await asyncio.sleep(0)
        return current_phase.get()

    with phase("work"):
        task = asyncio.create_task(seen())
    with phase("write"):
        assert await task == "work"


@pytest.mark.parametrize("name", ["", " ", "a\nb", 3])
def test_a_phase_needs_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"harness\.phase"), phase(name):
        pass
