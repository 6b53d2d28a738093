"""Researches a topic with LangGraph: one node plans, parallel nodes answer, one node reports."""

import asyncio
import operator
import os
import sys
from typing import Annotated, Any, Literal, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel

model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5-mini"))


class Plan(BaseModel):
    sub_questions: list[str]


class State(TypedDict, total=False):
    topic: str
    findings: Annotated[list[str], operator.add]  # parallel nodes append to it
    report: str


async def plan(state: State) -> Command[Literal["research"]]:
    planner = model.with_structured_output(Plan)
    made: Any = await planner.ainvoke(f"Topic: {state['topic']}\nWrite 3 sub-questions.")
    return Command(goto=[Send("research", question) for question in made.sub_questions])


async def research(question: str) -> State:
    return {"findings": [(await model.ainvoke(question)).text]}


async def report(state: State) -> State:
    prompt = f"Topic: {state['topic']}\nWrite a report from:\n\n" + "\n\n".join(state["findings"])
    return {"report": (await model.ainvoke(prompt)).text}


builder = StateGraph(State)
builder.add_node(plan)
builder.add_node("research", research)  # type: ignore[arg-type]  # its input is a question
builder.add_node(report)
builder.add_edge(START, "plan")
builder.add_edge("research", "report")
graph = builder.compile()


async def main(topic: str) -> str:
    return str((await graph.ainvoke({"topic": topic}))["report"])


if __name__ == "__main__":
    print(asyncio.run(main(" ".join(sys.argv[1:]) or "How do tides form?")))
