// Timings that a browser's coarse clock can bear: each spans as many inferences as it needs.

const SHORTEST_MS = 10;
const STEPS_OF_THE_CLOCK = 50;
const WARM_UP_MS = 200;
const MOST_REPEATS = 10000;

// Smallest step that the clock makes; browsers make it coarser on purpose.
export function clockStepMs() {
  let smallest = Infinity;
  for (let sample = 0; sample < 10; sample++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    smallest = Math.min(smallest, now - start);
  }
  return smallest;
}

// Warms a network up, and says how many of its inferences one timing must span.
export async function repeats(network) {
  const start = performance.now();
  let count = 0;
  while (count < 3 || (performance.now() - start < WARM_UP_MS && count < MOST_REPEATS)) {
    await network.run();
    count++;
  }
  const oneMs = (performance.now() - start) / count;
  const spanMs = Math.max(SHORTEST_MS, STEPS_OF_THE_CLOCK * clockStepMs());
  return Math.min(MOST_REPEATS, Math.max(1, Math.ceil(spanMs / oneMs)));
}

// One timing of every network, one after the other: milliseconds of one inference each.
export async function turn(networks) {
  const times = [];
  for (const network of networks) times.push(await timeMs(network));
  return times;
}

async function timeMs(network) {
  const start = performance.now();
  for (let count = 0; count < network.repeat; count++) await network.run();
  return (performance.now() - start) / network.repeat;
}
