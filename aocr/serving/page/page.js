// The page: takes images, reads a few of them at a time, and keeps the summary up to date.

import {Card} from "./card.js";
import {CropDialog} from "./crop.js";
import {droppedFiles, imageToSend} from "./images.js";
import {Model, ServerError} from "./server.js";
import {copyText, saveText, toTsv} from "./table.js";

const CONCURRENT_REQUESTS = 4;
const NOTICE_MILLISECONDS = 4000;
const find = (id) => document.getElementById(id);

/** The cards of the page, and what its buttons do. */
class Page {
  #model = new Model(document.documentElement.dataset.model);
  #cropDialog = new CropDialog(find("crop-dialog"));
  #cards = [];  // in the order of the page
  #running = 0;  // requests
  #pasted = 0;
  #notice;

  constructor() {
    this.#listenForFiles();
    this.#listenToToolbar();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#showModel();
    });
    this.#showModel();
  }

  async #showModel() {
    const element = find("model");
    const {name} = this.#model;
    try {
      const {version, problems} = await this.#model.status();
      element.textContent = [`Model ${name}, version ${version}`, ...problems].join(" · ");
      element.classList.toggle("failing", problems.length > 0);
    } catch (error) {
      element.textContent = `Model ${name} · ${error.message}`;
      element.classList.add("failing");
      throwUnlessServerError(error);
    }
  }

  #addFiles(files) {
    if (!files.length) return;
    if (!this.#running) this.#showModel();
    const actions = {
      retry: (card) => this.#retry([card]), crop: (card) => this.#crop(card),
      copy: (card) => this.#copyText(card), remove: (card) => this.#remove(card)};
    const added = Array.from(files, (file) => new Card(find("card"), file, actions));
    find("cards").prepend(...added.map((card) => card.element));
    this.#cards = [...added, ...this.#cards];
    this.#readNext();
  }

  /** Starts requests for waiting cards while there are fewer than the limit. */
  #readNext() {
    while (this.#running < CONCURRENT_REQUESTS) {
      const card = this.#cards.find(({state}) => state === "waiting");
      if (!card) break;
      this.#running += 1;
      card.start();
      this.#read(card).finally(() => {
        this.#running -= 1;
        this.#readNext();
      });
    }
    this.#showSummary();
  }

  async #read(card) {
    if (!card.file.size) {
      card.fail("The file is empty, or the browser cannot read it");
      return;
    }
    try {
      const isShown = await card.loaded;
      const {blob, scale} = isShown
        ? await imageToSend(card.file, card.image) : {blob: card.file, scale: 1};
      card.finish(await this.#model.read(blob), scale);
    } catch (error) {
      card.fail(error.message);
      throwUnlessServerError(error);
    }
  }

  #count(...states) {
    return this.#cards.filter(({state}) => states.includes(state)).length;
  }

  /** Shows how many images are in which state, or a message in place of that. */
  #showSummary(message) {
    const [read, failed] = [this.#count("read"), this.#count("failed")];
    const waiting = this.#cards.length - read - failed;
    const parts = [`${read} read`, failed && `${failed} failed`, waiting && `${waiting} waiting`];
    find("summary").textContent = message ?? parts.filter(Boolean).join(", ");
    find("toolbar").hidden = !this.#cards.length;
    document.body.classList.toggle("filled", this.#cards.length > 0);
    find("progress").hidden = !waiting;
    Object.assign(find("progress"), {max: this.#cards.length, value: read + failed});
    find("retry").hidden = !failed;
    find("copy").disabled = find("download").disabled = !read;
  }

  /** Shows a message in place of the summary for a while. */
  #notify(message) {
    clearTimeout(this.#notice);
    this.#showSummary(message);
    this.#notice = setTimeout(() => this.#showSummary(), NOTICE_MILLISECONDS);
  }

  /** Shows how many rows of the table were copied or saved. */
  #notifyRows(verb) {
    const read = this.#count("read");
    const others = this.#cards.length - read;
    const rows = `${verb} ${read} ${read === 1 ? "row" : "rows"}`;
    this.#notify(others ? `${rows}; ${others} without a result left out` : rows);
  }

  #retry(cards) {
    cards.forEach((card) => card.wait());
    this.#readNext();
  }

  async #crop(card) {
    const region = await this.#cropDialog.open(card.image);
    if (region) {
      this.#addFiles([new File([region], `${card.file.name}, region`, {type: region.type})]);
    }
  }

  async #copyText(card) {
    await copyText(card.text);
    this.#notify(`Copied the text of ${card.file.name}`);
  }

  #remove(card) {
    const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
    card.remove();
    this.#cards = this.#cards.filter((other) => other !== card);
    (next ?? find("files")).focus();
    this.#showSummary();
  }

  #removeAll() {
    this.#cards.forEach((card) => card.remove());
    this.#cards = [];
    find("files").focus();
    this.#showSummary();
  }

  #listenForFiles() {
    find("files").addEventListener("change", ({target}) => {
      this.#addFiles(target.files);
      target.value = "";  // the same file may be chosen again
    });
    document.addEventListener("paste", ({clipboardData}) => {
      this.#addFiles(Array.from(clipboardData.files, (file) => this.#named(file)));
    });
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dragging");
    });
    document.addEventListener("dragleave", ({relatedTarget}) => {
      if (!relatedTarget) document.body.classList.remove("dragging");
    });
    document.addEventListener("drop", async (event) => {
      event.preventDefault();
      document.body.classList.remove("dragging");
      this.#addFiles(await droppedFiles(event.dataTransfer));
    });
  }

  /** Returns a pasted file under a name of its own: browsers call all of them the same. */
  #named(file) {
    this.#pasted += 1;
    const extension = file.name.replace(/^[^.]*/, "");
    return new File([file], `pasted ${this.#pasted}${extension}`, {type: file.type});
  }

  #listenToToolbar() {
    const actions = {
      retry: () => this.#retry(this.#cards.filter(({state}) => state === "failed")),
      clear: () => this.#removeAll(),
      copy: async () => {
        await copyText(toTsv(this.#cards));
        this.#notifyRows("Copied");
      },
      download: () => {
        saveText(toTsv(this.#cards), `${this.#model.name}.tsv`);
        this.#notifyRows("Saved");
      }};
    for (const [id, action] of Object.entries(actions)) find(id).addEventListener("click", action);
  }
}

function throwUnlessServerError(error) {
  if (!(error instanceof ServerError)) throw error;
}

new Page();
