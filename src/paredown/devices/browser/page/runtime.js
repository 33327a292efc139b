// LiteRT.js: which build of it this browser can load, and networks that are ready to run.

import { loadAndCompile, loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";

const FILES = {
  threaded: "litert_wasm_threaded_internal.js",
  plain: "litert_wasm_internal.js",
  compat: "litert_wasm_compat_internal.js",
};
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

// {build, threads}: threads need a secure context and relaxed SIMD.
export async function chooseBuild(wanted) {
  if (!(await supports("relaxedSimd"))) return { build: "compat", threads: 1 };
  const threads = Math.min(wanted, navigator.hardwareConcurrency || 1);
  if (threads > 1 && self.crossOriginIsolated && (await supports("threads"))) return { build: "threaded", threads };
  return { build: "plain", threads: 1 };
}

async function supports(feature) {
  try {
    return await supportsFeature(feature);
  } catch {
    return false; // Without a secure context even asking can throw.
  }
}

// The file is named, not its folder: which build runs is then no guess.
export function load(build) {
  return loadLiteRt(new URL(`litert/${FILES[build]}`, document.baseURI).href);
}

// A network with its inputs in place: `run()`, and `outputs()` as the computer wants to see them.
export async function open(link, file, place, threads) {
  const model = await loadAndCompile(await link.bytes(`model/${place}`), { accelerator: "wasm", cpuOptions: { numThreads: threads } });
  const given = await Promise.all(file.inputs.map((input, index) => tensor(link, input, `input/${place}-${index}`)));
  const inputs = inOrder(model.getInputDetails(), file.inputs).map((index) => given[index]);
  return {
    async run() {
      for (const output of await model.run(inputs)) output.delete();
    },
    async outputs() {
      const made = await model.run(inputs);
      const order = inOrder(file.outputs, model.getOutputDetails());
      const values = [];
      for (const [index, output] of file.outputs.entries()) values.push(base64(every(await made[order[index]].data(), output.stride)));
      for (const output of made) output.delete();
      return values;
    },
  };
}

async function tensor(link, input, path) {
  const bytes = await link.bytes(path);
  return new Tensor(new ARRAYS[input.dtype](bytes.buffer), input.shape);
}

// For each of `wanted` the place of its name among `had`; its own place where names are not known to both.
function inOrder(wanted, had) {
  const places = Array.from(wanted, ({ name }) => had.findIndex((other) => other.name === name));
  return places.includes(-1) ? Array.from(wanted, (_, index) => index) : places;
}

function every(values, stride) {
  return stride === 1 ? values : values.filter((_, index) => index % stride === 0);
}

function base64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}
