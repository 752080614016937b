// What the model read in an image: text, probabilities and attention, by displayed character.

const COLUMN_PIXELS = 4;  // width of a column of the attention in the network's input
const DIMMED = 0.72;  // opacity of black where there is no attention
const TINT = 0.4;  // opacity of orange where the attention is highest
const ORANGE = [255, 176, 32];

/**
 * Returns the characters as they are displayed; combining marks belong to their base character.
 * The last one has no text if it is the end of the text.
 * @param {object} outputs Outputs of the signature serving_details, or of serving_default.
 * @returns {{text: string, probability: number, attention: Float32Array}[]}
 */
export function displayedCharacters(outputs) {
  const characters = outputs.characters ?? [];
  const starts = new Set(Array.from(
    new Intl.Segmenter().segment(characters.join("")), (segment) => segment.index));
  const groups = [];
  let offset = 0;
  characters.forEach((character, n) => {
    const isEnd = character === "" && n === characters.length - 1;
    if (!groups.length || isEnd || (character !== "" && starts.has(offset))) {
      const attention = new Float32Array(outputs.attention[n].length);
      groups.push({text: "", probability: 1, attention});
    }
    const group = groups.at(-1);
    group.text += character;
    group.probability *= outputs.character_probabilities[n];
    group.attention = group.attention.map((weight, x) => weight + outputs.attention[n][x]);
    offset += character.length;
  });
  return groups;
}

/**
 * Returns the attention at a position.
 * @param {Float32Array} attention Weights of the columns.
 * @param {number} x Position in pixels of the network's input, which is interpolated.
 */
export function attentionAt(attention, x) {
  const column = Math.min(Math.max(x / COLUMN_PIXELS - 0.5, 0), attention.length - 1);
  const left = Math.floor(column);
  const right = Math.min(left + 1, attention.length - 1);
  return attention[left] + (attention[right] - attention[left]) * (column - left);
}

/**
 * Draws attention as `aocr test --visualize` does: the image is dimmed where there is none.
 * @param {HTMLCanvasElement} canvas Covers the image.
 * @param {Float32Array} attention Weights of the columns.
 * @param {number} width Width of the image in the network's input, in pixels.
 */
export function drawAttention(canvas, attention, width) {
  canvas.width = width;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, 1);
  const weights = Array.from({length: width}, (_, x) => attentionAt(attention, x + 0.5));
  const highest = Math.max(...weights) || 1;
  weights.forEach((weight, x) => pixels.data.set(overlayColor(weight / highest), 4 * x));
  context.putImageData(pixels, 0, 0);
}

/** Returns red, green, blue and alpha, 0 to 255, of black fading into orange. */
function overlayColor(level) {
  const dim = DIMMED * (1 - level);
  const tint = TINT * level;
  const alpha = dim + tint;
  return [...ORANGE.map((value) => value * tint / alpha), 255 * alpha];
}
