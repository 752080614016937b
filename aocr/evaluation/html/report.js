// Filters, order and attention of the images. Texts of the records are only ever set as text.
"use strict";

const form = document.getElementById("filters");
const gallery = document.getElementById("gallery");
const chip = document.getElementById("chip");
const announcement = document.getElementById("announcement");
const columnPixels = Number(gallery.dataset.columnPixels);

const cards = [...gallery.children].map((element) => {
  const { length, width, probability, errors, loss, position, confusions } = element.dataset;
  const content = (selector) => element.querySelector(selector)?.textContent ?? "";
  const read = content(".read");
  const file = element.querySelector(".file");
  return {
    element, read, label: element.classList.contains("wrong") ? content(".label") : read,
    record: file.title, comment: file.textContent, wrong: element.classList.contains("wrong"),
    length: Number(length), width: Number(width), probability: Number(probability), errors: Number(errors),
    loss: Number(loss), position: Number(position), confusions: (confusions ?? "").split(" "),
  };
});
cards.forEach((card, index) => { card.index = index; });

const orders = {
  errors: (a, b) => a.index - b.index,
  confident: (a, b) => b.probability - a.probability,
  doubtful: (a, b) => a.probability - b.probability,
  loss: (a, b) => b.loss - a.loss,
  dataset: (a, b) => a.position - b.position,
};

let selection = null; // of a confusion, a character or a bar: { text, matches }
let shown = cards;

function bounds(name, factor) {
  const value = (end) => Math.round(form.elements[`${name}-${end}`].valueAsNumber * factor);
  const from = value("from"), to = value("to"); // NaN where nothing is given
  return (number) => !(number < from) && !(number > to);
}

function update() {
  const query = form.elements.query.value.toLocaleLowerCase();
  const show = form.elements.show.value;
  const lengthFits = bounds("length", 1), probabilityFits = bounds("probability", 1000);
  const before = shown;
  shown = cards.filter((card) =>
    (show === "all" || card.wrong === (show === "wrong")) &&
    lengthFits(card.length) && probabilityFits(Math.round(card.probability * 1e5)) &&
    (!query || `${card.read}\n${card.label}\n${card.comment}`.toLocaleLowerCase().includes(query)) &&
    (!selection || selection.matches(card)));
  shown.sort(orders[form.elements.order.value]);
  if (shown.length !== before.length || shown.some((card, n) => card !== before[n])) {
    gallery.replaceChildren(...shown.map((card) => card.element));
  }
  document.getElementById("count").textContent = `${shown.length} of ${cards.length} images`;
  document.getElementById("none").hidden = shown.length > 0;
  chip.hidden = !selection;
  chip.textContent = selection?.text ?? "";
  makeReachable(shown[0]?.element);
}

function select(text, matches) {
  form.reset();
  selection = { text, matches };
  update();
  form.scrollIntoView();
  chip.focus({ preventScroll: true });
}

function reset() {
  form.reset();
  selection = null;
  update();
}

form.addEventListener("input", update);
form.addEventListener("submit", (event) => event.preventDefault());
form.querySelector("[type=reset]").addEventListener("click", (event) => { event.preventDefault(); reset(); });
document.getElementById("show-all").addEventListener("click", reset);
chip.addEventListener("click", () => { selection = null; update(); form.elements.query.focus(); });
document.getElementById("confident").addEventListener("click", (event) => {
  reset();
  form.elements.show.value = "wrong";
  form.elements["probability-from"].value = event.currentTarget.value;
  form.elements.order.value = "confident";
  update();
});

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-confusion], [data-character], a[data-length], a[data-width]");
  if (!target) return;
  event.preventDefault();
  const { confusion, character } = target.dataset;
  if (confusion !== undefined) {
    const [read, label] = target.closest("tr").querySelectorAll("bdi");
    select(`${label.textContent} read as ${read.textContent}`, (card) => card.confusions.includes(confusion));
  } else if (character !== undefined) {
    select(`label with ${target.textContent}`, (card) => card.label.includes(character));
  } else {
    const kind = "length" in target.dataset ? "length" : "width";
    const [first, last] = target.dataset[kind].split(" ").map(Number);
    select(`${kind} ${first === last ? first : `${first}–${last}`}`, (card) => card[kind] >= first && card[kind] <= last);
  }
});

// A table for spreadsheets and for correcting labels: RFC 4180, with a byte order mark for Excel.
document.getElementById("save").addEventListener("click", () => {
  const cell = (value) => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const rows = [["record", "comment", "label", "text", "probability", "errors", "loss"], ...shown.map((card) => [
    card.record, card.comment, card.label, card.read, card.probability, card.errors, card.loss])];
  const table = rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
  const blob = new Blob(["\ufeff" + table], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "images.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});

// Attention: a PNG file whose rows are characters and whose columns are those of the network.
const attentions = new WeakMap();
let current = null; // { card, character }
let pointed = null; // the element under the pointer

async function attentionOf(card) {
  if (!card.dataset.attention) return null;
  if (!attentions.has(card)) {
    const image = new Image();
    image.src = `data:image/png;base64,${card.dataset.attention}`;
    attentions.set(card, image.decode().then(() => {
      const context = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, image.width, image.height);
    }));
  }
  return attentions.get(card);
}

function overlayOf(card) {
  const picture = card.querySelector(".picture");
  let canvas = picture.querySelector("canvas");
  if (!canvas) {
    canvas = document.createElement("canvas");
    picture.firstElementChild.append(canvas);
  }
  return canvas;
}

// In pixels; models of aocr 0.7 pad the image.
function inputWidth(card) {
  return Number(card.querySelector("img").getAttribute("width"));
}

async function showAttention(card, character) {
  clearAttention();
  const glyph = card.querySelectorAll(".read i")[character];
  if (!glyph) return;
  current = { card, character };
  glyph.classList.add("now");
  const attention = await attentionOf(card);
  if (!attention || current?.card !== card || current.character !== character) return;
  const canvas = overlayOf(card);
  canvas.width = attention.width;
  canvas.height = 1;
  canvas.style.width = `${100 * attention.width * columnPixels / inputWidth(card)}%`;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(attention.width, 1);
  for (let x = 0; x < attention.width; x++) {
    const weight = attention.data[4 * (character * attention.width + x)] / 255;
    // Dark where there is no attention, tinted orange where it is high.
    pixels.data.set([255 * weight, 150 * weight, 0, 255 * (0.68 - 0.28 * weight)], 4 * x);
  }
  context.putImageData(pixels, 0, 0);
}

function clearAttention() {
  if (!current) return;
  current.card.querySelector("i.now")?.classList.remove("now");
  const canvas = current.card.querySelector("canvas");
  if (canvas) canvas.width = canvas.width; // clears it
  current = null;
}

function announce() {
  if (!current) return;
  const glyphs = current.card.querySelectorAll(".read i");
  const glyph = glyphs[current.character];
  const probability = glyph.style.getPropertyValue("--p");
  const shownProbability = probability ? `${Math.round(100 * probability)} %` : "over 99 %";
  announcement.textContent = `${glyph.dataset.code ?? glyph.textContent}, character ${current.character + 1} of ${glyphs.length}, ${shownProbability}`;
  glyph.title = shownProbability;
}

async function characterAt(card, event) {
  const attention = await attentionOf(card);
  if (!attention) return -1;
  const box = card.querySelector(".picture img").getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  const column = Math.min(attention.width - 1, Math.floor(share * inputWidth(card) / columnPixels));
  let best = 0;
  for (let row = 0; row < attention.height; row++) {
    if (attention.data[4 * (row * attention.width + column)] > attention.data[4 * (best * attention.width + column)]) best = row;
  }
  return best;
}

gallery.addEventListener("pointermove", async (event) => {
  pointed = event.target;
  const card = event.target.closest(".card");
  if (!card) return clearAttention();
  const glyph = event.target.closest(".read i");
  if (!glyph && !event.target.closest(".picture img")) return clearAttention();
  const character = glyph ? [...card.querySelectorAll(".read i")].indexOf(glyph) : await characterAt(card, event);
  if (pointed !== event.target) return; // the pointer has moved on while its attention was decoded
  if (current?.card !== card || current.character !== character) {
    await showAttention(card, character);
    announce();
  }
});
gallery.addEventListener("pointerdown", (event) => makeReachable(event.target.closest(".card")));
gallery.addEventListener("pointerleave", () => { pointed = null; clearAttention(); });
gallery.addEventListener("focusout", clearAttention);

// One image at a time is in the order of the Tab key; arrow keys move from there.
function makeReachable(element) {
  gallery.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  element?.setAttribute("tabindex", "0");
}

function moveTo(element) {
  if (!element) return;
  makeReachable(element);
  element.focus();
  element.scrollIntoView({ block: "nearest" });
}

const neighbors = {
  ArrowDown: (card) => card.nextElementSibling, ArrowUp: (card) => card.previousElementSibling,
  Home: () => gallery.firstElementChild, End: () => gallery.lastElementChild,
};

gallery.addEventListener("keydown", async (event) => {
  const card = event.target.closest(".card");
  if (!card || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key in neighbors) {
    event.preventDefault();
    moveTo(neighbors[event.key](card));
  } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    event.preventDefault();
    const last = card.querySelectorAll(".read i").length - 1;
    const step = event.key === "ArrowRight" ? 1 : -1;
    const start = current?.card === card ? current.character : (step > 0 ? -1 : last + 1);
    await showAttention(card, Math.max(0, Math.min(last, start + step)));
    announce();
  } else if (event.key === "Escape") {
    clearAttention();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select")) {
    event.preventDefault();
    form.elements.query.focus();
  }
});

form.hidden = false;
reset();
