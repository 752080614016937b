// The results as a table in the format of `aocr predict --format tsv`.

const ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"};
const escape = (field) => field.replace(/[\t\n\r\\]/g, (character) => ESCAPES[character]);

/**
 * Returns one line for each image that was read: file name, probability and text.
 * @param {import("./card.js").Card[]} cards The images.
 */
export function toTsv(cards) {
  return cards.filter((card) => card.state === "read").map((card) => [
    escape(card.file.name), card.probability.toFixed(6), escape(card.text)].join("\t") + "\n",
  ).join("");
}

/** Copies a text to the clipboard. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return;
  } catch {
    // Browsers offer this clipboard only over HTTPS and on this machine: take the older way.
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Lets the browser save a text as a file. */
export function saveText(text, name) {
  const url = URL.createObjectURL(new Blob([text], {type: "text/tab-separated-values"}));
  Object.assign(document.createElement("a"), {href: url, download: name}).click();
  URL.revokeObjectURL(url);
}
