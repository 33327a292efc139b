// What happens, in order: ask for the job, load the runtime and the networks, measure in turns, send everything back.

import { Link } from "./link.js";
import { chooseBuild, load, open } from "./runtime.js";
import { clockStepMs, repeats, turn } from "./timing.js";
import * as view from "./view.js";

const SEND_EVERY_MS = 500;

async function main(link) {
  const job = await link.job();
  const chosen = await chooseBuild(job.threads);
  const hello = {
    kind: "hello",
    user_agent: navigator.userAgent.slice(0, 500),
    ...chosen,
    secure: self.isSecureContext,
    cores: navigator.hardwareConcurrency || 1,
    clock_step_ms: clockStepMs(),
  };
  // A page that was loaded again goes on where it stopped.
  const { times_ms: turns } = await link.send(hello);
  view.facts(job, hello);
  const networks = await prepare(link, job, chosen);
  await measure(link, job, networks, turns);
  view.bars(job, turns);
  const sent = await link.finish();
  view.done(job, turns, sent);
}

async function prepare(link, job, chosen) {
  const networks = [];
  const steps = job.files.length + 1;
  view.step("Loading the runtime", "9 MB, from your computer.", 0);
  await load(chosen.build);
  for (const [place, file] of job.files.entries()) {
    view.step(`Loading ${file.name}`, `Network ${place + 1} of ${job.files.length}.`, (place + 1) / steps);
    const network = await open(link, file, place, chosen.threads);
    for (const [output, values] of (await network.outputs()).entries()) {
      await link.send({ kind: "output", file: place, output, values });
    }
    network.repeat = await repeats(network);
    networks.push(network);
  }
  return networks;
}

async function measure(link, job, networks, turns) {
  const show = () => {
    view.step("Measuring", `Turn ${Math.min(turns.length + 1, job.runs)} of ${job.runs}. Keep this page in front.`, turns.length / job.runs);
    view.bars(job, turns);
  };
  link.pending(turns);
  show();
  let last = performance.now();
  while (turns.length < job.runs) {
    await inFront();
    turns.push(await turn(networks));
    if (performance.now() - last > SEND_EVERY_MS) {
      show();
      await link.flush();
      last = performance.now();
    }
    // The browser may paint, and a person may scroll.
    await new Promise((resolve) => setTimeout(resolve));
  }
}

// A page behind others is slowed down: what it measured would say nothing about the phone.
async function inFront() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function stayAwake() {
  const ask = () => navigator.wakeLock?.request("screen").catch(() => {});
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  await ask();
}

const link = new Link();
stayAwake();
main(link).catch(async (error) => {
  view.failed(error);
  await link.fail(error);
});
