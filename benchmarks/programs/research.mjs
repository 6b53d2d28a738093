// The built-in research workflow in Node.js, with fetch alone. `PROMPTS` has its prompts as JSON.
import { readFileSync } from "node:fs";

const { BRANCHES, MODEL, OPENAI_API_KEY, OPENAI_BASE_URL, PROMPTS } = process.env;
const topic = process.argv[2];
const prompts = JSON.parse(readFileSync(PROMPTS, "utf8"));

// Returns the text of a streamed answer, as the built-in workflow reads it.
async function ask(phase, prompt, values, more = {}) {
  const messages = prompts[prompt].map(({ role, content }) => ({
    role,
    content: content.replace(/\{(\w+)\}/g, (_, name) => values[name]),
  }));
  const response = await fetch(`${OPENAI_BASE_URL}/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${OPENAI_API_KEY}`,
      "x-harness-phase": phase,
    },
    body: JSON.stringify({
      model: MODEL,
      messages,
      stream: true,
      stream_options: { include_usage: true },
      ...more,
    }),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const decoder = new TextDecoder();
  let text = "";
  let rest = "";
  for await (const piece of response.body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      text += JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? "";
    }
  }
  return text;
}

const plan = await ask(
  "decompose",
  "decompose",
  { topic, count: BRANCHES },
  { response_format: { type: "json_object" } },
);
const questions = JSON.parse(plan).sub_questions;
const found = await Promise.all(
  questions.map((question) => ask("fan_out", "research", { topic, question, notes: "" })),
);
const findings = questions
  .map((question, at) => `Sub-question: ${question}\nFinding: ${found[at]}`)
  .join("\n\n");
await ask("synthesize", "synthesize", { topic, findings, notes: "" });
