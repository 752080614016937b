// The dialog in which a region of an image is chosen, by pointer or by keyboard.

import {toPng} from "./images.js";

const KEY_STEP = 0.02;  // share of the image by which an arrow key moves an edge
const START = {left: 0.1, top: 0.3, right: 0.9, bottom: 0.7};
const clamp = (value) => Math.min(Math.max(value, 0), 1);

/** The dialog; it is reused for all images. */
export class CropDialog {
  #dialog;
  #stage;
  #selection;
  #drawing = document.createElement("canvas");
  #region = START;

  /** @param {HTMLDialogElement} dialog Its markup. */
  constructor(dialog) {
    this.#dialog = dialog;
    this.#stage = dialog.querySelector(".region");
    this.#selection = dialog.querySelector(".selection");
    this.#stage.prepend(this.#drawing);
    dialog.querySelector(".turn").addEventListener("click", () => this.#turn());
    this.#followPointer();
    this.#selection.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /**
   * Lets the user choose a region.
   * @param {HTMLImageElement} image The loaded image.
   * @returns {Promise<Blob | null>} The region as a PNG file; null if the dialog was canceled.
   */
  async open(image) {
    this.#draw(image, image.naturalWidth, image.naturalHeight);
    this.#select(START);
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
    this.#selection.focus();
    await new Promise((resolve) => {
      this.#dialog.addEventListener("close", resolve, {once: true});
    });
    return this.#dialog.returnValue === "read" ? this.#regionImage() : null;
  }

  #draw(drawable, width, height, turns = 0) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, turns ? {width: height, height: width} : {width, height});
    const context = canvas.getContext("2d");
    context.translate(canvas.width / 2, canvas.height / 2);
    context.rotate(turns * Math.PI / 2);
    context.drawImage(drawable, -width / 2, -height / 2);
    this.#drawing.replaceWith(canvas);
    this.#drawing = canvas;
    this.#stage.style.setProperty("--ratio", canvas.width / canvas.height);
  }

  #turn() {
    this.#draw(this.#drawing, this.#drawing.width, this.#drawing.height, 1);
    const {left, top, right, bottom} = this.#region;
    this.#select({left: 1 - bottom, top: left, right: 1 - top, bottom: right});
  }

  #regionImage() {
    const {width, height} = this.#drawing;
    const x = Math.floor(this.#region.left * width);
    const y = Math.floor(this.#region.top * height);
    return toPng(this.#drawing, x, y, Math.max(1, Math.ceil(this.#region.right * width) - x),
      Math.max(1, Math.ceil(this.#region.bottom * height) - y));
  }

  #select(region) {
    this.#region = region;
    for (const side of ["left", "top"]) this.#selection.style[side] = `${100 * region[side]}%`;
    this.#selection.style.width = `${100 * (region.right - region.left)}%`;
    this.#selection.style.height = `${100 * (region.bottom - region.top)}%`;
    const [left, top, right, bottom] = ["left", "top", "right", "bottom"].map(
      (side) => Math.round(100 * region[side]));
    this.#selection.setAttribute("aria-label",
      `Region from ${left}% to ${right}% across and ${top}% to ${bottom}% down. `
      + "Arrow keys move it, with Shift they move its right and bottom edges.");
  }

  #followPointer() {
    let start;
    this.#stage.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.#stage.setPointerCapture(event.pointerId);
      start = this.#position(event);
    });
    this.#stage.addEventListener("pointermove", (event) => {
      if (!start) return;
      const end = this.#position(event);
      this.#select({left: Math.min(start.x, end.x), top: Math.min(start.y, end.y),
        right: Math.max(start.x, end.x), bottom: Math.max(start.y, end.y)});
    });
    for (const type of ["pointerup", "pointercancel"]) {
      this.#stage.addEventListener(type, () => { start = undefined; });
    }
  }

  #position(event) {
    const box = this.#stage.getBoundingClientRect();
    return {x: clamp((event.clientX - box.left) / box.width),
      y: clamp((event.clientY - box.top) / box.height)};
  }

  #onKey(event) {
    const [dx, dy] = {ArrowLeft: [-KEY_STEP, 0], ArrowRight: [KEY_STEP, 0],
      ArrowUp: [0, -KEY_STEP], ArrowDown: [0, KEY_STEP]}[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const {left, top, right, bottom} = this.#region;
    if (event.shiftKey) {
      this.#select({left, top, right: Math.max(left + KEY_STEP, clamp(right + dx)),
        bottom: Math.max(top + KEY_STEP, clamp(bottom + dy))});
    } else {
      const x = Math.min(Math.max(dx, -left), 1 - right);
      const y = Math.min(Math.max(dy, -top), 1 - bottom);
      this.#select({left: left + x, top: top + y, right: right + x, bottom: bottom + y});
    }
  }
}
