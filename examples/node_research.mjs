// Researches a topic with Node.js and its fetch alone: an outline, three sections at once, a report.
const base = process.env.OPENAI_BASE_URL ?? "https://api.openai.com/v1";
const model = process.env.MODEL ?? "gpt-5-mini";
const topic = process.argv.slice(2).join(" ") || "How do tides form?";
const angles = ["how it works", "its history", "what comes next"];

async function write(prompt) {
  const response = await fetch(`${base}/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${process.env.OPENAI_API_KEY}`,
    },
    body: JSON.stringify({ model, messages: [{ role: "user", content: prompt }] }),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const answer = await response.json();
  return answer.choices[0].message.content;
}

const outline = await write(`Write an outline about ${topic}.`);
const sections = await Promise.all(
  angles.map((angle) => write(`Outline:\n${outline}\n\nWrite about ${topic}: ${angle}.`)),
);
console.log(await write(`Write a report about ${topic} from:\n\n${sections.join("\n\n")}`));
