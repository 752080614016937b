// Image files from the user's actions, and their conversion where the model would see another image.

const METADATA_BYTES = 128 * 1024;
const EXIF = 0x45786966;  // "Exif"
const ORIENTATION = 0x0112;
// A PNG file of so many pixels with 4 bytes each takes 11 MB in base64, and servers read 16 MiB and
// 8 million pixels by default. It keeps the 32 rows that the model reads, unless an image is 2,000
// times as wide as it is high.
const MAX_PIXELS = 2e6;

/**
 * Returns the files of a drop, with those in dropped folders.
 *
 * A file or folder that the browser may not read is returned as an empty file.
 * @param {DataTransfer} transfer Data of the event.
 */
export async function droppedFiles(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return Array.from(transfer.files);
  return (await Promise.all(entries.filter(Boolean).map(filesOf))).flat();
}

/** Returns the files of a file system entry, in order of their names. */
async function filesOf(entry) {
  try {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    return (await Promise.all((await visibleEntries(entry)).map(filesOf))).flat();
  } catch {
    return [new File([], entry.name)];
  }
}

/** Returns what a folder contains except for hidden files, in order of the names. */
async function visibleEntries(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (let part; !part || part.length;) {  // browsers return at most 100 entries at a time
    part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    entries.push(...part);
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.filter(({name}) => !name.startsWith("."));
}

/**
 * Returns what to send for an image, and at which scale: the file, or an upright PNG if the image
 * is large or a camera stored it rotated.
 *
 * Browsers show JPEG files upright, and the served model ignores their orientation.
 * @param {File} file The image file.
 * @param {HTMLImageElement} image The same file, loaded.
 * @returns {Promise<{blob: Blob, scale: number}>}
 */
export async function imageToSend(file, image) {
  const {naturalWidth: width, naturalHeight: height} = image;
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
  const start = new DataView(await file.slice(0, METADATA_BYTES).arrayBuffer());
  if (scale === 1 && orientation(start) === 1) return {blob: file, scale};
  const png = await toPng(image, 0, 0, width, height, scale);
  return png ? {blob: png, scale} : {blob: file, scale: 1};
}

/**
 * Returns the orientation in the metadata of a JPEG file, 1 if there is none.
 * Source: Exif 2.32, sections 4.5 to 4.7.
 * @param {DataView} view The first bytes of the file.
 */
function orientation(view) {
  try {
    if (view.getUint16(0) !== 0xFFD8) return 1;
    for (let segment = 2; view.getUint16(segment) !== 0xFFDA;
      segment += 2 + view.getUint16(segment + 2)) {
      if (view.getUint16(segment) !== 0xFFE1 || view.getUint32(segment + 4) !== EXIF) continue;
      const tiff = segment + 10;
      const littleEndian = view.getUint16(tiff) === 0x4949;
      const directory = tiff + view.getUint32(tiff + 4, littleEndian);
      for (let n = view.getUint16(directory, littleEndian); n > 0; n -= 1) {
        const entry = directory + 12 * n - 10;
        if (view.getUint16(entry, littleEndian) === ORIENTATION) {
          return view.getUint16(entry + 8, littleEndian);
        }
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;  // the metadata end early
  }
  return 1;
}

/** Returns a region of a drawable image as a PNG file; null if it is too wide for a canvas. */
export function toPng(drawable, x, y, width, height, scale = 1) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(scale * width);
  canvas.height = Math.round(scale * height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(drawable, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}
