// The page: takes images, reads a few of them at a time, and keeps the summary up to date.

import {Card} from "./card.js";
import {CropDialog} from "./crop.js";
import {droppedFiles, uprightImage} from "./images.js";
import {Model, ServerError} from "./server.js";
import {copyText, saveText, toTsv} from "./table.js";

const CONCURRENT_REQUESTS = 4;
const NOTICE_MILLISECONDS = 4000;
const find = (id) => document.getElementById(id);
const model = new Model(document.documentElement.dataset.model);
const cropDialog = new CropDialog(find("crop"));
let cards = [];  // in the order of the page
let running = 0;
let pasted = 0;
let notice;

async function showModel() {
  const element = find("model");
  try {
    const {version, problems} = await model.status();
    element.textContent = [`Model ${model.name}, version ${version}`, ...problems].join(" · ");
    element.classList.toggle("failing", problems.length > 0);
  } catch (error) {
    element.textContent = `Model ${model.name} · ${error.message}`;
    element.classList.add("failing");
    throwUnlessServerError(error);
  }
}

function addFiles(files) {
  if (!files.length) return;
  if (!running) showModel();
  const added = Array.from(files, (file) => new Card(
    find("card"), file, {again: readAgain, edit: crop, copy: copyCard, remove: removeCard}));
  find("cards").prepend(...added.map((card) => card.element));
  cards = [...added, ...cards];
  readNext();
}

async function crop(card) {
  const region = await cropDialog.open(card.image);
  if (region) addFiles([new File([region], `${card.file.name}, region`, {type: region.type})]);
}

/** Starts requests for waiting cards while there are fewer than the limit. */
function readNext() {
  while (running < CONCURRENT_REQUESTS) {
    const card = cards.find(({state}) => state === "waiting");
    if (!card) break;
    running += 1;
    card.start();
    read(card).finally(() => {
      running -= 1;
      readNext();
    });
  }
  showSummary();
}

async function read(card) {
  try {
    const isShown = await card.loaded;
    const outputs = await model.read(isShown ? await uprightImage(card.file, card.image) : card.file);
    if (card.state !== "removed") card.finish(outputs);
  } catch (error) {
    if (card.state !== "removed") card.fail(error.message);
    throwUnlessServerError(error);
  }
}

function throwUnlessServerError(error) {
  if (!(error instanceof ServerError)) throw error;
}

function count(...states) {
  return cards.filter(({state}) => states.includes(state)).length;
}

function showSummary(message) {
  const [read, failed, waiting] = [count("read"), count("failed"), count("waiting", "reading")];
  const parts = [`${read} read`, failed && `${failed} failed`, waiting && `${waiting} waiting`];
  find("summary").textContent = message ?? parts.filter(Boolean).join(", ");
  find("toolbar").hidden = !cards.length;
  document.body.classList.toggle("filled", cards.length > 0);
  find("progress").hidden = !waiting;
  Object.assign(find("progress"), {max: cards.length, value: read + failed});
  find("retry").hidden = !failed;
  find("copy").disabled = find("download").disabled = !read;
}

/** Shows a message in place of the summary for a while. */
function notify(message) {
  clearTimeout(notice);
  showSummary(message);
  notice = setTimeout(showSummary, NOTICE_MILLISECONDS);
}

function readAgain(card) {
  card.wait();
  readNext();
}

function removeCard(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  card.remove();
  cards = cards.filter((other) => other !== card);
  (next ?? find("files")).focus();
  showSummary();
}

async function copyCard(card) {
  await copyText(card.text);
  notify(`Copied the text of ${card.file.name}`);
}

/** Returns the rows of a table in words. */
function described(verb) {
  const [read, others] = [count("read"), cards.length - count("read")];
  const rows = `${verb} ${read} ${read === 1 ? "row" : "rows"}`;
  return others ? `${rows}; ${others} without a result left out` : rows;
}

find("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";  // the same file may be chosen again
});
document.addEventListener("paste", (event) => {
  const files = Array.from(event.clipboardData.files, (file) => (
    new File([file], `pasted ${pasted += 1}${file.name.replace(/^[^.]*/, "")}`, {type: file.type})));
  addFiles(files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  addFiles(await droppedFiles(event.dataTransfer));
});
find("copy").addEventListener("click", async () => {
  await copyText(toTsv(cards));
  notify(described("Copied"));
});
find("download").addEventListener("click", () => {
  saveText(toTsv(cards), `${model.name}.tsv`);
  notify(described("Saved"));
});
find("retry").addEventListener("click", () => {
  cards.filter(({state}) => state === "failed").forEach((card) => card.wait());
  readNext();
});
find("clear").addEventListener("click", () => {
  cards.forEach((card) => card.remove());
  cards = [];
  find("files").focus();
  showSummary();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) showModel();
});
showModel();
