// Calls the REST interface of the server, with paths relative to the page.

const MAX_EXCERPT = 200;  // characters

/** An error whose message is for the user. */
export class ServerError extends Error {}

/** The served model. */
export class Model {
  #path;
  #signature;

  /** @param {string} name Name of the model in requests. */
  constructor(name) {
    this.name = name;
    this.#path = `v1/models/${encodeURIComponent(name)}`;
  }

  /**
   * Returns the version that answers and the problems of other versions.
   * @returns {Promise<{version: string, problems: string[]}>}
   */
  async status() {
    const versions = (await request(this.#path)).model_version_status;
    const metadata = await request(`${this.#path}/metadata`);
    const signatures = metadata.metadata.signature_def.signature_def;
    this.#signature = "serving_details" in signatures ? "serving_details" : "serving_default";
    const problems = versions.filter((version) => version.status.error_message)
      .map((version) => `Version ${version.version}: ${version.status.error_message}`);
    return {version: metadata.model_spec.version, problems};
  }

  /**
   * Reads an image.
   * @param {Blob} image An image file.
   * @returns {Promise<object>} The outputs of the signature.
   */
  async read(image) {
    if (!this.#signature) await this.status();
    const body = {signature_name: this.#signature, inputs: {b64: await base64(image)}};
    return (await request(`${this.#path}:predict`, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
    })).outputs;
  }
}

/** Returns the JSON of a response; throws a ServerError with the text of an error response. */
async function request(path, options) {
  let response;
  try {
    response = await fetch(path, {cache: "no-store", ...options});
  } catch {
    throw new ServerError("The server does not respond.");
  }
  const text = await response.text();
  if (!response.ok) throw new ServerError(`${response.status}: ${errorText(text)}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new ServerError(`The response is not JSON: ${text.slice(0, MAX_EXCERPT)}`);
  }
}

/** Returns the error text of a response body; that of a proxy may have another format. */
function errorText(body) {
  try {
    return String(JSON.parse(body).error);
  } catch {
    return body.slice(0, MAX_EXCERPT);
  }
}

/** Returns the bytes of a file in base64. */
function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(
      new ServerError(`The browser cannot open this file: ${reader.error.message}`));
    reader.readAsDataURL(file);
  });
}
