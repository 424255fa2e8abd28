// Counts a text: lines, words, characters (Unicode code points), and its three commonest words.
//
//   hearth deploy count examples/nodejs --runtime nodejs
//   hearth invoke count --payload '{"text": "so much depends upon"}'

export async function handler(event) {
  const text = event?.text;
  if (typeof text !== "string") {
    throw new TypeError(`"text" must be a string, not ${text === null ? "null" : typeof text}`);
  }
  const words = text.split(/\s+/u).filter(Boolean);
  return {
    lines: text === "" ? 0 : text.split("\n").length - (text.endsWith("\n") ? 1 : 0),
    words: words.length,
    characters: [...text].length,
    common: commonest(words, 3),
  };
}

// The most frequent words without regard to case; equally frequent ones in alphabetical order.
function commonest(words, most) {
  const count = new Map();
  for (const word of words) {
    const key = word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
    if (key !== "") count.set(key, (count.get(key) ?? 0) + 1);
  }
  return [...count]
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
    .slice(0, most)
    .map(([word, times]) => ({ word, times }));
}
