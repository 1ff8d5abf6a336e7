// The server's requests: lowering/fewshot/demo/server.py lists them.

export class Problem extends Error {
  constructor(message, hint = null, code = null) {
    super(message);
    this.hint = hint;
    this.code = code; // the server's, such as PEF1123
  }
}

const GONE = new Problem("the server does not answer", "is `pefslc fewshot demo` still running?");

async function answer(request) {
  let response, content;
  try {
    response = await request;
    content = await response.json();
  } catch {
    throw GONE;
  }
  if (!response.ok) throw new Problem(content.error.message, content.error.hint, content.error.code);
  return content;
}

export function system() {
  return answer(fetch("api/system"));
}

function post(what, query, body = new Uint8Array(0)) {
  const headers = { "Content-Type": "application/octet-stream" };
  return answer(fetch(`api/${what}?${new URLSearchParams(query)}`, { method: "POST", headers, body }));
}

// A frame is { height, width, rgb: Uint8Array }.
const sizeOf = (frame) => ({ height: frame.height, width: frame.width });

export function recognise(frame, threshold, recent) {
  const query = sizeOf(frame);
  if (threshold !== null) query.threshold = threshold;
  if (recent.length) query.recent = recent.map((id) => id ?? "-").join(",");
  return post("recognise", query, frame.rgb);
}

export const enrol = (name, frame) => post("enrol", { name, ...sizeOf(frame) }, frame.rgb);
export const forgetShot = (name) => post("forget-shot", { name });
export const forgetClass = (name) => post("forget-class", { name });
