// A card: one image with its text, the probabilities and the attention of its characters.

import {attentionAt, displayedCharacters, drawAttention} from "./reading.js";

const WIDE = 5;  // aspect ratio from which a card takes a whole row
const percent = (probability) => `${(100 * probability).toFixed(2)}%`;

/** One image and what was read in it. */
export class Card {
  #characters = [];
  #selected = -1;
  #scale = 1;

  /**
   * @param {HTMLTemplateElement} template Its markup.
   * @param {File} file The image file.
   * @param {{retry: Function, crop: Function, copy: Function, remove: Function}} actions What its
   *     buttons do; each function receives the card.
   */
  constructor(template, file, actions) {
    this.file = file;
    this.state = "waiting";
    this.outputs = null;  // text, probability and width
    this.element = document.importNode(template.content, true).firstElementChild;
    this.image = this.#find("img");
    this.#find(".name").textContent = file.name;
    this.#find(".text").setAttribute("aria-label", `Characters of ${file.name}`);
    for (const [name, action] of Object.entries(actions)) {
      const button = this.#find(`button.${name}`);
      button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
      button.addEventListener("click", () => action(this));
    }
    this.#followPointer();
    this.#followKeys();
    this.loaded = this.#load();
    this.#show();
  }

  get text() { return this.outputs.output; }

  get probability() { return this.outputs.probability; }

  start() { this.#set("reading", null, ""); }

  /**
   * Shows what was read.
   * @param {object} outputs Outputs of the model.
   * @param {number} scale That of the image that was sent, at most 1.
   */
  finish(outputs, scale) {
    this.#scale = scale;
    this.#set("read", outputs, "");
  }

  fail(message) { this.#set("failed", null, message); }

  wait() { this.#set("waiting", null, ""); }

  /** Removes the card from the page and frees its image. */
  remove() {
    this.state = "removed";
    this.element.remove();
    URL.revokeObjectURL(this.image.src);
  }

  #find(selector) { return this.element.querySelector(selector); }

  /** Shows the image; resolves to whether the browser can. */
  async #load() {
    this.image.alt = this.file.name;
    const isShown = await new Promise((resolve) => {
      this.image.onload = () => resolve(true);
      this.image.onerror = () => resolve(false);
      this.image.src = URL.createObjectURL(this.file);
    });
    if (!isShown) {
      this.#find(".stage").hidden = true;
      this.#find(".unshown").hidden = false;
      this.#find(".crop").hidden = true;
      return false;
    }
    const ratio = this.image.naturalWidth / this.image.naturalHeight;
    this.element.style.setProperty("--ratio", ratio);
    this.element.classList.toggle("wide", ratio > WIDE);
    return true;
  }

  #set(state, outputs, problem) {
    if (this.state === "removed") return;
    this.state = state;
    this.#characters = outputs ? displayedCharacters(outputs) : [];
    // Not the rest, which is large.
    this.outputs = outputs && {
      output: outputs.output, probability: outputs.probability, widths: outputs.widths};
    this.#find(".problem").textContent = problem;
    this.#show();
  }

  #show() {
    const {state} = this;
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", state === "waiting" || state === "reading");
    this.#find(".problem").hidden = state !== "failed";
    this.#find(".retry").hidden = state !== "failed";
    this.#find(".copy").hidden = state !== "read";
    this.#find(".spoken").textContent = state === "read" ? `Text: ${this.text || "none"}` : "";
    this.#showText();
    this.#select(-1);
  }

  #showText() {
    const list = this.#find(".text");
    list.hidden = this.state !== "read";
    if (this.state !== "read") return;
    const plain = [{text: this.text || "no text", probability: this.probability}];
    const shown = this.#characters.length ? this.#characters : plain;
    list.replaceChildren(...shown.map((character, n) => characterElement(character, n === 0)));
  }

  /** Marks a character and shows its probability and attention; -1 for none. */
  #select(index) {
    const options = this.#find(".text").children;
    options[this.#selected]?.setAttribute("aria-selected", "false");
    options[index]?.setAttribute("aria-selected", "true");
    this.#selected = index;
    const character = this.#characters[index];
    this.element.classList.toggle("attending", Boolean(character));
    if (character) drawAttention(this.#find("canvas"), character.attention, this.outputs.widths);
    this.#find(".readout").textContent = this.#readout(character, index);
  }

  #readout(character, index) {
    if (this.state === "waiting" || this.state === "reading") return `${this.state}…`;
    if (this.state !== "read") return "";
    if (!character) {
      const scaled = this.#scale < 1 ? ` · scaled to ${Math.floor(100 * this.#scale)}%` : "";
      return `${percent(this.probability)} probability${scaled}`;
    }
    const label = character.text ? `\u2068${character.text}\u2069` : "end of text";
    return `${label} ${percent(character.probability)} · ${index + 1} of `
      + `${this.#characters.length}`;
  }

  #followPointer() {
    const list = this.#find(".text");
    list.addEventListener("pointerover", (event) => {
      this.#select(Array.from(list.children).indexOf(event.target));
    });
    list.addEventListener("pointerleave", () => this.#select(this.#focused()));
    const stage = this.#find(".stage");
    stage.addEventListener("pointermove", (event) => this.#select(this.#characterAt(event)));
    stage.addEventListener("click", (event) => {
      list.children[this.#characterAt(event)]?.focus({preventScroll: true});
    });
    stage.addEventListener("pointerleave", () => this.#select(this.#focused()));
  }

  /** Returns the index of the character with the highest attention under the pointer. */
  #characterAt(event) {
    const box = this.#find(".stage").getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * (this.outputs?.widths ?? 0);
    const weights = this.#characters.map((character) => attentionAt(character.attention, x));
    return weights.indexOf(Math.max(...weights));
  }

  #focused() {
    return Array.from(this.#find(".text").children).indexOf(document.activeElement);
  }

  #followKeys() {
    const list = this.#find(".text");
    list.addEventListener("focusin", (event) => {
      const options = Array.from(list.children);
      options.forEach((option) => { option.tabIndex = option === event.target ? 0 : -1; });
      this.#select(options.indexOf(event.target));
    });
    list.addEventListener("focusout", () => this.#select(-1));
    list.addEventListener("keydown", (event) => {
      const last = list.children.length - 1;
      const forward = getComputedStyle(list).direction === "rtl" ? -1 : 1;
      const target = {ArrowRight: this.#selected + forward, ArrowLeft: this.#selected - forward,
        Home: 0, End: last}[event.key];
      if (target === undefined) return;
      event.preventDefault();
      list.children[Math.min(Math.max(target, 0), last)].focus();
    });
  }
}

function characterElement({text, probability}, isFirst) {
  const element = document.createElement("span");
  element.textContent = text;
  element.className = text ? "character" : "character end";
  element.setAttribute("role", "option");
  element.setAttribute("aria-selected", "false");
  element.setAttribute("aria-label", `${text || "end of text"}, ${percent(probability)}`);
  element.tabIndex = isFirst ? 0 : -1;
  element.style.setProperty("--doubt", 1 - probability);
  return element;
}
